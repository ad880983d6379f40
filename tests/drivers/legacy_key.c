/* SPDX-License-Identifier: MIT */
/*
 * The original's balance: the key is the command, so command modulo threads is
 * the seat. Commands below 256 report, and do not count, what their seat has
 * run: {ok, [{calls, N}, {casts, M}]}. All others count and answer {ok, Command};
 * 256 and 512 are the ones whose low byte is 0.
 */
#include <stdlib.h>

#include <erl_driver.h>
#include <ei.h>

#include "gen_driver.h"

typedef struct {
  long calls, casts;
} trd_state_t;

void *
init() {
  return NULL;
}

void
destroy(void *drv_state) {
  (void)drv_state;
}

void *
thread_init() {
  trd_state_t *trd = driver_alloc(sizeof(trd_state_t));
  trd->calls = trd->casts = 0;
  return trd;
}

void
thread_destroy(void *trd_state) {
  driver_free(trd_state);
}

unsigned int *
balance(int cmd, unsigned char syn, unsigned int *key) {
  (void)syn;
  *key = cmd;
  return key;
}

static void
encode_count(gd_res_t *res, const char *name, long count) {
  ei_encode_tuple_header(res->buf, &res->index, 2);
  ei_encode_atom(res->buf, &res->index, name);
  ei_encode_long(res->buf, &res->index, count);
}

static void
handle_report(gd_res_t *res, trd_state_t *trd) {
  ei_encode_list_header(res->buf, &res->index, 2);
  encode_count(res, "calls", trd->calls);
  encode_count(res, "casts", trd->casts);
  ei_encode_empty_list(res->buf, &res->index);
}

void
dispatch(gd_req_t *req, gd_res_t *res, void *drv_state, void *trd_state) {
  trd_state_t *trd = trd_state;
  (void)drv_state;
  ei_encode_tuple_header(res->buf, &res->index, 2);
  ei_encode_atom(res->buf, &res->index, "ok");
  if (req->cmd < 256) {
    handle_report(res, trd);
    return;
  }
  if (req->syn)
    trd->calls++;
  else
    trd->casts++;
  ei_encode_long(res->buf, &res->index, req->cmd);
}
