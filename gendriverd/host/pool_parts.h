/* SPDX-License-Identifier: MIT */
/*
 * Inside the pool of pool.h: what its parts share. worker.c is what a thread does, pool.c
 * what the others ask of it, share.c who gets a free request, keep.c which of its answers wait for the next, watch.c what becomes of
 * requests that run too long, borrow.c what the loop runs itself, takeover.c how it passes to another thread when
 * that takes too long.
 */
#ifndef HOST_POOL_PARTS_H
#define HOST_POOL_PARTS_H

#include <pthread.h>

#include "lanes.h"
#include "pool.h"

#define REFILL 32	/* free requests that the loop takes to hand at once */
#define LEAD_TURN LANE_TURN	/* ns that a turn may take: then the loop looks after the others first */

enum stage {
	IDLE,		/* no request, or one that is not begun, or is being answered */
	RUNS,		/* in dispatch: may be written off */
	DEPOSED,	/* was written off */
};

/* A thread, and what it works with. */
struct worker {
	struct pool *pool;
	struct seat *seat;
	pthread_t thread;	/* pool lock */
	struct bench bench;	/* its thread alone, or the loop's while it has borrowed the seat */
	_Atomic(enum stage) stage;
	struct worker *next;	/* pool lock: in `gone` */
	int cmd;		/* loop: what it ran when it was written off */
	uint64_t request;	/* loop */
	_Atomic uint64_t kept;	/* answers that are not sent yet: how often, and slot + 1 of their connection; 0: none */
	uint32_t keeps;		/* its thread: how often it has kept any */
	uint64_t keeps_until;	/* its thread: ns */
	uint64_t kept_seen;	/* the thread that watches */
};

struct seat {
	unsigned number;
	struct worker *holder;	/* pool lock: the thread that works here */
	pthread_cond_t work;	/* pool lock: idle became false, leaving, or its thread is the loop now */
	bool idle;		/* pool lock */
	bool borrowed;		/* pool lock: by the loop; its worker waits */
	struct request *running;	/* pool lock */
	uint64_t until;		/* pool lock: when it has run too long; 0: never */
	struct place inbox;	/* pool lock: requests that only this seat may run */
};

/* What the loop runs itself. */
struct lead {
	bool allowed;		/* constant */
	struct queue turn;	/* loop: to be run at the end of this turn, while all are of one connection */
	struct place others;	/* loop: else these, and `turn` is empty */
	struct lanes lanes;	/* loop: of that */
	uint64_t expected;	/* loop: the ns that will take */
	struct queue freed;	/* loop: done with, and not yet given back */
	uint32_t ran;		/* loop: and not yet counted */
	unsigned last;		/* loop: the seat that it borrowed last */
	struct seat *seat;	/* pool lock: that it has borrowed, or NULL */
	struct request *request;	/* under way: written before `call`, read by whoever ended it */
	uint64_t calls;		/* loop: twice how many it has begun */
	_Atomic uint64_t call;	/* the same, and 1 while it is under way */
	pthread_t thread;	/* pool lock: the loop's; the thread that watches writes it */
	_Atomic pid_t tid;	/* its own number for proc(5) */
	int timer;		/* descriptor */
	atomic_bool armed;	/* it ticks */
	atomic_bool done;	/* there is no loop any more */
};

