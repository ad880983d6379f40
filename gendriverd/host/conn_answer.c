/* SPDX-License-Identifier: MIT */
/*
 * Answers to frames, behind what waits in the connection's output; and what becomes of a request that has come to its
 * end. conn_send.c sends them.
 */
#include "conn.h"
#include "frame.h"

#define COPY_BELOW 2000		/* bytes: smaller replies are copied, not handed over */

unsigned char *
conn_room(struct conn *c)
{
	unsigned char *at = c->broken ? NULL : output_room(&c->out, FRAME_SMALL);

	if (at == NULL)
		c->broken = true;
	return at;
}

void
conn_put_failed(struct conn *c, uint32_t id, const char *reason)
{
	unsigned char *at = conn_room(c);

	if (at != NULL)
		output_wrote(&c->out, frame_failed(at, id, reason));
}

void
conn_put_pong(struct conn *c, uint32_t id)
{
	unsigned char *at = conn_room(c);

	if (at != NULL)
		output_wrote(&c->out, frame_pong(at, id));
}

void
conn_put_goodbye(struct conn *c, const char *reason)
{
	unsigned char *at = conn_room(c);

	if (at != NULL)
		output_wrote(&c->out, frame_goodbye(at, reason));
}

bool
conn_put_term(struct conn *c, const void *term, size_t len, void *own)
{
	bool take = own != NULL && len >= COPY_BELOW;
	int result = take ? output_take(&c->out, term, len, own) : output_copy(&c->out, term, len);

	if (result != 0)
		c->broken = true;	/* a head without its term must not go out */
	return take && result == 0;
}

/* True: answer->own was taken. */
static bool
put_reply(struct conn *c, uint32_t id, const struct answer *answer)
{
	unsigned char *at = conn_room(c);

	if (at == NULL)
		return false;
	output_wrote(&c->out, frame_reply_head(at, id, answer->len));
	return conn_put_term(c, answer->term, answer->len, answer->own);
}

static struct conn *
lock_connection(const struct request *r)
{
	struct conn *c = &conns.slots[r->slot];

	pthread_mutex_lock(&c->lock);
	if (c->generation == r->generation)
		return c;
	pthread_mutex_unlock(&c->lock);
	return NULL;
}

/* The thread of a call may be back before the loop has answered it. */
void
conn_back(const struct request *r)
{
	struct conn *c = lock_connection(r);

	if (c == NULL)
		return;
	if (r->syn)
		c->astray--;
	else
		c->casts--;
	c->flight_bytes -= r->bytes;
	conn_attention(c);	/* if it waits for room */
	pthread_mutex_unlock(&c->lock);
}

/* Loop. */
static void
keep_back(struct conn *c)
{
	if (c->kept)
		return;
	c->kept = true;
	c->next_kept = conns.kept;
	conns.kept = c;
}

void
conns_flush(struct queue *freed)
{
	struct conn *c;

	while ((c = conns.kept) != NULL) {
		conns.kept = c->next_kept;
		c->kept = false;
		pthread_mutex_lock(&c->lock);
		conn_flush_into(c, freed);
		pthread_mutex_unlock(&c->lock);
	}
}

void
conns_flush_one(uint32_t slot, struct queue *freed)
{
	struct conn *c = &conns.slots[slot];

	pthread_mutex_lock(&c->lock);
	conn_flush_into(c, freed);
	pthread_mutex_unlock(&c->lock);
}

/* Lock held. The slot tells of r until its reply has left. */
static bool
answer_call(struct conn *c, struct request *r, struct answer *answer, struct queue *freed)
{
	bool taken = false;

	if (answer->failed != NULL)
		conn_put_failed(c, r->id, answer->failed);
	else
		taken = put_reply(c, r->id, answer);
	r->end_at = c->bytes_out + c->out.unsent;
	r->record->end_at = (uint32_t)r->end_at;
	slot_done(r->record);
	queue_push(&c->unsent, r);
	if (answer->more)
		keep_back(c);
	else if (!answer->kept)
		conn_flush_into(c, freed);
	return taken;
}

bool
conn_done(struct request *r, struct answer *answer, struct queue *freed)
{
	struct conn *c;
	bool taken = false;

	if ((c = lock_connection(r)) == NULL) {
		queue_push(freed, r);
		return false;
	}
	if (answer->astray) {
		c->astray += r->syn;
	} else {
		c->casts -= !r->syn;
		c->flight_bytes -= r->bytes;
	}
	if (!r->syn) {
		conn_attention(c);	/* if it waits for room */
		queue_push(freed, r);
	} else if (ids_remove(&c->calls, r))	/* else it was given up already */
		taken = answer_call(c, r, answer, freed);
	else
		queue_push(freed, r);
	pthread_mutex_unlock(&c->lock);
	return taken;
}

void
conn_fail(struct request *r, const char *reason)
{
	struct conn *c = lock_connection(r);

	if (c != NULL) {
		ids_remove(&c->calls, r);
		c->flight_bytes -= r->bytes;
		conn_put_failed(c, r->id, reason);
		conn_flush(c);
		pthread_mutex_unlock(&c->lock);
	}
	pool_give(conns.pool, r);
	conns.fed = true;
}
