/* SPDX-License-Identifier: MIT */
/*
 * What the loop runs itself (lengths.h): for the length of one turn it borrows the seat of a worker that
 * waits for work and has begun, so that no more threads than seats are ever in dispatch. Loop thread.
 *
 * A call that takes too long costs it the loop: takeover.c. Then this thread has one request and
 * the seat, as any worker; all else lies in the pool, and in the connections, where the next one
 * finds it.
 */
#include "clock.h"
#include "lengths.h"
#include "pool_parts.h"

#define CHEAP 2000u	/* ns: less than it takes to hand a request over, however many wait */

static bool
nothing_waits(const struct lead *l)
{
	return l->turn.head == NULL && l->others.first == NULL;
}

/* r is the loop's: in turns, as soon as there is more than one connection. */
static void
put(struct lead *l, struct request *r)
{
	struct request *first = l->turn.head;

	if (l->others.first == NULL
	    && (first == NULL || (first->slot == r->slot && first->generation == r->generation))) {
		queue_push(&l->turn, r);
		return;
	}
	while ((first = queue_pop(&l->turn)) != NULL)
		lanes_push(&l->lanes, &l->others, first);
	lanes_push(&l->lanes, &l->others, r);
}

static struct request *
take_next(struct lead *l)
{
	struct request *r = queue_pop(&l->turn);

	return r != NULL ? r : lanes_pop(&l->lanes, &l->others);
}

bool
lead_wants(struct pool *p, struct request *r)
{
	struct lead *l = &p->lead;
	uint32_t ns;

	if (!l->allowed || r->keyed || r->takes_parts)
		return false;
	ns = lengths_expect(r->entry, r->record->queued_at);
	if (ns == LENGTH_LONG || (ns > CHEAP && l->expected >= LEAD_TURN))
		return false;
	l->expected += ns;
	r->state = REQUEST_RUNNING;	/* nobody takes it out any more */
	put(l, r);
	return true;
}

void
lead_pass_on(struct pool *p)
{
	struct queue rest = { 0 };
	struct request *r;

	while ((r = take_next(&p->lead)) != NULL)
		queue_push(&rest, r);
	pool_enqueue(p, &rest);
}

/* A seat whose worker waits and has made its thread's state, the last one first. Lock held. */
static struct seat *
borrow(struct pool *p)
{
	struct lead *l = &p->lead;

	if (p->idle == 0)
		return NULL;
	for (unsigned i = 0; i < p->threads; i++) {
		struct seat *s = &p->seats[(l->last + i) % p->threads];
		if (!s->idle || !s->holder->bench.began)
			continue;
		l->last = s->number;
		s->idle = false;
		s->borrowed = true;
		p->idle--;
		l->seat = s;
		return s;
	}
	return NULL;
}

/* Its worker is wanted if something came for it meanwhile. Lock held. */
static void
give_seat_back(struct pool *p)
{
	struct seat *s = p->lead.seat;

	p->lead.seat = NULL;
	s->borrowed = false;
	if (s->inbox.first != NULL || p->shared.first != NULL) {
		pthread_cond_signal(&s->work);
		return;
	}
	s->idle = true;
	p->idle++;
}

void
lead_watch(struct lead *l)
{
	bool armed = atomic_load(&l->armed);

	if (!armed && atomic_compare_exchange_strong(&l->armed, &armed, true))
		lead_tick(l, true);
}

/* Its number, for end_call: what is in `l` may be another thread's by then. */
static uint64_t
begin_call(struct lead *l, struct request *r)
{
	uint64_t call = (l->calls += 2) | 1;

	l->request = r;
	atomic_store(&l->call, call);	/* before the look at `armed` */
	lead_watch(l);
	return call;
}

/* False: another thread is the loop now. */
static bool
end_call(struct lead *l, uint64_t call)
{
	return atomic_compare_exchange_strong(&l->call, &call, call - 1);
}

/* This thread was the loop while it ran r, and is w's now. */
static void
end_as_worker(struct pool *p, struct worker *w, struct request *r, struct answer *answer)
{
	pthread_mutex_lock(&p->lock);	/* until all is handed over */
	pthread_mutex_unlock(&p->lock);
	worker_end(p, w, r, answer);
	pthread_mutex_unlock(&p->lock);
	w->bench.by_loop = false;
}

/* False: this thread is the worker of that seat now. */
static bool
run_one(struct pool *p, struct worker *w, struct request *r, uint64_t *now)
{
	struct lead *l = &p->lead;
	struct answer answer = { .failed = too_late(r, *now) };
	uint64_t call;

	if (answer.failed == NULL) {
		worker_begin(w, r, *now);
		w->bench.by_loop = true;
		call = begin_call(l, r);
		bench_run(&w->bench, r, &answer);
		if (!end_call(l, call)) {
			end_as_worker(p, w, r, &answer);
			return false;
		}
		*now = w->bench.ended_at;
		bench_count(&w->bench, r, &answer);
		w->bench.by_loop = false;
	}
	request_clear(r);
	answer.more = true;
	l->ran++;
	if (p->hooks.done(r, &answer, &l->freed))
		bench_taken(&w->bench);
	return true;
}

/* Those that are done with stay at hand, as far as there is room. True: somebody waits for free ones. Lock held. */
static bool
settle(struct pool *p)
{
	struct lead *l = &p->lead;
	struct request *r;
	bool starved = p->starved;

	p->active -= l->ran;
	l->ran = 0;
	while ((r = queue_pop(&l->freed)) != NULL) {
		if (r->shared || p->cache.len >= RECORDER_CACHE || p->active >= p->most) {
			request_set_answered(p, r);
		} else {
			request_set_free(r, &p->cache);
			p->active++;
		}
	}
	if (l->seat != NULL)
		give_seat_back(p);
	p->starved = false;
	return starved;
}

/* NULL, or the worker that this thread is now. */
static struct worker *
run_turn(struct pool *p, struct worker *w)
{
	uint64_t now = now_ns(), end = now + LEAD_TURN;
	struct request *r;

	while (now < end && (r = take_next(&p->lead)) != NULL)
		if (!run_one(p, w, r, &now))
			return w;
	return NULL;
}

static struct seat *
find_seat(struct pool *p)
{
	struct seat *s;

	if (nothing_waits(&p->lead))
		return NULL;
	pthread_mutex_lock(&p->lock);
	s = borrow(p);
	pthread_mutex_unlock(&p->lock);
	return s;
}

struct worker *
pool_run_short(struct pool *p, bool *more)
{
	struct lead *l = &p->lead;
	struct worker *become;
	struct seat *s;
	bool starved;

	if (nothing_waits(l) && l->ran == 0)
		return NULL;
	s = find_seat(p);
	if (s != NULL && (become = run_turn(p, s->holder)) != NULL)
		return become;
	l->expected = 0;
	p->hooks.flush(&l->freed);
	pthread_mutex_lock(&p->lock);
	starved = settle(p);
	pthread_mutex_unlock(&p->lock);
	if (starved)
		p->hooks.wake();
	if (s == NULL)
		lead_pass_on(p);	/* all are busy: whoever is free next */
	*more |= !nothing_waits(l);
	return NULL;
}
