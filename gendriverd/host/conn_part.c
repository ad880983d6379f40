/* SPDX-License-Identifier: MIT */
/*
 * Parts of a reply, as far as the caller takes them: gd_part of gen_driver.h. A worker's thread.
 *
 * Its turn has come when there is credit, and not too much waits to be sent. Until then the
 * thread waits on the connection, and its request's time stands still. No wait is longer than
 * unsent_time without a sign of the caller's: credit, or bytes that it took.
 */
#include "clock.h"
#include "conn.h"
#include "frame.h"
#include "gen_driver.h"
#include "running.h"
#include "term.h"

#define MS 1000000ull		/* ns */

/* Why no part of r is sent any more, or NULL. Cancelled is also who was answered already: by the
 * loop, when its thread was written off or the host gives up. Lock held. */
static const char *
over(const struct conn *c, const struct request *r)
{
	bool gone = c->generation != r->generation || c->broken
	    || atomic_load_explicit(&r->cancelled, memory_order_relaxed);

	return gone || (r->credit == 0 && c->last) ? "interrupted" : NULL;
}

static bool
may_send(const struct conn *c, const struct request *r)
{
	return r->credit > 0 && c->out.unsent <= conns.start->limits.unsent_bytes;
}

/* Until somebody stirs c, or the time has come. Drops and takes the lock. */
static void
sleep_until(struct conn *c, uint64_t ns)
{
	struct timespec until = { (time_t)(ns / (1000 * MS)), (long)(ns % (1000 * MS)) };

	c->waiting++;
	pthread_cond_timedwait(&c->turn, &c->lock, &until);
	c->waiting--;
}

/* Why it never comes, or NULL. Drops and takes the lock. */
static const char *
wait_for_turn(struct conn *c, const struct request *r)
{
	uint64_t sign, last = UINT64_MAX, until = 0;
	const char *why;

	while ((why = over(c, r)) == NULL && !may_send(c, r)) {
		sign = r->credit > 0 ? 1 + c->bytes_out : 0;
		if (sign != last)
			until = now_ns() + conns.start->limits.unsent_ms * MS;
		else if (until <= now_ns())
			return "timeout";
		last = sign;
		sleep_until(c, until);
	}
	return why;
}

/* The same, and nobody waits where there is no need. */
static const char *
await_turn(struct conn *c, const struct running *here)
{
	const char *why = over(c, here->request);
	uint64_t left;

	if (why != NULL || may_send(c, here->request))
		return why;
	left = pool_pause(conns.pool, here->request, here->seat);
	why = wait_for_turn(c, here->request);
	pool_resume(conns.pool, here->request, here->seat, left);
	return why;
}

/* True: its buffer was taken. Lock held. */
static bool
put_part(struct conn *c, struct request *r, const gd_out *part)
{
	unsigned char *at = conn_room(c);

	r->credit--;
	if (at == NULL)
		return false;
	output_wrote(&c->out, frame_part_head(at, r->id, part->len - 1));
	return conn_put_term(c, part->buf + 1, part->len - 1, part->buf);
}

int
conn_whole(const gd_out *out, uint64_t most)
{
	int state = gd_out_done(out);

	if (state <= 0)
		return state < 0 ? state : GD_ETYPE;
	return out->len > most ? GD_ELIMIT : 0;
}

int
gd_takes_parts(void)
{
	const struct request *r = running_here().request;

	return r != NULL && r->takes_parts;
}

/* Lock held; why it cannot be, or NULL. */
static const char *
send_part(struct conn *c, const struct running *here, gd_out *part, struct queue *freed)
{
	const char *why = await_turn(c, here);

	if (why != NULL)
		return why;
	if (put_part(c, here->request, part))
		gd_out_init(part, part->limit);
	else
		gd_out_reset(part);
	conn_flush_into(c, freed);
	return NULL;
}

int
gd_part(gd_out *part)
{
	struct running here = running_here();
	struct queue freed = { 0 };
	struct conn *c;
	int code;

	if (!gd_takes_parts())
		return GD_ENOPARTS;
	if (here.cut != NULL)
		return GD_EGONE;
	if ((code = conn_whole(part, conns.driver->reply_limit)) != 0)
		return code;
	c = &conns.slots[here.request->slot];
	pthread_mutex_lock(&c->lock);
	here.cut = send_part(c, &here, part, &freed);
	pthread_mutex_unlock(&c->lock);
	if (freed.head != NULL)
		pool_answered(conns.pool, &freed);
	if (here.cut == NULL)
		return 0;
	running_cut(here.cut);
	return GD_EGONE;
}
