/* SPDX-License-Identifier: MIT */
/*
 * What a thread of the pool does: take a request, run it, give the answer back, and at its end leave; or
 * become the loop, when that is held up in a seat that it borrowed.
 */
#include <stdlib.h>
#include <unistd.h>

#include "clock.h"
#include "crash.h"
#include "pool_parts.h"

/* Of the seat's own or the shared: whose turn came first. */
const struct request *
seat_next(const struct pool *p, const struct seat *s)
{
	const struct lane *next = lanes_older(&s->inbox, &p->shared);

	return next != NULL ? next->waiting.head : NULL;
}

static struct request *
next_request(struct pool *p, struct seat *s)
{
	const struct lane *next = lanes_older(&s->inbox, &p->shared);

	if (next == NULL)
		return NULL;
	struct request *r = lanes_pop(&p->lanes, next->place);
	count_waiting(p, -1);
	deadlines_remove(&p->deadlines, r);
	r->state = REQUEST_RUNNING;
	return r;
}

/* Lock held: it was given the loop. */
static bool
is_the_loop(const struct pool *p)
{
	return pthread_equal(p->lead.thread, pthread_self());
}

/* True: this thread is the loop now, and the seat another's. */
static bool
wait_for_work(struct pool *p, struct seat *s)
{
	s->idle = true;
	if (++p->idle == p->threads)
		pthread_cond_signal(&p->started);
	while ((s->idle || s->borrowed) && !p->leaving && !is_the_loop(p))
		pthread_cond_wait(&s->work, &p->lock);
	if (is_the_loop(p))
		return true;
	if (s->idle) {
		s->idle = false;
		p->idle--;
	}
	return false;
}

/* Lock held. That thread is back: but the answer may not have left. */
static void
set_returned(struct pool *p, struct request *r)
{
	if (!r->shared)
		request_set_free(r, &p->free);
	r->shared = false;
}

const char *
too_late(const struct request *r, uint64_t now)
{
	if (!r->syn)
		return NULL;
	if (atomic_load_explicit(&r->cancelled, memory_order_relaxed))
		return "cancelled";
	if (r->deadline == 0)
		return NULL;
	return r->deadline <= (now != 0 ? now : now_ns()) ? "expired" : NULL;
}

uint64_t
worker_until(const struct pool *p, const struct request *r)
{
	uint64_t ns = p->limited ? driver_max_run(p->driver, r->cmd) : 0;

	return ns == 0 ? 0 : now_ns() + ns;
}

void
worker_begin(struct worker *w, struct request *r, uint64_t now)
{
	r->record->started_at = w->bench.started_at = now;
	slot_set(r->record, SLOT_RUNNING, w->seat->number);
}

/* Lock held on entry and exit. */
static void
end_turn(struct pool *p, struct seat *s, struct queue *freed)
{
	struct request *r;
	bool wake = p->starved;

	s->running = NULL;
	s->until = 0;
	if (p->dying == s)
		p->dying = NULL;
	p->active--;
	while ((r = queue_pop(freed)) != NULL)
		request_set_answered(p, r);
	p->starved = false;
	if (wake) {
		pthread_mutex_unlock(&p->lock);
		p->hooks.wake();
		pthread_mutex_lock(&p->lock);
	}
}

static void
give_answer(struct pool *p, struct worker *w, struct request *r, struct answer *answer)
{
	struct queue freed = { 0 };
	bool call = r->syn, keep = keep_wants(p, w, r, answer);
	uint32_t slot = r->slot;

	answer->kept = keep;
	if (p->hooks.done(r, answer, &freed))
		bench_taken(&w->bench);
	if (keep)
		keep_begin(p, w, slot);
	else if (call)
		keep_end(p, w);
	pthread_mutex_lock(&p->lock);
	end_turn(p, w->seat, &freed);
}

void
worker_end(struct pool *p, struct worker *w, struct request *r, struct answer *answer)
{
	enum stage stage = RUNS;

	request_clear(r);
	if (atomic_compare_exchange_strong(&w->stage, &stage, IDLE)) {
		bench_count(&w->bench, r, answer);
		give_answer(p, w, r, answer);
	} else {
		p->hooks.back(r);
		pthread_mutex_lock(&p->lock);
		set_returned(p, r);
	}
}

/* Lock held on entry and exit. */
static void
run(struct pool *p, struct worker *w, struct request *r)
{
	struct answer answer = { .failed = too_late(r, 0) };

	w->seat->running = r;
	w->seat->until = worker_until(p, r);
	pthread_mutex_unlock(&p->lock);
	if (answer.failed != NULL) {
		request_clear(r);
		give_answer(p, w, r, &answer);
		return;
	}
	worker_begin(w, r, now_ns());
	atomic_store(&w->stage, RUNS);	/* not before: of a deposed thread the loop writes the record */
	bench_run(&w->bench, r, &answer);
	worker_end(p, w, r, &answer);
}

/* The thread is at its end. True: the loop is to hear of it. Lock held. */
static bool
leave(struct pool *p, struct worker *w)
{
	if (w->seat->holder == w)
		return --p->running == 0;
	if (atomic_load(&w->stage) == DEPOSED)
		p->astray--;
	w->next = p->gone;
	p->gone = w;
	return true;
}

/* True: this thread is the loop now, and w another's. */
static bool
work(struct pool *p, struct worker *w)
{
	struct seat *s = w->seat;
	struct request *r;
	bool heard;

	pthread_mutex_lock(&p->lock);
	while (s->holder == w) {
		if (!keep_goes_on(p, w)) {
			pthread_mutex_unlock(&p->lock);
			keep_end(p, w);
			pthread_mutex_lock(&p->lock);
		} else if ((r = next_request(p, s)) != NULL) {
			run(p, w, r);
		} else if (p->leaving) {
			break;
		} else if (wait_for_work(p, s)) {
			pthread_mutex_unlock(&p->lock);
			return true;
		}
	}
	pthread_mutex_unlock(&p->lock);
	keep_end(p, w);
	bench_free(&w->bench);
	pthread_mutex_lock(&p->lock);
	heard = leave(p, w);
	pthread_mutex_unlock(&p->lock);
	if (heard)
		p->hooks.wake();
	return false;
}

void
worker_live(struct pool *p, struct worker *w)
{
	if (crash_stack_new() != 0)
		abort();	/* out of memory: the daemon tries again */
	while (w == NULL || work(p, w)) {
		atomic_store(&p->lead.tid, gettid());
		if ((w = p->hooks.lead()) != NULL)
			continue;
		pool_lead_done(p);
		break;
	}
	crash_stack_free();
}

static void *
begin(void *arg)
{
	struct worker *w = arg;

	worker_live(w->pool, w);
	return NULL;
}

struct worker *
worker_new(struct pool *p, struct seat *s)
{
	struct worker *w = calloc(1, sizeof(*w));

	if (w == NULL)
		return NULL;
	w->pool = p;
	w->seat = s;
	if (bench_init(&w->bench, p->driver, s->number) != 0
	    || pthread_create(&w->thread, NULL, begin, w) != 0) {
		bench_free(&w->bench);
		free(w);
		return NULL;
	}
	return w;
}
