/* SPDX-License-Identifier: MIT */
/* What a thread of the pool does: take a request, run it, give the answer back, and at its end leave. */
#include <stdlib.h>

#include "clock.h"
#include "crash.h"
#include "pool_parts.h"

/* The older of the seat's own and the shared: first come, first served. */
static struct request *
next_request(struct pool *p, struct seat *s)
{
	struct request *own = s->inbox.head, *any = p->shared.head;
	struct queue *from;

	if (own == NULL && any == NULL)
		return NULL;
	from = any == NULL || (own != NULL && own->number < any->number) ? &s->inbox : &p->shared;
	struct request *r = queue_pop(from);
	deadlines_remove(&p->deadlines, r);
	r->state = REQUEST_RUNNING;
	return r;
}

static void
wait_for_work(struct pool *p, struct seat *s)
{
	s->idle = true;
	if (++p->idle == p->threads)
		pthread_cond_signal(&p->started);
	while (s->idle && !p->leaving)
		pthread_cond_wait(&s->work, &p->lock);
	if (s->idle) {
		s->idle = false;
		p->idle--;
	}
}

/* Lock held. That thread is back: but the answer may not have left. */
static void
set_returned(struct pool *p, struct request *r)
{
	if (!r->shared)
		request_set_free(r, &p->free);
	r->shared = false;
}

/* Why a call that a worker just took out need not begin, or NULL. */
static const char *
too_late(const struct request *r)
{
	if (!r->syn)
		return NULL;
	if (atomic_load_explicit(&r->cancelled, memory_order_relaxed))
		return "cancelled";
	return r->deadline != 0 && r->deadline <= now_ns() ? "expired" : NULL;
}

static uint64_t
run_until(const struct driver *d, const struct request *r)
{
	uint64_t ns = driver_max_run(d, r->cmd);

	return ns == 0 ? 0 : now_ns() + ns;
}

/* No lock held. False: the loop has written this thread off meanwhile. */
static bool
dispatch(struct worker *w, struct request *r, struct answer *answer)
{
	enum stage stage = RUNS;

	r->record->started_at = w->bench.started_at = now_ns();
	slot_set(r->record, SLOT_RUNNING, w->seat->number);
	atomic_store(&w->stage, RUNS);	/* not before: of a deposed thread the loop writes the record */
	bench_run(&w->bench, r, answer);
	request_clear(r);
	return atomic_compare_exchange_strong(&w->stage, &stage, IDLE);
}

/* Lock held on entry and exit. */
static void
run(struct pool *p, struct worker *w, struct request *r)
{
	struct seat *s = w->seat;
	struct answer answer = { .failed = too_late(r) };
	struct queue freed = { 0 };
	bool wake;

	s->running = r;
	s->until = p->limited ? run_until(p->driver, r) : 0;
	pthread_mutex_unlock(&p->lock);
	if (answer.failed != NULL) {
		request_clear(r);
	} else if (dispatch(w, r, &answer)) {
		bench_count(&w->bench, r, &answer);
	} else {
		pthread_mutex_lock(&p->lock);
		set_returned(p, r);
		return;
	}
	if (p->hooks.done(r, &answer, &freed))
		bench_taken(&w->bench);
	pthread_mutex_lock(&p->lock);
	s->running = NULL;
	s->until = 0;
	if (p->dying == s)
		p->dying = NULL;
	p->active--;
	while ((r = queue_pop(&freed)) != NULL)
		request_set_answered(p, r);
	wake = p->starved;
	p->starved = false;
	if (wake) {
		pthread_mutex_unlock(&p->lock);
		p->hooks.wake();
		pthread_mutex_lock(&p->lock);
	}
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

static void *
work(void *arg)
{
	struct worker *w = arg;
	struct seat *s = w->seat;
	struct pool *p = w->pool;
	struct request *r;
	bool heard;

	if (crash_stack_new() != 0)
		abort();	/* out of memory: the daemon tries again */
	pthread_mutex_lock(&p->lock);
	while (s->holder == w) {
		if ((r = next_request(p, s)) != NULL)
			run(p, w, r);
		else if (p->leaving)
			break;
		else
			wait_for_work(p, s);
	}
	pthread_mutex_unlock(&p->lock);
	bench_free(&w->bench);
	crash_stack_free();
	pthread_mutex_lock(&p->lock);
	heard = leave(p, w);
	pthread_mutex_unlock(&p->lock);
	if (heard)
		p->hooks.wake();
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
	    || pthread_create(&w->thread, NULL, work, w) != 0) {
		bench_free(&w->bench);
		free(w);
		return NULL;
	}
	return w;
}