struct pool {
	pthread_mutex_t lock;	/* guards everything below but `cache` */
	struct lanes lanes;	/* of `shared` and the inboxes */
	struct place shared;	/* requests without a key that found no idle seat */
	_Atomic uint32_t waiting;	/* how many there and in the inboxes; read without the lock as a hint */
	struct queue free;	/* the one that came back last is the next */
	uint32_t fresh;		/* requests[fresh] and those behind it were never taken */
	uint32_t active;	/* requests that wait or run, or are in `cache` */
	uint32_t most;		/* of those; the others are free, or answered and not yet sent */
	uint32_t reserve;	/* constant: beyond `most`, for connections that have none */
	uint32_t queue;		/* constant: that may wait */
	struct deadlines deadlines;
	unsigned turn;		/* round robin: where to look for an idle seat first */
	unsigned idle;		/* seats */
	unsigned running;	/* threads that hold a seat */
	unsigned astray;	/* threads that were written off, and have not come back */
	struct worker *gone;	/* threads without a seat at their end, to be joined */
	struct seat *dying;	/* its thread was told to take the process down */
	pthread_cond_t started;	/* all of them wait for work */
	bool starved;		/* pool_take gave none */
	bool leaving;
	bool limited;		/* constant: requests may not run for ever */
	uint32_t max_abandoned;	/* constant */

	uint64_t submitted;	/* loop: numbers given out */
	struct queue cache;	/* loop */
	bool crowded;		/* loop: little of the queue is left */
	struct lead lead;	/* each has its own rule */
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

/* r begins, in the seat of w. */
void worker_begin(struct worker *w, struct request *r, uint64_t now);
/* r is back, on this thread, which is w's: count and answer it, unless the loop did as it took too long. No lock
 * held on entry, the pool's on exit. */
void worker_end(struct pool *p, struct worker *w, struct request *r, struct answer *answer);
/* ns of CLOCK_MONOTONIC until which r may run, which began just now; 0: for ever. */
uint64_t worker_until(const struct pool *p, const struct request *r);
/* Why a call that was just taken out need not begin, or NULL. now: 0, and it looks at the clock if need be. */
const char *too_late(const struct request *r, uint64_t now);
/* The next request for this seat, which stays where it is, or NULL. Lock held. */
const struct request *seat_next(const struct pool *p, const struct seat *s);
/* A thread's life: this worker's, and the loop's, in turn. w: NULL, it begins as the loop. */
void worker_live(struct pool *p, struct worker *w);
/* The loop's thread is at its end. */
void pool_lead_done(struct pool *p);
/* Until then: pool_serve. */
void pool_stand_by(struct pool *p);

/* Whether the answer to r, which w has run, is to wait for the next. Its thread, no lock held. */
bool keep_wants(struct pool *p, struct worker *w, const struct request *r, const struct answer *answer);
/* It does: the connection in that slot has it. */
void keep_begin(struct pool *p, struct worker *w, uint32_t slot);
/* Whether w may run its next request before it sends what it keeps; true where that is nothing. Lock held. */
bool keep_goes_on(const struct pool *p, const struct worker *w);
/* Send what w keeps. Any thread, no lock held. */
void keep_end(struct pool *p, struct worker *w);
/* The thread that watches, at each tick: send what is kept since the last one. */
void keep_watch(struct pool *p);
/* Whether any worker keeps any. */
bool keep_any(struct pool *p);

/* Into the queues of workers; woken are as many as there is work for. Loop. */
void pool_enqueue(struct pool *p, struct queue *batch);

/* Loop. True: it is to run r, and has it in its turn. */
bool lead_wants(struct pool *p, struct request *r);
/* Loop. What it was to run the workers do. */
void lead_pass_on(struct pool *p);
int lead_open(struct lead *l);	/* 0 or -1 */
/* Loop, or the thread that watches. */
void lead_tick(struct lead *l, bool on);
/* Any thread. What was just written is to be watched: the timer ticks. */
void lead_watch(struct lead *l);

static inline void
request_set_free(struct request *r, struct queue *list)
{
	r->state = REQUEST_FREE;
	slot_set(r->record, SLOT_FREE, 0);
	queue_push_front(list, r);
}

/* Lock held. */
static inline void
count_waiting(struct pool *p, int more)
{
	uint32_t now = atomic_load_explicit(&p->waiting, memory_order_relaxed);

	atomic_store_explicit(&p->waiting, now + (uint32_t)more, memory_order_relaxed);
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
