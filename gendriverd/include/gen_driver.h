/* SPDX-License-Identifier: MIT */
/*
 * gen_driver.h: what a driver is. The only header a driver includes.
 *
 * A driver is a shared object that the host (one process per instance) loads
 * and calls from its worker threads. Six callbacks, as in the generic linked-in
 * driver by Martin Donath (2012-2014), which this interface keeps:
 *
 *   callback        thread          how often                  may block  NULL
 *   open, init      host's main     once, before ready         yes        allowed: a state
 *   thread_init     the worker      once a seat, at its first  yes        allowed: a state
 *                                   request; and once more when
 *                                   its thread was written off
 *   balance         the loop        every request              never      round robin
 *   dispatch        the worker, or  every request, several     yes        -
 *                   the loop        at once
 *   thread_destroy  the worker      once a seat that began,    yes        -
 *                                   as its worker leaves
 *   destroy         host's main     once, after those          yes        -
 *
 * balance: on entry *key is the caller's own key, or a number of the connection
 * when it gave none. Returned pointer: seat *key modulo threads. NULL: the
 * caller's own key if it gave one, else round robin. Requests with one key, on
 * one connection, run in order on one seat.
 *
 * drv_state is shared by all workers: guard it. trd_state belongs to a seat,
 * and a seat is held by one thread at a time; but a thread that was written off
 * because it hung (on_hang = "abandon") keeps its own, beside the next one's.
 *
 * Requests without a key whose command was short lately (setting `short`) are run by
 * the loop's thread, in the seat of a worker that has nothing to do and has begun. So
 * dispatch, and thread_destroy, may be called for one seat by several threads, one after
 * another. A driver that cannot have that (its library keeps something of a thread's
 * own) says .flags = GD_THREAD_BOUND: then each seat has one thread for ever, unless it is
 * written off. Drivers written for the original are taken for such. A
 * crash in any callback ends this host and no other process; the daemon starts a
 * new one.
 *
 * A driver written for the original defines the six functions and nothing else.
 * It includes erl_driver.h and ei.h, links -lei as it always did, and takes
 * params and reply as bytes: req->buf (version byte first, req->index behind
 * it) and res->buf (64 KiB: more than res->len needs driver_realloc).
 *
 * A new driver names its callbacks in GD_DRIVER(...) and uses gd_term.h:
 *
 *	static void
 *	dispatch(gd_req_t *req, gd_res_t *res, void *drv, void *trd)
 *	{
 *		int64_t n;
 *		(void)drv, (void)trd;
 *		if (gd_get_i64(&req->in, &n) != 0) {
 *			error_set(res, "badarg");
 *			return;
 *		}
 *		gd_put_tuple(&res->out, 2);	// {ok, N + 1}
 *		gd_put_atom(&res->out, "ok");
 *		gd_put_i64(&res->out, n + 1);
 *	}
 *
 *	static const gd_command commands[] = { { "next", 1 }, { NULL, 0 } };
 *	GD_DRIVER(.dispatch = dispatch, .commands = commands)
 *
 * What a caller gets: what was put; `ok` when nothing was put; {error, E} when
 * error_set(res, "E") was called, whatever was put. A cast's reply is discarded.
 */
#ifndef GEN_DRIVER_H
#define GEN_DRIVER_H

#include <stddef.h>
#include <stdint.h>

#include "gd_term.h"

