/* SPDX-License-Identifier: MIT */
/*
 * The worker pool of worker.h. One file, and so a long one: everything in it changes
 * what one lock guards.
 */
#include <pthread.h>
#include <stdlib.h>

#include "clock.h"
#include "crash.h"
#include "worker.h"

#define LOOP_CACHE 32	/* free requests that the loop keeps at hand */
#define PUT_DOWN 1000000000ull	/* ns that a thread has to die of SIGABRT */
#define LOOK_MOST 100000000ull	/* ns between two looks, at most and at least */
#define LOOK_LEAST 1000000ull

struct seat {
	struct pool *pool;
	unsigned number;
	pthread_t thread;
	pthread_cond_t work;	/* pool lock: idle became false, or leaving */
	bool idle;		/* pool lock */
	struct request *running;	/* pool lock */
	bool put_down;		/* pool lock: it was told to die */
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
	unsigned running;	/* threads alive */
	pthread_cond_t started;	/* all of them wait for work */
	bool starved;		/* pool_take found nothing */
	bool leaving;
	bool limited;		/* constant: requests may not run for ever */

	uint64_t submitted;	/* loop: numbers given out */
	struct queue cache;	/* loop */

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

/* Lock held on entry and exit. */
static void
run(struct pool *p, struct seat *s, struct bench *bench, struct request *r)
{
	struct answer answer = { .failed = too_late(r) };
	struct queue freed = { 0 };
	bool wake;

	s->running = r;
	s->put_down = false;
	s->until = p->limited ? run_until(p->driver, r) : 0;
	pthread_mutex_unlock(&p->lock);
	if (answer.failed == NULL)
		bench_run(bench, r, &answer);
	request_clear(r);
	if (p->hooks.done(r, &answer, &freed))
		bench_taken(bench);
	pthread_mutex_lock(&p->lock);
	s->running = NULL;
	s->until = 0;
	p->active--;
	while ((r = queue_pop(&freed)) != NULL)
		set_free(r, &p->free);
	wake = p->starved;
	p->starved = false;
	if (wake) {
		pthread_mutex_unlock(&p->lock);
		p->hooks.wake();
		pthread_mutex_lock(&p->lock);
	}
}

static void *
worker(void *arg)
{
	struct seat *s = arg;
	struct pool *p = s->pool;
	struct request *r;
	struct bench bench;
	bool last;

	if (bench_init(&bench, p->driver, s->number) != 0 || crash_stack_new() != 0)
		abort();	/* at start, out of memory: the daemon tries again */
	pthread_mutex_lock(&p->lock);
	for (;;) {
		if ((r = next_request(p, s)) != NULL)
			run(p, s, &bench, r);
		else if (p->leaving)
			break;
		else
			wait_for_work(p, s);
	}
	pthread_mutex_unlock(&p->lock);
	bench_free(&bench);
	crash_stack_free();
	pthread_mutex_lock(&p->lock);
	last = --p->running == 0;
	pthread_mutex_unlock(&p->lock);
	if (last)
		p->hooks.wake();
	return NULL;
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
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->started, NULL);
	if (make_requests(p, recorder_slots(queue, threads)) != 0)
		goto fail;
	for (unsigned i = 0; i < threads; i++) {
		struct seat *s = &p->seats[i];
		s->pool = p;
		s->number = i;
		pthread_cond_init(&s->work, NULL);
		if (pthread_create(&s->thread, NULL, worker, s) != 0)
			goto fail;
		pthread_mutex_lock(&p->lock);
		p->running++;
		pthread_mutex_unlock(&p->lock);
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
		set_free(r, &p->free);
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

/* Lock held. A seat whose request has run too long, or NULL. */
static struct seat *
overdue(struct pool *p, uint64_t now)
{
	for (unsigned i = 0; i < p->threads; i++)
		if (p->seats[i].until != 0 && p->seats[i].until <= now)
			return &p->seats[i];
	return NULL;
}

uint64_t
pool_watch(struct pool *p, uint64_t now)
{
	uint64_t every = p->driver->shortest_run / 8;
	struct seat *s;
	bool busy;

	if (!p->limited)
		return 0;
	pthread_mutex_lock(&p->lock);
	busy = p->active > p->cache.len;
	if ((s = overdue(p, now)) != NULL) {
		uint32_t slot = slot_index(s->running->record);
		if (s->put_down)
			crash_kill(slot);
		s->put_down = true;
		s->until = now + PUT_DOWN;
		crash_put_down(s->thread, slot);
	}
	pthread_mutex_unlock(&p->lock);
	every = every > LOOK_MOST ? LOOK_MOST : every < LOOK_LEAST ? LOOK_LEAST : every;
	return busy ? now + every : 0;
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

void
pool_free(struct pool *p)
{
	for (unsigned i = 0; i < p->threads; i++)
		pthread_join(p->seats[i].thread, NULL);
	deadlines_free(&p->deadlines);
	free(p->requests);
	free(p);
}
