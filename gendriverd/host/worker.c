/* SPDX-License-Identifier: MIT */
/*
 * The worker pool of worker.h. One file, and so a long one: everything in it changes
 * what one lock guards.
 */
#include <pthread.h>
#include <stdlib.h>

#include "clock.h"
#include "crash.h"
#include "log.h"
#include "worker.h"

#define LOOP_CACHE 32	/* free requests that the loop keeps at hand */
#define PUT_DOWN 1000000000ull	/* ns that a thread has to die of SIGABRT */
#define LOOK_AGAIN 5000000ull	/* ns, for what is a matter of microseconds */

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
	struct queue free;
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
	struct seat seats[];
};

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

static void
set_free(struct request *r, struct queue *list)
{
	r->state = REQUEST_FREE;
	slot_set(r->record, SLOT_FREE, 0);
	queue_push(list, r);
}

/* Lock held. Its answer has left, or there is none: but a thread that was written off may still run it. */
static void
set_answered(struct pool *p, struct request *r)
{
	if (!r->shared) {
		set_free(r, &p->free);
		return;
	}
	r->shared = false;
	r->record->flags |= SLOT_TOLD;
}

/* Lock held. That thread is back: but the answer may not have left. */
static void
set_returned(struct pool *p, struct request *r)
{
	if (!r->shared)
		set_free(r, &p->free);
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
		set_answered(p, r);
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

/* A thread for this seat; it leaves at once if it is not made the holder before the lock is
 * given up. NULL: no memory or no threads to be had. Lock held. */
static struct worker *
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

static int
make_requests(struct pool *p, uint32_t n)
{
	if ((p->requests = calloc(n, sizeof(*p->requests))) == NULL)
		return -1;
	for (uint32_t i = 0; i < n; i++) {
		p->requests[i].record = recorder_slot(i);
		queue_push(&p->free, &p->requests[i]);
	}
	return deadlines_init(&p->deadlines, n);
}

struct pool *
pool_new(const struct driver *d, const struct start *start, struct pool_hooks hooks)
{
	uint32_t threads = start->threads, queue = start->limits.queue;
	struct pool *p = calloc(1, sizeof(*p) + threads * sizeof(p->seats[0]));

	if (p == NULL)
		return NULL;
	p->driver = d;
	p->hooks = hooks;
	p->threads = threads;
	p->most = queue + threads + LOOP_CACHE;
	p->limited = d->shortest_run != 0;
	p->max_abandoned = start->max_abandoned;
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->started, NULL);
	if (make_requests(p, recorder_slots(queue, threads)) != 0)
		goto fail;
	for (unsigned i = 0; i < threads; i++) {
		struct seat *s = &p->seats[i];
		s->number = i;
		pthread_cond_init(&s->work, NULL);
		pthread_mutex_lock(&p->lock);
		if ((s->holder = worker_new(p, s)) != NULL)
			p->running++;
		pthread_mutex_unlock(&p->lock);
		if (s->holder == NULL)
			goto fail;
	}
	pthread_mutex_lock(&p->lock);
	while (p->idle < p->threads)
		pthread_cond_wait(&p->started, &p->lock);
	pthread_mutex_unlock(&p->lock);
	return p;
fail:
	p->threads = p->running;
	pool_leave(p);
	pool_free(p);
	return NULL;
}

struct request *
pool_take(struct pool *p)
{
	if (p->cache.head == NULL) {
		pthread_mutex_lock(&p->lock);
		for (; p->cache.len < LOOP_CACHE && p->active < p->most && p->free.head != NULL; p->active++)
			queue_push(&p->cache, queue_pop(&p->free));
		p->starved = p->cache.head == NULL;
		pthread_mutex_unlock(&p->lock);
	}
	return queue_pop(&p->cache);
}

void
pool_give(struct pool *p, struct request *r)
{
	request_clear(r);
	set_free(r, &p->cache);
}

void
pool_answered(struct pool *p, struct queue *freed)
{
	struct request *r;

	bool wake;

	pthread_mutex_lock(&p->lock);
	while ((r = queue_pop(freed)) != NULL)
		set_answered(p, r);
	wake = p->starved;
	p->starved = false;
	pthread_mutex_unlock(&p->lock);
	if (wake)
		p->hooks.wake();
}

/* An idle seat in turn, or NULL. Lock held. */
static struct seat *
idle_seat(struct pool *p)
{
	if (p->idle == 0)
		return NULL;
	while (!p->seats[p->turn].idle)
		p->turn = (p->turn + 1) % p->threads;
	struct seat *s = &p->seats[p->turn];
	p->turn = (p->turn + 1) % p->threads;
	return s;
}

