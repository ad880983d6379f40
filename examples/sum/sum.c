/* SPDX-License-Identifier: MIT */
/*
 * sum: the example of the generic linked-in driver by Martin Donath, written
 * anew for this interface, with the same commands and the same results. Shows
 * state: one counter for the driver, which all workers share and which is
 * therefore atomic, and one a seat, which only the seat's holder touches.
 */
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "gen_driver.h"

enum { SUM = 1, PING = 2, STATS = 3 };

struct driver {
	atomic_long count;	/* requests, all workers */
};

struct seat {
	long count;		/* requests, this seat */
};

/* Refuses when there is no memory: better now than at the first request. */
static int
driver_open(void **drv_state, char *why, size_t room)
{
	if ((*drv_state = calloc(1, sizeof(struct driver))) != NULL)
		return 0;
	snprintf(why, room, "out of memory");
	return -1;
}

static void *
seat_new(void)
{
	return calloc(1, sizeof(struct seat));
}

/* Adds up a list of integers and floats: 0, or a get's negative code. */
static int
add_up(gd_in *in, size_t length, double *sum)
{
	double number;
	int code;

	*sum = 0;
	for (; length > 0; length--) {
		if ((code = gd_get_number(in, &number)) != 0)
			return code;
		*sum += number;
	}
	return gd_get_end(in);
}

/* sum: [number()] -> {ok, float()}; {error, type} for anything but a list,
 * {error, decode} for a list of anything else, {error, range} beyond floats. */
static void
sum(gd_req_t *req, gd_res_t *res)
{
	size_t length;
	double total;
	int code;

	if (gd_get_list(&req->in, &length) != 0) {
		error_set(res, "type");
		return;
	}
	code = add_up(&req->in, length, &total);
	if (code == GD_ERANGE || (code == 0 && !isfinite(total))) {
		error_set(res, "range");
		return;
	}
	if (code != 0) {
		error_set(res, GD_ERR_DECODE);
		return;
	}
	gd_put_tuple(&res->out, 2);
	gd_put_atom(&res->out, "ok");
	gd_put_f64(&res->out, total);
}

static void
put_count(gd_out *out, const char *name, long count)
{
	gd_put_tuple(out, 2);
	gd_put_atom(out, name);
	gd_put_i64(out, count);
}

/* stats -> {ok, [{driver, N}, {thread, N}]}: requests before this one. */
static void
stats(gd_res_t *res, long driver_count, long seat_count)
{
	gd_put_tuple(&res->out, 2);
	gd_put_atom(&res->out, "ok");
	gd_put_list(&res->out, 2);
	put_count(&res->out, "driver", driver_count);
	put_count(&res->out, "thread", seat_count);
	gd_put_nil(&res->out);
}

static void
dispatch(gd_req_t *req, gd_res_t *res, void *drv_state, void *trd_state)
{
	struct driver *driver = drv_state;
	struct seat *seat = trd_state;
	long driver_count, seat_count;

	if (seat == NULL) {
		error_set(res, GD_ERR_MEMORY);
		return;
	}
	driver_count = atomic_fetch_add(&driver->count, 1);
	seat_count = seat->count++;
	switch (req->cmd) {
	case SUM: sum(req, res); break;
	case PING: break;	/* nothing put: the caller gets `ok` */
	case STATS: stats(res, driver_count, seat_count); break;
	default: error_set(res, "command");
	}
}

static const gd_command commands[] = {
	{ "sum", SUM }, { "ping", PING }, { "stats", STATS }, { NULL, 0 },
};
static const char *const atoms[] = {
	"ok", "error", "driver", "thread", "type", "range", "command", GD_ERR_DECODE, GD_ERR_MEMORY, NULL,
};

GD_DRIVER(
	.open = driver_open, .destroy = free,
	.thread_init = seat_new, .thread_destroy = free,
	.dispatch = dispatch, .commands = commands, .atoms = atoms,
)
