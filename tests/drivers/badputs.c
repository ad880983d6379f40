/* SPDX-License-Identifier: MIT */
/*
 * Replies that are no term. All commands but `good`, `error_wins` and
 * `error_badname` must come out as {failed, bad_reply}.
 */
#include <math.h>
#include <string.h>

#include "gen_driver.h"

static void
short_tuple(gd_out *out)
{
	gd_put_tuple(out, 2);
	gd_put_atom(out, "ok");
}

static void
two_terms(gd_out *out)
{
	gd_put_atom(out, "ok");
	gd_put_atom(out, "ok");
}

static void
open_list(gd_out *out)
{
	gd_open_list(out);
	gd_put_i64(out, 1);
}

/* The first error sticks: what follows is a fine term and does not help. */
static void
after_error(gd_out *out)
{
	gd_put_f64(out, NAN);
	gd_put_atom(out, "ok");
}

static void
too_large(gd_out *out)
{
	static char junk[1 << 20];

	gd_open_list(out);
	while (gd_put_binary(out, junk, sizeof(junk)) == 0)
		;
	gd_close_list(out);
}

static void
nan_float(gd_out *out)
{
	gd_put_f64(out, NAN);
}

static void
infinite_float(gd_out *out)
{
	gd_put_f64(out, -INFINITY);
}

static void
long_atom(gd_out *out)
{
	char name[256];

	memset(name, 'a', sizeof(name));
	gd_put_atom_n(out, name, sizeof(name));
}

static void
latin_atom(gd_out *out)
{
	gd_put_atom(out, "caf\xe9");
}

static void
too_deep(gd_out *out)
{
	for (int i = 0; i <= GD_OPEN_LISTS; i++)
		gd_open_list(out);
	for (int i = 0; i <= GD_OPEN_LISTS; i++)
		gd_close_list(out);
}

static void
no_tail(gd_out *out)
{
	gd_put_list(out, 1);
	gd_put_i64(out, 1);
}

static void
close_only(gd_out *out)
{
	gd_close_list(out);
}

/* The open list ends while a tuple in it still lacks an element. */
static void
short_tuple_in_list(gd_out *out)
{
	gd_open_list(out);
	gd_put_tuple(out, 2);
	gd_put_i64(out, 1);
	gd_close_list(out);
}

static void
odd_map(gd_out *out)
{
	gd_put_map(out, 1);
	gd_put_i64(out, 1);
}

static void
good(gd_out *out)
{
	gd_put_atom(out, "good");
}

/* Command N is the N-th. */
static void (*const replies[])(gd_out *out) = {
	short_tuple, two_terms, open_list, after_error, too_large, nan_float, infinite_float, long_atom,
	latin_atom, too_deep, no_tail, close_only, short_tuple_in_list, odd_map, good,
};

enum { ERROR_WINS = 16, ERROR_BADNAME, ERROR_EMPTY };

static void
dispatch(gd_req_t *req, gd_res_t *res, void *drv_state, void *trd_state)
{
	(void)drv_state, (void)trd_state;
	if (req->cmd >= 1 && (size_t)req->cmd <= sizeof(replies) / sizeof(replies[0])) {
		replies[req->cmd - 1](&res->out);
		return;
	}
	two_terms(&res->out);
	switch (req->cmd) {
	case ERROR_WINS: error_set(res, "mine"); break;		/* {error, mine} */
	case ERROR_BADNAME: error_set(res, "caf\xe9"); break;	/* {error, badatom} */
	case ERROR_EMPTY: error_set(res, ""); break;		/* no error: bad_reply stays */
	default: error_set(res, "command");
	}
}

static const gd_command commands[] = {
	{ "short_tuple", 1 }, { "two_terms", 2 }, { "open_list", 3 }, { "after_error", 4 }, { "too_large", 5 },
	{ "nan", 6 }, { "infinite", 7 }, { "long_atom", 8 }, { "latin_atom", 9 }, { "too_deep", 10 },
	{ "no_tail", 11 }, { "close_only", 12 }, { "short_tuple_in_list", 13 }, { "odd_map", 14 }, { "good", 15 },
	{ "error_wins", ERROR_WINS }, { "error_badname", ERROR_BADNAME }, { "error_empty", ERROR_EMPTY }, { NULL, 0 },
};

GD_DRIVER(.dispatch = dispatch, .commands = commands)
