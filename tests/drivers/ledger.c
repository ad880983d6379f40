/* SPDX-License-Identifier: MIT */
/*
 * Keeps the books on what was executed: each request's integer goes to the file
 * named by the setting `ledger`, 8 bytes, big-endian, in one write at the file's
 * end. What is in the file ran, whatever the caller was told; exactly once each
 * is for the test to check. Commands: record N -> {ok, N}; record_and_die N, by abort;
 * die {N, How}: written down, then one of many ends; hold {N, Gate} -> {ok, N}: written
 * down, then it waits until the number in the file that the setting `gate` names (8 bytes,
 * this machine's order) is greater, or it is cancelled, or for 5 s.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "gen_driver.h"

enum { RECORD = 1, RECORD_AND_DIE = 2, DIE = 3, HOLD = 4 };
enum { HOLD_TURNS = 25000 };	/* of 200 us */

#define UNCHECKED __attribute__((noinline, no_sanitize("undefined")))	/* it is meant */

static int ledger, gate = -1;

static int
driver_open(void **drv_state, char *why, size_t room)
{
	const char *path = gd_config("ledger");

	*drv_state = NULL;
	if (path == NULL) {
		snprintf(why, room, "the setting ledger names no file");
		return -1;
	}
	if (gd_config("gate") != NULL && (gate = open(gd_config("gate"), O_RDONLY | O_CLOEXEC)) < 0) {
		snprintf(why, room, "gate %s: %s", gd_config("gate"), strerror(errno));
		return -1;
	}
	if ((ledger = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644)) >= 0)
		return 0;
	snprintf(why, room, "ledger %s: %s", path, strerror(errno));
	return -1;
}

static int
record(int64_t number)
{
	unsigned char entry[8];

	for (int i = 0; i < 8; i++)
		entry[i] = (unsigned char)((uint64_t)number >> (56 - 8 * i));
	return write(ledger, entry, sizeof(entry)) == (ssize_t)sizeof(entry) ? 0 : -1;
}

static void
hold(int64_t shut)
{
	const struct timespec turn = { .tv_nsec = 200000 };
	int64_t now = 0;

	for (int i = 0; i < HOLD_TURNS && !gd_cancelled(); i++) {
		if (pread(gate, &now, sizeof(now), 0) == (ssize_t)sizeof(now) && now > shut)
			return;
		nanosleep(&turn, NULL);
	}
}

UNCHECKED static void *
segv(void *unused)
{
	volatile uintptr_t nowhere = 16;

	*(volatile int *)nowhere = 1;
	return unused;
}

UNCHECKED static int
fpe(void)
{
	volatile int one = 1, zero = 0, result;	/* or the compiler finds a way round */

	result = one / zero;
	return result;
}

UNCHECKED static long
deeper(volatile char *above, long depth)
{
	volatile char frame[1024];

	frame[depth % 1024] = above[0];
	return depth == 0 ? 0 : deeper(frame, depth - 1) + frame[0];
}

/* A page of a file that has none. */
static void
bus(void)
{
	volatile char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED,
	    memfd_create("empty", MFD_CLOEXEC), 0);

	page[0] = 1;
}

static void
die(int64_t how)
{
	volatile char top = 0;
	pthread_t thread;

	switch (how) {
	case 0: segv(NULL); break;
	case 1: abort();
	case 2: fpe(); break;
	case 3: bus(); break;
	case 4: __builtin_trap();
	case 5: exit(3);
	case 6: exit(0);
	case 7: deeper(&top, 1L << 40); break;
	case 8: raise(SIGABRT); break;
	/* From here on nobody can know which request it was. */
	case 9: _exit(7);
	case 10: kill(getpid(), SIGKILL); break;
	case 11:
		if (pthread_create(&thread, NULL, segv, NULL) == 0)
			pthread_join(thread, NULL);
		break;
	default: raise(SIGTERM);
	}
	pause();
}

static void
dispatch(gd_req_t *req, gd_res_t *res, void *drv_state, void *trd_state)
{
	int64_t number, how = 1;	/* of HOLD: the gate */
	size_t arity;

	(void)drv_state, (void)trd_state;
	if (req->cmd < RECORD || req->cmd > HOLD) {
		error_set(res, "command");
		return;
	}
	if (req->cmd >= DIE && gd_get_tuple(&req->in, &arity) != 0) {
		error_set(res, "badarg");
		return;
	}
	if (gd_get_i64(&req->in, &number) != 0) {
		error_set(res, "badarg");
		return;
	}
	if (record(number) != 0) {
		error_set(res, "io");
		return;
	}
	if (req->cmd >= DIE)
		gd_get_i64(&req->in, &how);
	if (req->cmd == HOLD)
		hold(how);
	else if (req->cmd != RECORD)
		die(how);
	gd_put_tuple(&res->out, 2);
	gd_put_atom(&res->out, "ok");
	gd_put_i64(&res->out, number);
}

static const gd_command commands[] = {
	{ "record", RECORD }, { "record_and_die", RECORD_AND_DIE }, { "die", DIE }, { "hold", HOLD }, { NULL, 0 },
};

GD_DRIVER(.open = driver_open, .dispatch = dispatch, .commands = commands)
