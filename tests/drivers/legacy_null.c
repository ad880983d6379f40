/* SPDX-License-Identifier: MIT */
/* The least driver of the original: no states, no commands. Every request is answered {error, command}. */
#include <stdlib.h>

#include <erl_driver.h>
#include <ei.h>

#include "gen_driver.h"

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
  return NULL;
}

void
thread_destroy(void *trd_state) {
  (void)trd_state;
}

unsigned int *
balance(int cmd, unsigned char syn, unsigned int *key) {
  (void)cmd, (void)syn, (void)key;
  return NULL;
}

void
dispatch(gd_req_t *req, gd_res_t *res, void *drv_state, void *trd_state) {
  (void)drv_state, (void)trd_state;
  switch (req->cmd) {
    default:
      error_set(res, "command");
  }
}
