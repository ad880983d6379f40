/* SPDX-License-Identifier: MIT */
/*
 * A pool without threads, in place of pool.c: requests wait until run_one, which answers a call with its own
 * params. All of them come back, or pool_check says so.
 */
#ifndef FAKE_POOL_H
#define FAKE_POOL_H

#include <stdlib.h>
#include <string.h>

#include "conn.h"
#include "running.h"

#define REQUESTS 16

static struct request requests[REQUESTS];
static struct queue spare, waiting;
static bool hungry;		/* pool_take came back with none */
static bool time_is_up;		/* of all that have a deadline */

static inline void
pool_begin(void)
{
	for (uint32_t i = 0; i < REQUESTS; i++) {
		requests[i].record = recorder_slot(i);
		recorder_use(i);
		queue_push(&spare, &requests[i]);
	}
}

static inline void
pool_check(void)
{
	if (spare.len != REQUESTS || waiting.len != 0)
		abort();
}

struct request *
pool_take(struct pool *p, uint32_t own)
{
	struct request *r = queue_pop(&spare);

	(void)p, (void)own;
	hungry |= r == NULL;
	return r;
}

static void
set_free(struct request *r)
{
	r->state = REQUEST_FREE;
	slot_set(r->record, SLOT_FREE, 0);
	queue_push(&spare, r);
}

void
pool_give(struct pool *p, struct request *r)
{
	(void)p;
	request_clear(r);
	set_free(r);
}

void
pool_answered(struct pool *p, struct queue *freed)
{
	struct request *r;

	(void)p;
	while ((r = queue_pop(freed)) != NULL)
		set_free(r);
}

void
pool_submit(struct pool *p, struct queue *batch)
{
	struct request *r;

	(void)p;
	while ((r = queue_pop(batch)) != NULL) {
		r->state = REQUEST_QUEUED;
		r->record->check = slot_check(r->record);
		slot_set(r->record, SLOT_QUEUED, 0);
		queue_push(&waiting, r);
	}
}

bool
pool_withdraw(struct pool *p, struct request *r)
{
	(void)p;
	if (r->state != REQUEST_QUEUED)
		return false;
	queue_remove(&waiting, r);
	r->state = REQUEST_FREE;
	return true;
}

/* Calls that wait, all or those with a deadline, to `out`. */
static void
withdraw(struct queue *out, bool all)
{
	struct request *next;

	for (struct request *r = waiting.head; r != NULL; r = next) {
		next = r->next;
		if (r->syn && (all || r->deadline != 0) && pool_withdraw(NULL, r))
			queue_push(out, r);
	}
}

void
pool_expired(struct pool *p, uint64_t now, struct queue *out)
{
	(void)p, (void)now;
	withdraw(out, false);
	time_is_up = false;
}

void
pool_withdraw_calls(struct pool *p, struct queue *out)
{
	(void)p;
	withdraw(out, true);
}

uint64_t
pool_next_deadline(struct pool *p)
{
	(void)p;
	return time_is_up ? 1 : 0;
}

/* Nobody waits here: a part is sent only where there is room. */
uint64_t
pool_pause(struct pool *p, const struct request *r, unsigned seat)
{
	(void)p, (void)r, (void)seat;
	abort();
}

void
pool_resume(struct pool *p, const struct request *r, unsigned seat, uint64_t left)
{
	(void)p, (void)r, (void)seat, (void)left;
	abort();
}

bool
driver_balance(const struct driver *d, const struct request *r, unsigned *key)
{
	(void)d, (void)key;
	return r->keyed;
}

/* While there is credit and room; at most 3. */
static void
send_parts(struct request *r)
{
	const struct conn *c = &conns.slots[r->slot];
	gd_out part;

	gd_out_init(&part, 1024);
	running_set(r, 0);
	for (int i = 0; i < 3 && gd_takes_parts() && !gd_cancelled() && c->generation == r->generation
	    && r->credit > 0 && c->out.unsent <= conns.start->limits.unsent_bytes; i++) {
		gd_put_i64(&part, i);
		if (gd_part(&part) != 0 && !c->broken)
			abort();
	}
	running_set(NULL, 0);
	gd_out_free(&part);
}

/* Run the one that waits longest; false: none. */
static inline bool
run_one(void)
{
	struct request *r = queue_pop(&waiting);
	struct answer answer = { 0 };
	struct queue freed = { 0 };

	if (r == NULL)
		return false;
	r->state = REQUEST_RUNNING;
	slot_set(r->record, SLOT_RUNNING, 0);
	if (atomic_load(&r->cancelled))
		answer.failed = "cancelled";
	else
		send_parts(r);
	answer.len = r->params_len;
	answer.own = malloc(r->params_len);
	memcpy(answer.own, r->params, r->params_len);
	answer.term = answer.own;
	request_clear(r);
	if (!conn_done(r, &answer, &freed))
		free(answer.own);
	pool_answered(NULL, &freed);
	return true;
}

#endif
