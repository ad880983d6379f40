/* SPDX-License-Identifier: MIT */
/*
 * A driver as it was written for the original: six callbacks, erl_driver.h,
 * ei_encode_* without a look at the buffer's size. Its commands 6, 7 and 9-11
 * do what such drivers did wrong. Compile with -D DRIVER_NAME=legacy -lei.
 */
#include <stdlib.h>
#include <string.h>

#include <erl_driver.h>
#include <ei.h>

#include "gen_driver.h"

#define CMD_SUM            1
#define CMD_PING           2
#define CMD_STATS          3
#define CMD_QUESTION       4	/* {question, Text} -> {answer, "Plastic!"} */
#define CMD_BIGRESULT      5	/* N -> {ok, [0, 1000, .. N numbers]}, by driver_realloc */
#define CMD_OVERFLOW       6	/* {ok, 40 KB}, unchecked */
#define CMD_OVERFLOW_HUGE  7	/* {ok, 1 MB}, unchecked */
#define CMD_LONGERROR      8	/* error_set with 300 characters */
#define CMD_PARTIAL        9	/* reads a tuple's header, not its elements */
#define CMD_IGNORE        10	/* {ok, ignored}, params unread */
#define CMD_BADREPLY      11	/* a tuple of 2 with 1 element */
#define CMD_BLOCK         12	/* {ok, 40 KB}, once CMD_RELEASE was called */
#define CMD_RELEASE       13

typedef struct {
  ErlDrvMutex *lock;
  ErlDrvCond *changed;
  int released;
  long count;
} drv_state_t;

typedef struct {
  long count;
} trd_state_t;

static char junk[1 << 20];

void *
init() {
  drv_state_t *drv = driver_alloc(sizeof(drv_state_t));
  drv->lock = erl_drv_mutex_create("legacy");
  drv->changed = erl_drv_cond_create("legacy");
  drv->released = 0;
  drv->count = 0;
  return drv;
}

void
destroy(void *drv_state) {
  drv_state_t *drv = drv_state;
  erl_drv_cond_destroy(drv->changed);
  erl_drv_mutex_destroy(drv->lock);
  driver_free(drv);
}

void *
thread_init() {
  trd_state_t *trd = driver_alloc(sizeof(trd_state_t));
  trd->count = 0;
  return trd;
}

void
thread_destroy(void *trd_state) {
  driver_free(trd_state);
}

unsigned int *
balance(int cmd, unsigned char syn, unsigned int *key) {
  (void)cmd, (void)syn, (void)key;
  return NULL;
}

/* A list of small numbers arrives as a string: unsigned, or 200 would be -56. */
static double
sum_string(gd_req_t *req, int size) {
  unsigned char *text = driver_alloc(size + 1);
  double sum = 0;
  ei_decode_string(req->buf, &req->index, (char *)text);
  for (int i = 0; i < size; i++)
    sum += text[i];
  driver_free(text);
  return sum;
}

static double
sum_list(gd_req_t *req, gd_res_t *res) {
  double sum = 0, real;
  long whole;
  int size, type, bytes;
  ei_decode_list_header(req->buf, &req->index, &size);
  for (int i = 0; i < size; i++) {
    ei_get_type(req->buf, &req->index, &type, &bytes);
    if (type == ERL_FLOAT_EXT || type == NEW_FLOAT_EXT) {
      ei_decode_double(req->buf, &req->index, &real);
      sum += real;
    } else if (ei_decode_long(req->buf, &req->index, &whole) == 0) {
      sum += whole;
    } else {
      error_set(res, "type");
      return 0;
    }
  }
  if (size > 0)
    ei_skip_term(req->buf, &req->index);
  return sum;
}

static void
handle_sum(gd_req_t *req, gd_res_t *res) {
  double sum;
  int type, size;
  ei_get_type(req->buf, &req->index, &type, &size);
  if (type == ERL_STRING_EXT) {
    sum = sum_string(req, size);
  } else if (type == ERL_LIST_EXT || type == ERL_NIL_EXT) {
    sum = sum_list(req, res);
  } else {
    error_set(res, "type");
    return;
  }
  if (error_occurred(res))
    return;
  ei_encode_tuple_header(res->buf, &res->index, 2);
  ei_encode_atom(res->buf, &res->index, "ok");
  ei_encode_double(res->buf, &res->index, sum);
}

static void
encode_count(gd_res_t *res, const char *name, long count) {
  ei_encode_tuple_header(res->buf, &res->index, 2);
  ei_encode_atom(res->buf, &res->index, name);
  ei_encode_long(res->buf, &res->index, count);
}

static void
handle_stats(gd_res_t *res, long driver, long thread) {
  ei_encode_tuple_header(res->buf, &res->index, 2);
  ei_encode_atom(res->buf, &res->index, "ok");
  ei_encode_list_header(res->buf, &res->index, 2);
  encode_count(res, "driver", driver);
  encode_count(res, "thread", thread);
  ei_encode_empty_list(res->buf, &res->index);
}

