/* SPDX-License-Identifier: MIT */
/*
 * A driver for tests of parts and notes. `run` does what its params say, one thing after the
 * other, until a part is not taken; `codes` tells how each such run came to its end. With the
 * setting "ticks" a thread sends notes from open until destroy.
 */
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

#include "gen_driver.h"

#define UNCHECKED __attribute__((noinline, no_sanitize("undefined")))	/* it is meant */
#define OWN_LIMIT (1 << 20)	/* bytes of a writer of our own */

enum { RUN = 1, CODES, TAKES, CLIENT, NOTE, NOTES, BAD_PARTS, BAD_NOTES, OWN_WRITER };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;	/* guards the codes */
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int codes[100000];
static int64_t ended;

static pthread_t ticker;
static atomic_bool ticking;

/* --- run ----------------------------------------------------------------- */

UNCHECKED static void
segv(void)
{
	volatile uintptr_t nowhere = 16;

	*(volatile int *)nowhere = 1;
}

static void
wait_at_gate(void)
{
	int fd = open(gd_config("gate"), O_RDONLY);
	char byte;

	if (fd < 0 || read(fd, &byte, 1) < 0)
		abort();
	close(fd);
}

static void
spin_until_cancelled(void)
{
	while (!gd_cancelled())
		sched_yield();
}

/* `count` parts: numbers, or with a size binaries of so many bytes. */
static int
parts(gd_res_t *res, int64_t count, int64_t size)
{
	void *data;
	int code = 0;

	for (int64_t i = 0; i < count && code == 0; i++) {
		if (size > 0)
			gd_put_space(&res->out, (size_t)size, &data);
		else
			gd_put_i64(&res->out, i);
		code = gd_part(&res->out);
	}
	return code;
}

/* {parts, Count} or {parts, Count, Size}; {reply, Term}; segv, hang, gate, until_cancelled. */
static int
step(gd_in *in, gd_res_t *res)
{
	int64_t count, size = 0;
	const void *term;
	size_t arity, len;

	if (gd_get_atom_is(in, "segv") == 0)
		segv();
	else if (gd_get_atom_is(in, "hang") == 0)
		for (;;)
			pause();
	else if (gd_get_atom_is(in, "gate") == 0)
		wait_at_gate();
	else if (gd_get_atom_is(in, "until_cancelled") == 0)
		spin_until_cancelled();
	else if (gd_get_tuple(in, &arity) != 0)
		abort();
	else if (gd_get_atom_is(in, "reply") == 0 && gd_get_raw(in, &term, &len) == 0)
		gd_put_raw(&res->out, term, len);
	else if (gd_get_atom_is(in, "parts") == 0 && gd_get_i64(in, &count) == 0
	    && (arity == 2 || gd_get_i64(in, &size) == 0))
		return parts(res, count, size);
	else
		abort();
	return 0;
}

static void
run(gd_req_t *req, gd_res_t *res)
{
	int code = 0;
	size_t steps;

	if (gd_get_list(&req->in, &steps) != 0)
		abort();
	while (steps-- > 0 && code == 0)
		code = step(&req->in, res);
	if (code == GD_EGONE && gd_part(&res->out) != GD_EGONE)
		abort();	/* once gone, always gone */
	pthread_mutex_lock(&lock);
	codes[ended++] = code;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
}

/* N -> the first N codes, once there are so many. */
static void
give_codes(gd_req_t *req, gd_res_t *res)
{
	int64_t n = 1;

	gd_get_i64(&req->in, &n);
	pthread_mutex_lock(&lock);
	while (ended < n)
		pthread_cond_wait(&changed, &lock);
	gd_open_list(&res->out);
	for (int64_t i = 0; i < n; i++)
		gd_put_i64(&res->out, codes[i]);
	gd_close_list(&res->out);
	pthread_mutex_unlock(&lock);
}

/* --- what is no part, and what is no note ---------------------------------- */

/* What gd_part says to nothing, a term that is cut off, and one that is too large; the reply is whole. */
static void
bad_parts(gd_res_t *res)
{
	int none = gd_part(&res->out), cut, large;
	void *data;

	gd_put_tuple(&res->out, 2);
	gd_put_i64(&res->out, 1);
	cut = gd_part(&res->out);
	gd_out_reset(&res->out);
	gd_put_space(&res->out, OWN_LIMIT, &data);
	large = gd_part(&res->out);
	gd_out_reset(&res->out);
	gd_put_tuple(&res->out, 3);
	gd_put_i64(&res->out, none);
	gd_put_i64(&res->out, cut);
	gd_put_i64(&res->out, large);
}

