/* SPDX-License-Identifier: MIT */
/* Calls and casts to requests: what bounds them, what a request is told, whose buffer its params lie in. Loop thread. */
#include "conn.h"
#include "envelope.h"
#include "frame.h"

#define KEEP_BUFFER 4096	/* params larger than this keep their frame's buffer */

/* Lock held. */
static bool
over_bytes(const struct conn *c, size_t bytes)
{
	return c->flight_bytes + bytes > conns.start->limits.in_flight_bytes;
}

/* Calls that were answered as their threads were written off count until these are back. Lock held. */
static uint32_t
calls_of(const struct conn *c)
{
	return (uint32_t)c->calls.len + (uint32_t)c->astray;
}

/* A cast that is larger than all that may be in flight goes alone. Lock held. */
static bool
cast_fits(struct conn *c, size_t bytes)
{
	if (c->flight_bytes == 0 || !over_bytes(c, bytes))
		return true;
	c->watched = true;	/* whoever ends a request calls for attention */
	return false;
}

static void
set_options(struct request *r, struct conn *c, const struct envelope *e, bool syn)
{
	unsigned key = e->has_key ? e->key : (unsigned)c->number;

	r->record->conn = c->number;
	r->record->id = e->id;
	r->record->cmd = (uint32_t)e->cmd;
	r->record->flags = syn ? SLOT_CALL | (e->parts > 0 ? SLOT_PARTS : 0) : 0;
	r->record->started_at = 0;
	r->record->queued_at = conns.taken_at;
	r->slot = c->slot;
	r->generation = c->generation;
	r->cmd = e->cmd;
	r->entry = (unsigned char)stats_entry_of(e->cmd);
	r->syn = syn;
	r->id = e->id;
	r->takes_parts = syn && e->parts > 0;
	r->credit = e->parts;
	r->deadline = syn && e->has_timeout ? r->record->queued_at + e->timeout_ms * 1000000ull : 0;
	r->record->deadline = r->deadline;
	r->heap_at = 0;
	atomic_store_explicit(&r->cancelled, false, memory_order_relaxed);
	r->keyed = e->has_key;
	r->keyed = driver_balance(conns.driver, r, &key);
	r->key = key;
}

/* Params that are large and lie in the stash keep it as their buffer. */
static unsigned char *
buffer_to_keep(struct conn *c, const unsigned char *frame, size_t len, const struct envelope *e)
{
	unsigned char *own = c->stash;

	if (own == NULL || frame != own + FRAME_HEAD || FRAME_HEAD + len != c->stash_len)
		return NULL;
	return e->params != NULL && e->params_len > KEEP_BUFFER ? own : NULL;
}

enum taken
conn_take_call(struct conn *c, const unsigned char *frame, size_t len, const struct envelope *e,
    struct queue *batch)
{
	struct request *r;
	unsigned char *own = NULL;
	enum taken code = TAKEN;
	int added;

	c->calls_read++;
	pthread_mutex_lock(&c->lock);
	if ((r = pool_take(conns.pool, calls_of(c) + c->casts)) != NULL) {
		set_options(r, c, e, true);
		r->bytes = len;
	}
	added = r == NULL || calls_of(c) >= conns.start->limits.in_flight || over_bytes(c, len)
	    ? IDS_NOMEM : ids_add(&c->calls, r);
	if (added == IDS_TAKEN || (added != 0 && ids_find(&c->calls, e->id) != NULL)) {
		code = ENDED;
	} else if (added != 0) {
		conn_put_failed(c, e->id, "overloaded");
	} else {
		own = buffer_to_keep(c, frame, len, e);
		if (request_set_params(r, e->params, e->params_len, own) == 0) {
			c->flight_bytes += len;
			queue_push(batch, r);
			r = NULL;
		} else {
			ids_remove(&c->calls, r);
			conn_put_failed(c, e->id, "overloaded");
		}
	}
	pthread_mutex_unlock(&c->lock);
	if (own != NULL)
		c->stash = NULL;
	if (r != NULL)
		pool_give(conns.pool, r);
	if (code == ENDED)
		conn_close_with(c, "duplicate_id");
	return code;
}

/* A request for a cast of so many bytes, which then counts as in flight; NULL: it has to wait. */
static struct request *
request_for_cast(struct conn *c, size_t len)
{
	struct request *r;

	pthread_mutex_lock(&c->lock);
	if ((r = pool_take(conns.pool, calls_of(c) + c->casts)) != NULL && !cast_fits(c, len)) {
		pool_give(conns.pool, r);
		r = NULL;
	}
	if (r != NULL) {
		c->casts++;
		c->flight_bytes += len;
	}
	pthread_mutex_unlock(&c->lock);
	return r;
}

enum taken
conn_take_cast(struct conn *c, const unsigned char *frame, size_t len, const struct envelope *e,
    struct queue *batch)
{
	struct request *r = request_for_cast(c, len);
	unsigned char *own;

	if (r == NULL)
		return STARVED;
	own = buffer_to_keep(c, frame, len, e);
	set_options(r, c, e, false);
	r->bytes = len;
	if (request_set_params(r, e->params, e->params_len, own) != 0) {
		pool_give(conns.pool, r);
		return ENDED;		/* out of memory */
	}
	if (own != NULL)
		c->stash = NULL;
	c->casts_read++;
	queue_push(batch, r);
	return TAKEN;
}