static void
handle_question(gd_req_t *req, gd_res_t *res) {
  char name[MAXATOMLEN], *question;
  int arity, type, size;
  if (ei_decode_tuple_header(req->buf, &req->index, &arity) || arity != 2 ||
      ei_decode_atom(req->buf, &req->index, name) || strcmp(name, "question") ||
      ei_get_type(req->buf, &req->index, &type, &size)) {
    error_set(res, "badtype");
    return;
  }
  question = driver_alloc(size + 1);
  if (ei_decode_string(req->buf, &req->index, question))
    error_set(res, "badtype");
  driver_free(question);
  ei_encode_tuple_header(res->buf, &res->index, 2);
  ei_encode_atom(res->buf, &res->index, "answer");
  ei_encode_string(res->buf, &res->index, "Plastic!\0");
}

/* Before each write: is there still room? If not, some more bytes. */
static void
make_room(gd_res_t *res) {
  if ((size_t)res->index + 16 < res->len)
    return;
  res->len *= 2;
  res->buf = driver_realloc(res->buf, res->len);
}

static void
handle_bigresult(gd_req_t *req, gd_res_t *res) {
  long length;
  if (ei_decode_long(req->buf, &req->index, &length) || length < 1) {
    error_set(res, "badtype");
    return;
  }
  ei_encode_tuple_header(res->buf, &res->index, 2);
  ei_encode_atom(res->buf, &res->index, "ok");
  ei_encode_list_header(res->buf, &res->index, length);
  for (long i = 0; i < length; i++) {
    make_room(res);
    ei_encode_long(res->buf, &res->index, i * 1000);
  }
  make_room(res);
  ei_encode_empty_list(res->buf, &res->index);
}

static void
handle_overflow(gd_res_t *res, int size) {
  ei_encode_tuple_header(res->buf, &res->index, 2);
  ei_encode_atom(res->buf, &res->index, "ok");
  ei_encode_binary(res->buf, &res->index, junk, size);
}

static void
handle_longerror(gd_res_t *res) {
  char text[301];
  memset(text, 'e', 300);
  text[300] = '\0';
  error_set(res, text);
}

static void
handle_partial(gd_req_t *req, gd_res_t *res) {
  int arity;
  ei_decode_tuple_header(req->buf, &req->index, &arity);
  ei_encode_atom(res->buf, &res->index, "partial");
}

static void
handle_ignore(gd_res_t *res) {
  ei_encode_tuple_header(res->buf, &res->index, 2);
  ei_encode_atom(res->buf, &res->index, "ok");
  ei_encode_atom(res->buf, &res->index, "ignored");
}

static void
handle_badreply(gd_res_t *res) {
  ei_encode_tuple_header(res->buf, &res->index, 2);
  ei_encode_atom(res->buf, &res->index, "ok");
}

static void
handle_block(drv_state_t *drv) {
  erl_drv_mutex_lock(drv->lock);
  while (!drv->released)
    erl_drv_cond_wait(drv->changed, drv->lock);
  erl_drv_mutex_unlock(drv->lock);
}

static void
handle_release(drv_state_t *drv) {
  erl_drv_mutex_lock(drv->lock);
  drv->released = 1;
  erl_drv_cond_broadcast(drv->changed);
  erl_drv_mutex_unlock(drv->lock);
}

void
dispatch(gd_req_t *req, gd_res_t *res, void *drv_state, void *trd_state) {
  drv_state_t *drv = drv_state;
  trd_state_t *trd = trd_state;
  long driver, thread = trd->count++;
  erl_drv_mutex_lock(drv->lock);
  driver = drv->count++;
  erl_drv_mutex_unlock(drv->lock);
  switch (req->cmd) {
    case CMD_SUM: handle_sum(req, res); break;
    case CMD_PING: break;
    case CMD_STATS: handle_stats(res, driver, thread); break;
    case CMD_QUESTION: handle_question(req, res); break;
    case CMD_BIGRESULT: handle_bigresult(req, res); break;
    case CMD_OVERFLOW: handle_overflow(res, 40 * 1024); break;
    case CMD_OVERFLOW_HUGE: handle_overflow(res, sizeof(junk)); break;
    case CMD_LONGERROR: handle_longerror(res); break;
    case CMD_PARTIAL: handle_partial(req, res); break;
    case CMD_IGNORE: handle_ignore(res); break;
    case CMD_BADREPLY: handle_badreply(res); break;
    case CMD_BLOCK: handle_block(drv); handle_overflow(res, 40 * 1024); break;
    case CMD_RELEASE: handle_release(drv); break;
    default: error_set(res, "command");
  }
}
