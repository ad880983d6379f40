/* SPDX-License-Identifier: MIT */
/* What is asked of the pool of pool.h: requests in and out of its queues, its beginning and its end. */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "pool_parts.h"

/* Their memory is touched when they are needed, not before. */
static int
make_requests(struct pool *p, uint32_t n)
{
	if ((p->requests = calloc(n, sizeof(*p->requests))) == NULL)
		return -1;
	p->made = n;
	return deadlines_init(&p->deadlines, n);
}

struct pool *
pool_new(const struct driver *d, const struct start *start, struct pool_hooks hooks)
{
	uint32_t threads = start->threads, queue = start->limits.queue, slots = start->limits.connections;
	uint32_t requests = recorder_slots(queue, threads, slots);
	struct pool *p = calloc(1, sizeof(*p) + threads * sizeof(p->seats[0]));

	if (p == NULL)
		return NULL;
	p->driver = d;
	p->hooks = hooks;
	p->threads = threads;
	p->queue = queue;
	p->most = queue + threads + REFILL;
	p->reserve = slots;
	p->limited = d->shortest_run != 0;
	p->max_abandoned = start->max_abandoned;
	p->lead.allowed = start->short_ns != 0 && threads > 1 && !d->legacy && !(d->table.flags & GD_THREAD_BOUND);
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->started, NULL);
	if (lead_open(&p->lead) != 0 || make_requests(p, requests) != 0
	    || lanes_init(&p->lanes, requests, slots) != 0 || lanes_init(&p->lead.lanes, requests, slots) != 0)
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

void
pool_give(struct pool *p, struct request *r)
{
	request_clear(r);
	request_set_free(r, &p->cache);
}

void
pool_answered(struct pool *p, struct queue *freed)
{
	struct request *r;

	bool wake;

	pthread_mutex_lock(&p->lock);
	while ((r = queue_pop(freed)) != NULL)
		request_set_answered(p, r);
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
	if (r->syn && r->deadline != 0)
		deadlines_add(&p->deadlines, r);
	lanes_push(&p->lanes, s != NULL ? &s->inbox : &p->shared, r);
	count_waiting(p, 1);
	return s != NULL && s->idle ? s : NULL;
}

void
pool_enqueue(struct pool *p, struct queue *batch)
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

void
pool_submit(struct pool *p, struct queue *batch)
{
	struct queue rest = { 0 };
	struct request *r, *next;

	for (r = batch->head; r != NULL; r = next) {
		next = r->next;
		r->record->number = r->number = ++p->submitted;
		r->record->check = slot_check(r->record);
		slot_set(r->record, SLOT_QUEUED, 0);
		if (!lead_wants(p, r))
			queue_push(&rest, r);
	}
	*batch = (struct queue){ 0 };
	pool_enqueue(p, &rest);
}

static void *
begin_loop(void *pool)
{
	worker_live(pool, NULL);
	return NULL;
}

int
pool_serve(struct pool *p)
{
	int failure;

	pthread_mutex_lock(&p->lock);
	failure = pthread_create(&p->lead.thread, NULL, begin_loop, p);
	pthread_mutex_unlock(&p->lock);
	if ((errno = failure) != 0)
		return -1;
	pool_stand_by(p);
	pthread_join(p->lead.thread, NULL);
	return 0;
}

/* Lock held: r is queued. */
static void
take_out(struct pool *p, struct request *r)
{
	deadlines_remove(&p->deadlines, r);
	lanes_remove(&p->lanes, r);
	count_waiting(p, -1);
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
withdraw_calls(struct pool *p, struct place *from, struct queue *out)
{
	struct request *r, *next;
	struct lane *l, *after;

	for (l = from->first; l != NULL; l = after) {
		after = l->next;	/* l ends with its last request */
		for (r = l->waiting.head; r != NULL; r = next) {
			next = r->next;
			if (!r->syn)
				continue;
			take_out(p, r);
			queue_push(out, r);
		}
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

void
pool_leave(struct pool *p)
{
	lead_pass_on(p);	/* casts: who is there yet runs them */
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
	close(p->lead.timer);
	deadlines_free(&p->deadlines);
	lanes_free(&p->lanes);
	lanes_free(&p->lead.lanes);
	free(p->requests);
	free(p);
	return true;
}
