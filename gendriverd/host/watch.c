/* SPDX-License-Identifier: MIT */
/*
 * Requests that run too long: their thread is written off, and its seat given to another; or
 * it is told to take the process down. pool.h says who answers. Only while it waits for its caller
 * to take a part does a request's time stand still.
 */
#include <stdlib.h>

#include "clock.h"
#include "crash.h"
#include "log.h"
#include "pool_parts.h"

#define PUT_DOWN 1000000000ull	/* ns that a thread has to die of SIGABRT */
#define LOOK_AGAIN 5000000ull	/* ns, for what is a matter of microseconds */

/* The thread of this seat is to take the process down; one at a time, or they were taken for
 * one another. Lock held. */
static void
put_down(struct pool *p, struct seat *s, uint64_t now)
{
	uint32_t slot = slot_index(s->running->record);

	if (p->dying == s)
		crash_kill(slot);
	p->dying = s;
	s->until = now + PUT_DOWN;
	crash_put_down(s->holder->thread, slot);
}

/* Give the seat to `next`. The thread that held it. Lock held. */
static struct worker *
depose(struct pool *p, struct seat *s, struct worker *next)
{
	struct worker *w = s->holder;
	struct request *r = s->running;

	w->cmd = r->cmd;
	w->request = r->number;
	r->shared = true;
	r->record->flags |= SLOT_ABANDONED;
	atomic_store(&r->cancelled, true);
	s->holder = next;
	s->running = NULL;
	s->until = 0;
	p->active--;
	p->astray++;
	p->abandoned++;
	return w;
}

/* The request of this seat has run too long. The request that is to be answered now, and the thread that
 * still runs it; or NULL. Lock held. */
static struct request *
hangs(struct pool *p, struct seat *s, uint64_t now, struct worker **lost)
{
	struct worker *next = NULL;
	struct request *r = s->running;
	enum stage stage = RUNS;

	if (p->dying != NULL && p->dying != s)
		return NULL;
	if (p->max_abandoned > 0 && atomic_load(&s->holder->stage) != RUNS)
		return NULL;
	if (p->dying == NULL && p->abandoned < p->max_abandoned)
		next = worker_new(p, s);
	if (next == NULL)
		put_down(p, s, now);
	else if (atomic_compare_exchange_strong(&s->holder->stage, &stage, DEPOSED)) {
		*lost = depose(p, s, next);
		return r;
	}
	return NULL;
}

/* The first request that hangs and is to be answered, or NULL and when to look again. A request that
 * begins after this look has its time from then on. Lock held. */
static struct request *
look(struct pool *p, uint64_t now, uint64_t *again, struct worker **lost)
{
	struct request *r;

	*again = now + p->driver->shortest_run;
	for (unsigned i = 0; i < p->threads; i++) {
		struct seat *s = &p->seats[i];
		if (s->until == 0)
			continue;
		if (s->until <= now && (r = hangs(p, s, now, lost)) != NULL)
			return r;
		uint64_t until = s->until > now ? s->until : now + LOOK_AGAIN;
		*again = until < *again ? until : *again;
	}
	if (p->gone != NULL && now + LOOK_AGAIN < *again)
		*again = now + LOOK_AGAIN;
	else if (p->gone == NULL && p->active <= p->cache.len)
		*again = 0;
	return NULL;
}

static void
log_worker(struct pool *p, enum gd_level level, const char *event, const struct worker *w)
{
	const struct log_number numbers[] = {
		{ "worker", w->seat->number }, { "command", (uint64_t)w->cmd },
		{ "request", w->request }, { "abandoned", p->abandoned },
	};

	log_numbers(level, event, numbers, sizeof(numbers) / sizeof(numbers[0]));
}

/* No lock held. */
static void
answer_timeout(struct pool *p, struct request *r)
{
	struct answer answer = { .failed = "timeout", .astray = true };
	struct queue freed = { 0 };

	p->hooks.done(r, &answer, &freed);
	pool_answered(p, &freed);
}

/* One of the threads at their end, joined, or NULL. Never waits: the driver may have its own ideas of
 * how long a thread takes to end. Lock held. */
static struct worker *
join_gone(struct pool *p)
{
	struct worker **at, *w;

	for (at = &p->gone; (w = *at) != NULL; at = &w->next)
		if (pthread_tryjoin_np(w->thread, NULL) == 0) {
			*at = w->next;
			return w;
		}
	return NULL;
}

static void
bury(struct pool *p, struct worker *w)
{
	if (atomic_load(&w->stage) == DEPOSED) {
		p->abandoned--;
		log_worker(p, GD_INFO, "worker_back", w);
	}
	free(w);
}

uint64_t
pool_pause(struct pool *p, const struct request *r, unsigned seat)
{
	struct seat *s = &p->seats[seat];
	uint64_t now, left = 0;

	if (!p->limited)
		return 0;
	now = now_ns();
	pthread_mutex_lock(&p->lock);
	if (s->running == r && s->until != 0 && p->dying != s) {
		left = s->until > now ? s->until - now : 1;
		s->until = 0;
	}
	pthread_mutex_unlock(&p->lock);
	return left;
}

void
pool_resume(struct pool *p, const struct request *r, unsigned seat, uint64_t left)
{
	struct seat *s = &p->seats[seat];

	if (left == 0)
		return;
	pthread_mutex_lock(&p->lock);
	if (s->running == r)
		s->until = now_ns() + left;
	pthread_mutex_unlock(&p->lock);
}

uint64_t
pool_watch(struct pool *p, uint64_t now)
{
	struct worker *lost, *gone;
	struct request *r;
	uint64_t again = 0;

	if (!p->limited)
		return 0;
	do {
		pthread_mutex_lock(&p->lock);
		gone = join_gone(p);
		r = gone == NULL ? look(p, now, &again, &lost) : NULL;
		pthread_mutex_unlock(&p->lock);
		if (gone != NULL)
			bury(p, gone);
		if (r != NULL) {
			answer_timeout(p, r);
			keep_end(p, lost);
			log_worker(p, GD_WARNING, "worker_abandoned", lost);
		}
	} while (gone != NULL || r != NULL);
	return again;
}