/* Put r where it waits. The idle seat to wake, or NULL. A request without a key is
 * handed to an idle seat in turn: round robin, and nobody is woken for nothing. */
static struct seat *
enqueue(struct pool *p, struct request *r)
{
	struct seat *s = r->keyed ? &p->seats[r->key % p->threads] : idle_seat(p);

	r->state = REQUEST_QUEUED;
	r->record->number = r->number = ++p->submitted;
	r->record->check = slot_check(r->record);
	slot_set(r->record, SLOT_QUEUED, 0);
	if (r->syn && r->deadline != 0)
		deadlines_add(&p->deadlines, r);
	r->queue = s != NULL ? &s->inbox : &p->shared;
	queue_push(r->queue, r);
	return s != NULL && s->idle ? s : NULL;
}

void
pool_submit(struct pool *p, struct queue *batch)
{
	struct seat *woken[64], *s;
	struct request *r;
	size_t n;

	while (batch->head != NULL) {
		n = 0;
		pthread_mutex_lock(&p->lock);
		while (n < 64 && (r = queue_pop(batch)) != NULL) {
			if ((s = enqueue(p, r)) == NULL)
				continue;
			s->idle = false;
			p->idle--;
			woken[n++] = s;
		}
		pthread_mutex_unlock(&p->lock);
		while (n > 0)
			pthread_cond_signal(&woken[--n]->work);
	}
}

/* Lock held: r is queued. */
static void
take_out(struct pool *p, struct request *r)
{
	deadlines_remove(&p->deadlines, r);
	queue_remove(r->queue, r);
	r->state = REQUEST_FREE;
}

bool
pool_withdraw(struct pool *p, struct request *r)
{
	bool queued;

	pthread_mutex_lock(&p->lock);
	if ((queued = r->state == REQUEST_QUEUED))
		take_out(p, r);
	pthread_mutex_unlock(&p->lock);
	return queued;
}

void
pool_expired(struct pool *p, uint64_t now, struct queue *out)
{
	struct request *r;

	pthread_mutex_lock(&p->lock);
	while ((r = deadlines_first(&p->deadlines)) != NULL && r->deadline <= now) {
		take_out(p, r);
		queue_push(out, r);
	}
	pthread_mutex_unlock(&p->lock);
}

static void
withdraw_calls(struct pool *p, struct queue *from, struct queue *out)
{
	struct request *r, *next;

	for (r = from->head; r != NULL; r = next) {
		next = r->next;
		if (!r->syn)
			continue;
		take_out(p, r);
		queue_push(out, r);
	}
}

void
pool_withdraw_calls(struct pool *p, struct queue *out)
{
	pthread_mutex_lock(&p->lock);
	withdraw_calls(p, &p->shared, out);
	for (unsigned i = 0; i < p->threads; i++)
		withdraw_calls(p, &p->seats[i].inbox, out);
	pthread_mutex_unlock(&p->lock);
}

uint64_t
pool_next_deadline(struct pool *p)
{
	struct request *first;
	uint64_t deadline = 0;

	pthread_mutex_lock(&p->lock);
	if ((first = deadlines_first(&p->deadlines)) != NULL)
		deadline = first->deadline;
	pthread_mutex_unlock(&p->lock);
	return deadline;
}

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
	struct answer answer = { .failed = "timeout" };
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
			log_worker(p, GD_WARNING, "worker_abandoned", lost);
		}
	} while (gone != NULL || r != NULL);
	return again;
}

void
pool_leave(struct pool *p)
{
	pthread_mutex_lock(&p->lock);
	p->leaving = true;
	for (unsigned i = 0; i < p->threads; i++)
		pthread_cond_signal(&p->seats[i].work);
	pthread_mutex_unlock(&p->lock);
}

bool
pool_left(struct pool *p)
{
	bool left;

	pthread_mutex_lock(&p->lock);
	left = p->running == 0;
	pthread_mutex_unlock(&p->lock);
	return left;
}

static void
join(struct worker *w)
{
	pthread_join(w->thread, NULL);
	free(w);
}

bool
pool_free(struct pool *p)
{
	struct worker *w, *gone;
	bool deserted;

	for (unsigned i = 0; i < p->threads; i++)
		join(p->seats[i].holder);
	pthread_mutex_lock(&p->lock);
	gone = p->gone;
	p->gone = NULL;
	deserted = p->astray > 0;
	pthread_mutex_unlock(&p->lock);
	while ((w = gone) != NULL) {
		gone = w->next;
		join(w);
	}
	if (deserted)
		return false;
	deadlines_free(&p->deadlines);
	free(p->requests);
	free(p);
	return true;
}
