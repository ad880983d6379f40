/* SPDX-License-Identifier: MIT */
/*
 * Frames to messages. Every frame is validated as a whole before anything is done
 * with it; one that is large in turns, so that it holds up nobody else. What it may
 * ask for becomes a request (conn_request.c). Loop thread.
 */
#include "clock.h"
#include "conn.h"
#include "envelope.h"
#include "frame.h"
#include "log.h"
#include "quarantine.h"

#ifndef TURN_TERMS		/* fuzzers have it small */
#define TURN_TERMS 20000	/* validated a turn: well under a millisecond */
#endif

/* What is queued in this very turn must be in the pool before it is looked for. */
static void
take_cancel(struct conn *c, uint32_t id, struct queue *batch)
{
	struct request *r;

	pool_submit(conns.pool, batch);
	pthread_mutex_lock(&c->lock);
	if ((r = ids_find(&c->calls, id)) != NULL) {
		atomic_store(&r->cancelled, true);
		if (!pool_withdraw(conns.pool, r)) {
			r = NULL;
			conn_stir(c);
		}
	}
	pthread_mutex_unlock(&c->lock);
	if (r != NULL)
		conn_fail(r, "cancelled");
}

/* n more parts may be sent for this call, if it takes any. */
static void
take_credit(struct conn *c, uint32_t id, uint32_t n)
{
	struct request *r;

	pthread_mutex_lock(&c->lock);
	if ((r = ids_find(&c->calls, id)) != NULL && r->takes_parts) {
		r->credit = n < UINT32_MAX - r->credit ? r->credit + n : UINT32_MAX;
		conn_stir(c);
	}
	pthread_mutex_unlock(&c->lock);
}

static void
take_notes(struct conn *c, bool wanted)
{
	pthread_mutex_lock(&c->lock);
	c->notes = wanted && !c->last;
	pthread_mutex_unlock(&c->lock);
}

static void
answer_pong(struct conn *c, uint32_t id)
{
	pthread_mutex_lock(&c->lock);
	conn_put_pong(c, id);
	pthread_mutex_unlock(&c->lock);
}

static enum taken
refuse_call(struct conn *c, uint32_t id, const char *reason)
{
	bool taken;

	pthread_mutex_lock(&c->lock);
	if (!(taken = ids_find(&c->calls, id) != NULL))
		conn_put_failed(c, id, reason);
	pthread_mutex_unlock(&c->lock);
	if (!taken)
		return TAKEN;
	conn_close_with(c, "duplicate_id");
	return ENDED;
}

/* Casts that are not run for one reason. Loop. */
struct dropped {
	const char *event;
	uint64_t casts;		/* since they were last logged */
	uint64_t said_at;	/* ns */
};

/* Nobody hears of it, so it is logged, now and then. */
static void
drop_cast(struct dropped *d, const struct conn *c, int cmd)
{
	uint64_t now = now_ns();

	d->casts++;
	if (d->said_at != 0 && now - d->said_at < 1000000000)
		return;
	const struct log_number numbers[] = {
		{ "command", (uint64_t)cmd }, { "conn", c->number }, { "casts", d->casts },
	};
	log_numbers(GD_WARNING, d->event, numbers, 3);
	d->said_at = now;
	d->casts = 0;
}

/* The word for a request that is not to run here, or NULL. */
static const char *
barred(const struct conn *c, const struct envelope *e)
{
	if (!allowed_has(c->allowed, e->cmd))
		return "forbidden";
	return quarantine_holds(e->cmd, e->params, e->params_len) ? "quarantined" : NULL;
}

static void
bar_cast(const struct conn *c, const struct envelope *e)
{
	static struct dropped forbidden = { .event = "cast_forbidden" };
	static struct dropped quarantined = { .event = "cast_quarantined" };

	drop_cast(allowed_has(c->allowed, e->cmd) ? &quarantined : &forbidden, c, e->cmd);
}

static enum taken
take_message(struct conn *c, const unsigned char *frame, size_t len, struct queue *batch)
{
	struct envelope e;
	const char *reason;
	int code = envelope_parse(&c->check, frame, len, &e);

	if (code == ENV_BAD_REQUEST)
		return e.kind == ENV_CALL ? refuse_call(c, e.id, "bad_request") : TAKEN;
	if (code != 0) {
		conn_close_with(c, "bad_envelope");
		return ENDED;
	}
	switch (e.kind) {
	case ENV_CALL:
		if ((reason = barred(c, &e)) != NULL)
			return refuse_call(c, e.id, reason);
		return conn_take_call(c, frame, len, &e, batch);
	case ENV_CAST:
		if (barred(c, &e) != NULL) {
			bar_cast(c, &e);
			return TAKEN;
		}
		return conn_take_cast(c, frame, len, &e, batch);
	case ENV_CANCEL:
		take_cancel(c, e.id, batch);
		return TAKEN;
	case ENV_PING:
		answer_pong(c, e.id);
		return TAKEN;
	case ENV_CREDIT:
		take_credit(c, e.id, e.parts);
		return TAKEN;
	case ENV_NOTES:
		take_notes(c, e.notes);
		return TAKEN;
	case ENV_GOODBYE:
		return TAKEN;	/* its end of file follows */
	}
	return TAKEN;
}

void
conn_check_anew(struct conn *c)
{
	if (c->checking)
		etf_check_end(&c->check);
	c->checking = c->valid = false;
}

/* Is the frame valid? TAKEN: yes; AGAIN, ENDED. */
static enum taken
check_frame(struct conn *c, const unsigned char *frame, size_t len)
{
	int code;

	if (!c->checking)
		etf_check_begin(&c->check, &conns.start->limits.term, frame, len, 1);
	c->checking = true;
	if ((code = etf_check_run(&c->check, TURN_TERMS)) == ETF_AGAIN) {
		conns.spent += TURN_STEPS;
		return AGAIN;
	}
	if (code == 0)
		return TAKEN;
	conn_close_with(c, etf_reason(code));
	return ENDED;
}

/* frame: without its length. That of a cast that must wait is not validated again. */
static enum taken
take_frame(struct conn *c, const unsigned char *frame, size_t len, struct queue *batch)
{
	enum taken code = c->valid ? TAKEN : check_frame(c, frame, len);

	if (code == TAKEN)
		code = take_message(c, frame, len, batch);
	if (code == STARVED)
		c->valid = true;
	else if (code != AGAIN)
		conn_check_anew(c);
	return code;
}

enum taken
conn_take(struct conn *c, const unsigned char *data, size_t len, size_t *taken)
{
	struct queue batch = { 0 };
	size_t at = 0;
	unsigned frames = 0;
	enum taken code = TAKEN;

	conns.taken_at = now_ns();	/* one look for many */
	while (code == TAKEN && len - at >= FRAME_HEAD) {
		size_t size = frame_length(data + at);
		if (size > conns.start->limits.frame) {
			conn_close_with(c, "frame_too_large");
			code = ENDED;
			break;
		}
		if (len - at - FRAME_HEAD < size)
			break;
		if (frames++ == TURN_STEPS) {
			code = AGAIN;
			break;
		}
		code = take_frame(c, data + at + FRAME_HEAD, size, &batch);
		if (code == TAKEN)
			at += FRAME_HEAD + size;
	}
	pool_submit(conns.pool, &batch);
	conns.spent += frames;
	if (at > 0)
		c->frame_since = 0;
	*taken = at;
	return code;
}