#ifdef __cplusplus
extern "C" {
#endif

#define GD_ABI_VERSION 1

/* A request, as dispatch sees it. Lives until dispatch returns. */
typedef struct gd_req_t {
	char *buf;		/* params: version byte (131), then the term */
	size_t len;		/* bytes in buf */
	int index;		/* the original's read offset: 1 at first */
	int cmd;		/* the command */
	unsigned char syn;	/* 1: a call, 0: a cast */
	/* Below: new drivers. A request without params carries []. */
	gd_in in;		/* the params, before their first byte */
	uint64_t id;		/* the host's number for this request, as in logs */
	unsigned seat;		/* 0 .. threads-1 */
} gd_req_t;

/* The answer. The host makes it and frees it. */
typedef struct gd_res_t {
	char *buf;		/* the original's reply buffer; version byte first */
	size_t len;		/* its size */
	int index;		/* the original's write offset: 1 at first */
	char error[64];		/* set by error_set */
	gd_out out;		/* new drivers: put the reply here */
} gd_res_t;

/* Answer {error, Error} instead of anything put. UTF-8; longer than 63 bytes: cut. */
void error_set(gd_res_t *res, const char *error);
/* 1 after error_set, else 0. */
int error_occurred(gd_res_t *res);

/* This instance's setting: [instances.NAME.settings] key = .. as text; a key in
 * a table is "table.key", an array's element "key.0". NULL when not set. Any
 * thread, any time from init on; the text lives as long as the process. */
const char *gd_config(const char *key);
/* The same as a whole number; `missing` when not set or not a number. */
long gd_config_int(const char *key, long missing);

/* A log line of this instance; carries worker, command and request id when
 * called inside dispatch. Never blocks: when the daemon is behind, lines are
 * dropped and counted. At most 1,000 bytes of text. Any thread. */
enum gd_level { GD_DEBUG, GD_INFO, GD_WARNING, GD_ERROR };
void gd_log(enum gd_level level, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* Inside dispatch only. */
/* 1: the caller has cancelled, its connection is closed, or this thread was written
 * off. A TCP client that only stops talking may still listen: it counts as there until
 * something sent to it is refused. */
int gd_cancelled(void);
int64_t gd_deadline(void);	/* nanoseconds of CLOCK_MONOTONIC; 0: none */

/* Parts: pieces of a reply, sent ahead of it, to a caller that asked for them. */
enum {			/* beside those of gd_term.h */
	GD_ENOPARTS = -6,	/* nobody asked for parts */
	GD_EGONE = -7		/* nobody takes any more of them: stop */
};
/* 1: inside dispatch of a call whose caller takes parts. */
int gd_takes_parts(void);
/* Inside dispatch only. Send the one term in `part`, which is &res->out or a writer of your
 * own, and empty it for the next; what is in res->out at the end is the reply, nothing: `ok`.
 *
 * Waits while the caller has not asked for more, or has not read what it was sent (limits:
 * unsent_bytes); hold no lock meanwhile. This time is not counted by max_run.
 *
 * Else a negative code, and nothing was sent and nothing has changed. GD_ENOPARTS: a cast, or a
 * call that takes no parts; go on and reply as a whole. GD_EGONE: the caller has cancelled, or its
 * connection ends, or it took nothing for so long as unsent_time allows; from now on always. Stop:
 * whatever is put then, a caller that still listens gets {failed, interrupted}, or `timeout`, so that
 * it cannot take a beginning for the whole. Others: the writer's error, GD_ETYPE where it is not
 * one whole term, GD_ELIMIT where that is larger than a reply may be. */
int gd_part(gd_out *part);

/* Notes: terms for clients that asked for them, at any time. A note is lost on a client that is
 * not connected, or has not read what it was sent. */
/* Inside dispatch: a number for the connection that this request came by. Never 0; none
 * has it again while this process lives. */
uint64_t gd_client(void);
/* Send the one term in `note` to this client, or with 0 to all of this host that asked for notes.
 * How many will have it, which may be none; or negative: the writer's error, as of gd_part. `note`
 * is empty afterwards, in any case. Any thread, from init on until destroy returns; never waits for
 * a client. */
int gd_note(uint64_t client, gd_out *note);

/* A command with a name: callers may say it instead of the number. */
typedef struct gd_command {
	const char *name;	/* NULL ends the table */
	int cmd;
} gd_command;

/* What a driver knows of how long a command takes: the host need not find out. */
enum gd_lengths { GD_LENGTHS_END, GD_SHORT, GD_LONG };	/* microseconds at most; for the workers */
typedef struct gd_length {
	int cmd;
	enum gd_lengths is;
} gd_length;

#define GD_THREAD_BOUND 1u	/* flags: all dispatches of a seat are to be on one thread */

typedef struct gd_driver {
	uint32_t abi;		/* GD_ABI_VERSION, by GD_DRIVER */
	uint32_t size;		/* sizeof(gd_driver), by GD_DRIVER */
	void *(*init)(void);
	void (*destroy)(void *drv_state);
	void *(*thread_init)(void);
	void (*thread_destroy)(void *trd_state);
	unsigned int *(*balance)(int cmd, unsigned char syn, unsigned int *key);
	void (*dispatch)(gd_req_t *req, gd_res_t *res, void *drv_state,
	    void *trd_state);			/* the only one that must be */
	/* init that can refuse: 0 and *drv_state, or -1 and a sentence in
	 * `why` (room bytes). A refusal is final: the instance is FATAL. */
	int (*open)(void **drv_state, char *why, size_t room);
	const gd_command *commands;	/* may be NULL */
	const char *const *atoms;	/* atoms its replies hold; NULL-terminated */
	unsigned flags;			/* GD_THREAD_BOUND, or 0 */
	const gd_length *lengths;	/* may be NULL; GD_LENGTHS_END ends it */
} gd_driver;

#define GD_EXPORT __attribute__((visibility("default")))

#define GD_DRIVER(...)							\
	extern GD_EXPORT const gd_driver gd_driver_table;		\
	const gd_driver gd_driver_table = {				\
		.abi = GD_ABI_VERSION, .size = sizeof(gd_driver),	\
		__VA_ARGS__						\
	};

/* The original's six callbacks. A driver written for it is compiled with
 * -D DRIVER_NAME=name, as it always was; all six must be defined. */
#ifdef DRIVER_NAME
void *init(void);
void destroy(void *drv_state);
void *thread_init(void);
void thread_destroy(void *trd_state);
unsigned int *balance(int cmd, unsigned char syn, unsigned int *key);
void dispatch(gd_req_t *req, gd_res_t *res, void *drv_state, void *trd_state);
#endif

#define GD_ERR_MEMORY "memory"
#define GD_ERR_DECODE "decode"

#ifdef __cplusplus
}
#endif
#endif
