/* SPDX-License-Identifier: MIT */
/*
 * Inside the pool of pool.h: what its three parts share. worker.c is what a thread does,
 * pool.c what the others ask of it, watch.c what becomes of requests that run too long.
 */
#ifndef HOST_POOL_PARTS_H
#define HOST_POOL_PARTS_H

#include <pthread.h>

#include "pool.h"

enum stage {
	IDLE,		/* no request, or one that is not begun, or is being answered */
	RUNS,		/* in dispatch: may be written off */
	DEPOSED,	/* was written off */
};

/* A thread, and what it works with. */
struct worker {
	struct pool *pool;
	struct seat *seat;
	pthread_t thread;
	struct bench bench;	/* its thread alone */
	_Atomic(enum stage) stage;
	struct worker *next;	/* pool lock: in `gone` */
	int cmd;		/* loop: what it ran when it was written off */
	uint64_t request;	/* loop */
};

struct seat {
	unsigned number;
	struct worker *holder;	/* pool lock: the thread that works here */
	pthread_cond_t work;	/* pool lock: idle became false, or leaving */
	bool idle;		/* pool lock */
	struct request *running;	/* pool lock */
	uint64_t until;		/* pool lock: when it has run too long; 0: never */
	struct queue inbox;	/* pool lock: requests that only this seat may run */
};

struct pool {
	pthread_mutex_t lock;	/* guards everything below but `cache` */
	struct queue shared;	/* requests without a key that found no idle seat */
	struct queue free;	/* the one that came back last is the next */
	uint32_t fresh;		/* requests[fresh] and those behind it were never taken */
	uint32_t active;	/* requests that wait or run, or are in `cache` */
	uint32_t most;		/* of those; the others are free, or answered and not yet sent */
	struct deadlines deadlines;
	unsigned turn;		/* round robin: where to look for an idle seat first */
	unsigned idle;		/* seats */
	unsigned running;	/* threads that hold a seat */
	unsigned astray;	/* threads that were written off, and have not come back */
	struct worker *gone;	/* threads without a seat at their end, to be joined */
	struct seat *dying;	/* its thread was told to take the process down */
	pthread_cond_t started;	/* all of them wait for work */
	bool starved;		/* pool_take found nothing */
	bool leaving;
	bool limited;		/* constant: requests may not run for ever */
	uint32_t max_abandoned;	/* constant */

	uint64_t submitted;	/* loop: numbers given out */
	struct queue cache;	/* loop */
	uint32_t abandoned;	/* loop: threads that were written off, and are not joined */

	const struct driver *driver;
	struct pool_hooks hooks;
	unsigned threads;
	struct request *requests;
	uint32_t made;		/* constant: requests */
	struct seat seats[];
};

/* A thread for this seat; it leaves at once if it is not made the holder before the lock is
 * given up. NULL: no memory or no threads to be had. Lock held. */
struct worker *worker_new(struct pool *p, struct seat *s);

static inline void
request_set_free(struct request *r, struct queue *list)
{
	r->state = REQUEST_FREE;
	slot_set(r->record, SLOT_FREE, 0);
	queue_push_front(list, r);
}

/* Lock held. Its answer has left, or there is none: but a thread that was written off may still run it. */
static inline void
request_set_answered(struct pool *p, struct request *r)
{
	if (!r->shared) {
		request_set_free(r, &p->free);
		return;
	}
	r->shared = false;
	r->record->flags |= SLOT_TOLD;
}

#endif
