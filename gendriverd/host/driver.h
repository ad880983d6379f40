/* SPDX-License-Identifier: MIT */
/*
 * The driver: loading the shared object, finding its callbacks (a GD_DRIVER
 * table, or the six functions of the original), and calling them. Loaded once,
 * never unloaded: the process is the unit of unloading.
 */
#ifndef HOST_DRIVER_H
#define HOST_DRIVER_H

#include <stdbool.h>
#include <stddef.h>

#include "gen_driver.h"
#include "request.h"
#include "start.h"

struct driver {
	gd_driver table;	/* absent callbacks are NULL */
	bool legacy;		/* written for the original: replies are in res->buf */
	void *state;		/* drv_state */
	size_t reply_limit;	/* bytes */
	const struct start *start;
	uint64_t shortest_run;	/* ns: the least of what requests may run; 0: there is no limit */
};

/* Load and check; 0, or -1 and one sentence in why. Runs ELF constructors. */
int driver_load(struct driver *d, const char *path, char *why, size_t room);
/* ns that a request of this command may run; 0: for ever. */
uint64_t driver_max_run(const struct driver *d, int cmd);
/* open or init; 0, or -1 and why. */
int driver_open(struct driver *d, char *why, size_t room);
void driver_close(struct driver *d);

/* Loop thread. The seat's key for a request in *key, or false: round robin. On
 * entry *key is the caller's own key, or a number of its connection. */
bool driver_balance(const struct driver *d, const struct request *r, unsigned *key);

/* One worker's place to run requests in. Belongs to one thread at a time. */
struct bench {
	const struct driver *driver;
	unsigned seat;
	void *state;		/* trd_state */
	bool began;		/* thread_init ran */
	gd_res_t res;		/* reused from request to request */
	char *guarded;		/* the original's reply buffer, a guard behind it */
	bool erred;		/* the last run's answer is {error, ..} */
	bool by_loop;		/* the last run was the loop's */
	uint64_t started_at, ended_at;	/* of the last run, in ns of CLOCK_MONOTONIC */
};

int bench_init(struct bench *b, const struct driver *d, unsigned seat);	/* 0 or -1: no memory */
void bench_free(struct bench *b);	/* runs thread_destroy where thread_init ran */

/* Run r. The answer's term lies in the bench and is valid until the next run;
 * when answer->own was taken, bench_taken says so. */
void bench_run(struct bench *b, struct request *r, struct answer *answer);
void bench_taken(struct bench *b);
/* Once after each run, by the thread that still holds the seat: r counts in the statistics. */
void bench_count(const struct bench *b, const struct request *r, const struct answer *answer);

/* The original's reply buffer: see driver_realloc in erl_driver_api.c. */
#define LEGACY_REPLY 65536
/* The calling thread's guarded buffer, NULL on threads without one. */
char *bench_guarded(void);

#endif
