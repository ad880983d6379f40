/* SPDX-License-Identifier: MIT */
/*
 * A driver for tests of who runs a request: commands that are mostly short, and not when their params
 * say so. The answer is {Thread, Seat}: the number of the thread that ran it, and its seat.
 */
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "gen_driver.h"

#ifndef FLAGS
#define FLAGS 0
#endif

enum { RUN = 1, CALLED_LONG, CALLED_SHORT, OTHER };
enum { SHORTLY, AT_GATE, SPIN, CRASH, ABORT };	/* params: {How, Ms}; at which gate */

static atomic_int inside;	/* threads in dispatch */
static atomic_int most_inside;

static void
wait_at_gate(int64_t which)
{
	int fd = open(gd_config(which == 0 ? "gate" : "another gate"), O_RDONLY);
	char byte;

	if (fd < 0 || read(fd, &byte, 1) < 0)
		abort();
	close(fd);
}

static void
spin(int64_t ms)
{
	struct timespec t;
	int64_t end;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	end = t.tv_sec * 1000 + t.tv_nsec / 1000000 + ms;
	do
		clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	while (t.tv_sec * 1000 + t.tv_nsec / 1000000 < end);
}

static void
count_in(void)
{
	int now = atomic_fetch_add(&inside, 1) + 1, most = atomic_load(&most_inside);

	while (now > most && !atomic_compare_exchange_weak(&most_inside, &most, now))
		continue;
}

static void
dispatch(gd_req_t *req, gd_res_t *res, void *drv, void *trd)
{
	int64_t how = SHORTLY, ms = 0;
	size_t arity;

	(void)drv;
	count_in();
	++*(int *)trd;
	if (gd_get_tuple(&req->in, &arity) == 0 && arity == 2) {
		gd_get_i64(&req->in, &how);
		gd_get_i64(&req->in, &ms);
	}
	switch (how) {
	case AT_GATE: wait_at_gate(ms); break;
	case SPIN: spin(ms); break;
	case CRASH: *(volatile int *)8 = 1; break;
	case ABORT: abort();
	default: break;
	}
	if (req->cmd == OTHER) {
		gd_put_i64(&res->out, atomic_load(&most_inside));
	} else {
		gd_put_tuple(&res->out, 2);
		gd_put_i64(&res->out, syscall(SYS_gettid));
		gd_put_i64(&res->out, req->seat);
	}
	atomic_fetch_sub(&inside, 1);
}

static void *
thread_init(void)
{
	return calloc(1, sizeof(int));
}

static const gd_command commands[] = {
	{ "run", RUN }, { "called_long", CALLED_LONG }, { "called_short", CALLED_SHORT }, { "other", OTHER }, { NULL, 0 },
};
static const gd_length lengths[] = {
	{ CALLED_LONG, GD_LONG }, { CALLED_SHORT, GD_SHORT }, { 0, GD_LENGTHS_END },
};

GD_DRIVER(.dispatch = dispatch, .thread_init = thread_init, .thread_destroy = free, .commands = commands,
    .lengths = lengths, .flags = FLAGS)
