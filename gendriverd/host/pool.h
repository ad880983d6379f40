/* SPDX-License-Identifier: MIT */
/*
 * The pool: `threads` seats, each with a thread and an inbox of its own, for
 * requests with a key and for what it is woken for; and a queue that all share,
 * for the rest when nobody is idle. A request waits in exactly one place; who takes it
 * out under the pool's lock decides its outcome: a worker runs it, or the loop answers
 * it (expired, cancelled, draining).
 *
 * A request that runs too long costs the process; or, where threads may be written off
 * (max_abandoned), the loop answers it with `timeout` and gives the seat to a new thread. Who
 * answers is decided by one compare-and-swap on the thread's stage, which is RUNS while it
 * is in dispatch: the thread makes it IDLE and answers, or the loop makes it DEPOSED and
 * does. A deposed thread touches neither connection nor seat any more. The request stays
 * its own until it is back, and its answer's until that has left: the later of the two
 * sets it free. Once back, the thread runs thread_destroy and leaves.
 *
 * What is short the loop runs itself, in a seat that it borrows (borrow.c). Which thread is the loop may
 * change by that (takeover.c): a thread is the loop and a worker in turn, and what is said to be the loop's
 * passes on.
 *
 * A worker knows nothing of connections: it gives the answer back to `done`.
 *
 * Lock order: a connection's lock, then the pool's. Never the other way.
 */
#ifndef HOST_POOL_H
#define HOST_POOL_H

#include "driver.h"
#include "queue.h"
#include "request.h"
#include "start.h"

struct pool;
struct worker;

struct pool_hooks {
	/* A worker has run r, or found it cancelled before it began (answer->failed
	 * is "cancelled"): its thread, or the loop's. Or r hangs ("timeout"): loop. No lock held.
	 * Returns true when it took answer->own. `freed` gets the requests that go back
	 * to the pool: r, now or with a later call, when its reply has left. */
	bool (*done)(struct request *r, struct answer *answer, struct queue *freed);
	/* The thread that was written off with r (answer->astray) is back. It; no lock held. */
	void (*back)(const struct request *r);
	/* Loop. Send what `done` kept back, as there was more to come. */
	void (*flush)(struct queue *freed);
	/* Any thread, no lock held. Send what `done` kept back on the connection in that slot (answer->kept). */
	void (*flush_one)(uint32_t slot, struct queue *freed);
	/* This thread is the loop from now on: until all is done (NULL), or pool_run_short says that it
	 * has become a worker: that one. */
	struct worker *(*lead)(void);
	/* Requests are free again after pool_take came back with less than asked; or the
	 * last worker has left, or one that was written off. Any thread, no lock held. */
	void (*wake)(void);
};

/* Starts the threads; the recorder is open. NULL: no memory or no threads to be had. */
struct pool *pool_new(const struct driver *d, const struct start *start, struct pool_hooks hooks);

/* Loop. A free request for a connection that has `own` waiting or running, or NULL: the queue is full, or nearly
 * and that is more than its share. One that has none gets in even where the queue is full. */
struct request *pool_take(struct pool *p, uint32_t own);
/* Loop. Give a request back that was not submitted, or was taken out. */
void pool_give(struct pool *p, struct request *r);
/* Any thread, a connection's lock may be held. These were answered before, and now their
 * replies have left. */
void pool_answered(struct pool *p, struct queue *freed);
/* Loop. Take in all of `batch` (empty afterwards): what is short for pool_run_short, the rest
 * for the workers, of which as many are woken as there is work for. */
void pool_submit(struct pool *p, struct queue *batch);
/* Loop, at the end of a turn: run what is short, and send its answers. NULL, and whether there is more for
 * the next turn; or another thread is the loop now, and this one that worker. */
struct worker *pool_run_short(struct pool *p, bool *more);

/* Take r out if it has not begun: true, and it is the caller's. Needs nothing
 * but that r is alive: the connection's lock sees to that. */
bool pool_withdraw(struct pool *p, struct request *r);
/* Move all calls that have not begun and whose time has passed to `out`. */
void pool_expired(struct pool *p, uint64_t now, struct queue *out);
/* Move all calls that have not begun to `out`; casts stay. */
void pool_withdraw_calls(struct pool *p, struct queue *out);
/* ns of CLOCK_MONOTONIC; 0: no deadline. */
uint64_t pool_next_deadline(struct pool *p);

/* Loop. Write off the threads whose request runs longer than it may; where that is not allowed,
 * take the process down. The ns to come back at latest; 0: no need. */
uint64_t pool_watch(struct pool *p, uint64_t now);

/* The thread in this seat, which runs r, waits for somebody outside: r's time stands still until
 * pool_resume. What is left of it, in ns; 0: it has no limit, or the seat is not that thread's any more. Any
 * thread, a connection's lock may be held. */
uint64_t pool_pause(struct pool *p, const struct request *r, unsigned seat);
void pool_resume(struct pool *p, const struct request *r, unsigned seat, uint64_t left);

/* The process's first thread: starts the loop's, and watches it until it is done. 0; -1: no threads to be had. */
int pool_serve(struct pool *p);

/* Loop. Workers leave when nothing waits any more; thread_destroy runs on each. */
void pool_leave(struct pool *p);
/* All have left that hold a seat. */
bool pool_left(struct pool *p);
/* After pool_left: join the threads and free everything. False: one that was written off is still in
 * the driver, and what it may need is not freed. */
bool pool_free(struct pool *p);

#endif
