/* SPDX-License-Identifier: MIT */
/* The clock of connections, and the end of all of them: drain, stop. Loop thread. */
#include <sched.h>
#include <sys/socket.h>

#include "clock.h"
#include "conn.h"

#define MS 1000000ull		/* ns */
#define LOOK_AGAIN (100 * MS)	/* how exact lingering, unread output and unfinished frames are timed */

static void
expire_calls(uint64_t now)
{
	struct queue expired = { 0 };
	struct request *r;

	pool_expired(conns.pool, now, &expired);
	while ((r = queue_pop(&expired)) != NULL)
		conn_fail(r, "expired");
}

void
conn_clock(struct conn *c, uint64_t when)
{
	if (conns.look_at == 0 || when < conns.look_at)
		conns.look_at = when;
	if (c->clocked)
		return;
	c->clocked = true;
	c->next_clocked = conns.clocked;
	conns.clocked = c;
}

/* Of two times, 0: none. */
static uint64_t
sooner(uint64_t a, uint64_t b)
{
	return a == 0 || (b != 0 && b < a) ? b : a;
}

/* When a client that does not read must have; 0: it does. */
static uint64_t
unread_ends(struct conn *c)
{
	uint64_t since;

	pthread_mutex_lock(&c->lock);
	since = c->blocked ? c->progress_at : 0;
	pthread_mutex_unlock(&c->lock);
	return since == 0 ? 0 : since + conns.start->limits.unsent_ms * MS;
}

/* When a frame must be whole that is not, or more of it have come; 0: there is none. While we do not read, its time
 * begins anew, but not what it has as others wait for its room. */
static uint64_t
frame_ends(struct conn *c, uint64_t now)
{
	if (c->frame_since == 0)
		return 0;
	if (c->starved || c->held)
		c->frame_since = now;
	return sooner(conn_frame_ends(c), conn_room_ends(c, now));
}

/* Ended by the clock, if its time is up. When to look again; 0: no need. */
static uint64_t
check_clock(struct conn *c, uint64_t now)
{
	uint64_t linger = c->state == CONN_LINGER ? c->linger_until : 0, unread, frame;

	if (c->state == CONN_FREE)
		return 0;
	unread = unread_ends(c);
	if (unread != 0 && unread <= now && c->state == CONN_OPEN)
		c->reason = "unread";	/* no goodbye gets through a socket that is full */
	if ((linger != 0 && linger <= now) || (unread != 0 && unread <= now)) {
		conn_free(c);
		return 0;
	}
	if ((frame = frame_ends(c, now)) != 0 && frame <= now) {
		conn_close_with(c, "slow_frame");
		conn_drop_stash(c);
		frame = 0;
	}
	return sooner(linger, sooner(unread, frame));
}

/* At all whose clock runs; the others leave the list. */
static void
look(uint64_t now)
{
	struct conn **at = &conns.clocked, *c;
	uint64_t again = 0, when;

	while ((c = *at) != NULL) {
		if ((when = check_clock(c, now)) != 0) {
			again = sooner(again, when);
			at = &c->next_clocked;
		} else {
			*at = c->next_clocked;
			c->clocked = false;
		}
	}
	conns.look_at = again != 0 && again < now + LOOK_AGAIN ? now + LOOK_AGAIN : again;
}

uint64_t
conns_tick(uint64_t now)
{
	uint64_t deadline = pool_next_deadline(conns.pool);

	if (deadline != 0 && deadline <= now) {
		expire_calls(now);
		deadline = pool_next_deadline(conns.pool);
	}
	if (conns.look_at != 0 && conns.look_at <= now)
		look(now);
	if (conns.ready != NULL || (conns.fed && conns.starving != NULL))
		return now;
	return sooner(deadline, conns.look_at);
}

void
conns_drain(void)
{
	for (uint32_t i = 0; i < conns.used; i++) {
		struct conn *c = &conns.slots[i];
		if (c->state != CONN_OPEN)
			continue;
		pthread_mutex_lock(&c->lock);
		conn_put_goodbye(c, "draining");
		conn_flush(c);
		pthread_mutex_unlock(&c->lock);
		conn_ready(c);
	}
}

void
conns_stop(void)
{
	struct queue waiting = { 0 };
	struct request *r;

	conns.stopping = true;
	pool_withdraw_calls(conns.pool, &waiting);
	while ((r = queue_pop(&waiting)) != NULL)
		conn_fail(r, "draining");
	for (uint32_t i = 0; i < conns.used; i++)
		conn_close_with(&conns.slots[i], "stopping");
}

void
conns_give_up(void)
{
	for (uint32_t i = 0; i < conns.used; i++) {
		struct conn *c = &conns.slots[i];
		if (c->state == CONN_FREE)
			continue;
		pthread_mutex_lock(&c->lock);
		for (size_t k = 0; k < c->calls.room; k++) {
			struct request *r = c->calls.at[k];
			if (r == NULL)
				continue;
			atomic_store(&r->cancelled, true);
			conn_put_failed(c, r->id, "interrupted");
		}
		ids_free(&c->calls);
		if (c->state == CONN_CLOSING)
			conn_put_goodbye(c, c->reason);
		conn_flush(c);
		while (c->sending) {	/* it never waits for the peer */
			pthread_mutex_unlock(&c->lock);
			sched_yield();
			pthread_mutex_lock(&c->lock);
		}
		shutdown(c->fd, SHUT_WR);
		pthread_mutex_unlock(&c->lock);
	}
}