static void
bad_notes(gd_res_t *res)
{
	gd_out note;
	int none, cut, after;

	gd_out_init(&note, OWN_LIMIT);
	none = gd_note(0, &note);
	gd_put_tuple(&note, 2);
	cut = gd_note(0, &note);
	gd_put_atom(&note, "whole");
	after = gd_note(0, &note);
	gd_out_free(&note);
	gd_put_tuple(&res->out, 3);
	gd_put_i64(&res->out, none);
	gd_put_i64(&res->out, cut);
	gd_put_i64(&res->out, after);
}

/* Two parts out of a writer of our own, while the reply is half written. */
static void
own_writer(gd_res_t *res)
{
	gd_out own;

	gd_put_tuple(&res->out, 2);
	gd_put_atom(&res->out, "ok");
	gd_out_init(&own, OWN_LIMIT);
	for (int i = 0; i < 2; i++) {
		gd_put_string(&own, "part", 4);
		gd_part(&own);
	}
	gd_out_free(&own);
	gd_put_i64(&res->out, 2);
}

/* --- notes --------------------------------------------------------------- */

/* {Client, Count, Term}: how often somebody was given it. */
static void
notes(gd_req_t *req, gd_res_t *res)
{
	uint64_t client, count;
	int64_t given = 0;
	const void *term;
	size_t arity, len;
	gd_out note;

	if (gd_get_tuple(&req->in, &arity) != 0 || arity != 3 || gd_get_u64(&req->in, &client) != 0
	    || gd_get_u64(&req->in, &count) != 0 || gd_get_raw(&req->in, &term, &len) != 0)
		abort();
	gd_out_init(&note, OWN_LIMIT);
	while (count-- > 0) {
		gd_put_raw(&note, term, len);
		given += gd_note(client, &note);
	}
	gd_out_free(&note);
	gd_put_i64(&res->out, given);
}

/* Params, to the client that sent them. */
static void
note_back(gd_req_t *req, gd_res_t *res)
{
	const void *term;
	size_t len;
	int given;

	if (gd_get_raw(&req->in, &term, &len) != 0)
		abort();
	gd_put_raw(&res->out, term, len);
	given = gd_note(gd_client(), &res->out);
	gd_put_i64(&res->out, given);
}

static void *
tick(void *unused)
{
	gd_out note;

	gd_out_init(&note, OWN_LIMIT);
	for (int64_t n = 0; ticking; n++) {
		gd_put_tuple(&note, 2);
		gd_put_atom(&note, "tick");
		gd_put_i64(&note, n);
		if (gd_note(0, &note) == 0)
			sched_yield();
	}
	gd_out_free(&note);
	return unused;
}

static int
driver_open(void **drv_state, char *why, size_t room)
{
	(void)drv_state, (void)why, (void)room;
	if (gd_config("ticks") == NULL)
		return 0;
	ticking = true;
	return pthread_create(&ticker, NULL, tick, NULL) == 0 ? 0 : -1;
}

static void
destroy(void *drv_state)
{
	(void)drv_state;
	if (atomic_exchange(&ticking, false))
		pthread_join(ticker, NULL);
}

static void
dispatch(gd_req_t *req, gd_res_t *res, void *drv_state, void *trd_state)
{
	(void)drv_state, (void)trd_state;
	switch (req->cmd) {
	case RUN: run(req, res); break;
	case CODES: give_codes(req, res); break;
	case TAKES: gd_put_bool(&res->out, gd_takes_parts()); break;
	case CLIENT: gd_put_u64(&res->out, gd_client()); break;
	case NOTE: note_back(req, res); break;
	case NOTES: notes(req, res); break;
	case BAD_PARTS: bad_parts(res); break;
	case BAD_NOTES: bad_notes(res); break;
	case OWN_WRITER: own_writer(res); break;
	default: error_set(res, "command");
	}
}

static const gd_command commands[] = {
	{ "run", RUN }, { "codes", CODES }, { "takes", TAKES }, { "client", CLIENT }, { "note", NOTE },
	{ "notes", NOTES }, { "bad_parts", BAD_PARTS }, { "bad_notes", BAD_NOTES }, { "own_writer", OWN_WRITER },
	{ NULL, 0 },
};
static const char *const atoms[] = { "ok", "tick", "command", NULL };

GD_DRIVER(.open = driver_open, .dispatch = dispatch, .destroy = destroy, .commands = commands, .atoms = atoms)
