/* SPDX-License-Identifier: MIT */
/* The work of work.h as a driver of gendriverd. */
#include "gen_driver.h"
#include "work.h"

#ifndef LENGTHS
#define LENGTHS NULL	/* the host finds out */
#endif

static atomic_llong sums;

static void
put_ok(gd_res_t *res, int64_t value)
{
	gd_put_tuple(&res->out, 2);
	gd_put_atom(&res->out, "ok");
	gd_put_i64(&res->out, value);
}

static void
sum(gd_req_t *req, gd_res_t *res)
{
	int64_t total = 0, number;
	size_t length;

	if (gd_get_list(&req->in, &length) != 0)
		goto bad;
	while (length-- > 0) {
		if (gd_get_i64(&req->in, &number) != 0)
			goto bad;
		total += number;
	}
	if (gd_get_end(&req->in) != 0)
		goto bad;
	atomic_fetch_add_explicit(&sums, 1, memory_order_relaxed);
	put_ok(res, total);
	return;
bad:
	error_set(res, "badarg");
}

static void
echo(gd_req_t *req, gd_res_t *res)
{
	const void *term;
	size_t size;

	if (gd_get_raw(&req->in, &term, &size) != 0) {
		error_set(res, GD_ERR_DECODE);
		return;
	}
	gd_put_tuple(&res->out, 2);
	gd_put_atom(&res->out, "ok");
	gd_put_raw(&res->out, term, size);
}

static void
spin(gd_req_t *req, gd_res_t *res)
{
	int64_t microseconds;

	if (gd_get_i64(&req->in, &microseconds) != 0) {
		error_set(res, "badarg");
		return;
	}
	work_spin(microseconds);
	put_ok(res, microseconds);
}

static int
get_tuple_of(gd_in *in, size_t wanted, int64_t *numbers)
{
	size_t arity;

	if (gd_get_tuple(in, &arity) != 0 || arity != wanted)
		return -1;
	for (size_t i = 0; i < wanted; i++)
		if (gd_get_i64(in, &numbers[i]) != 0)
			return -1;
	return 0;
}

static void
mixed(gd_req_t *req, gd_res_t *res)
{
	int64_t of[3];

	if (get_tuple_of(&req->in, 3, of) != 0)
		error_set(res, "badarg");
	else
		put_ok(res, work_mixed(of[0], of[1], of[2]));
}

static void
parts(gd_req_t *req, gd_res_t *res)
{
	int64_t of[2];
	void *space;

	if (get_tuple_of(&req->in, 2, of) != 0) {
		error_set(res, "badarg");
		return;
	}
	for (int64_t i = 0; i < of[1]; i++)
		if (gd_put_space(&res->out, (size_t)of[0], &space) != 0 || gd_part(&res->out) != 0)
			return;
}

static void
dispatch(gd_req_t *req, gd_res_t *res, void *drv_state, void *trd_state)
{
	(void)drv_state, (void)trd_state;
	switch (req->cmd) {
	case SUM: sum(req, res); break;
	case ECHO: echo(req, res); break;
	case SPIN: spin(req, res); break;
	case MIXED: mixed(req, res); break;
	case COUNT: put_ok(res, atomic_load(&sums)); break;
	case PARTS: parts(req, res); break;
	default: error_set(res, "command");
	}
}

static const gd_command commands[] = {
	{ "sum", SUM }, { "echo", ECHO }, { "spin", SPIN }, { "mixed", MIXED }, { "count", COUNT }, { "parts", PARTS }, { NULL, 0 },
};

GD_DRIVER(.dispatch = dispatch, .commands = commands, .lengths = LENGTHS)
