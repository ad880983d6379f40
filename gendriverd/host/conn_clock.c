/* SPDX-License-Identifier: MIT */
/* The clock of connections, and the end of all of them: drain, stop. Loop thread. */
#include <sched.h>
#include <sys/socket.h>

#include "clock.h"
#include "conn.h"

#define MS 1000000ull		/* ns */
#define LOOK_AGAIN (100 * MS)	/* how exact lingering and unread output are timed */

static void
expire_calls(uint64_t now)
{
	struct queue expired = { 0 };
	struct request *r;

	pool_expired(conns.pool, now, &expired);
	while ((r = queue_pop(&expired)) != NULL)
		conn_fail(r, "expired");
}

/* Ended by the clock? Else: whether its clock is running. */
static bool
check_clock(struct conn *c, uint64_t now)
{
	uint64_t since;

	if (c->state == CONN_LINGER && c->linger_until != 0 && c->linger_until <= now) {
		conn_free(c);
		return false;
	}
	pthread_mutex_lock(&c->lock);
	since = c->blocked ? c->progress_at : 0;
	pthread_mutex_unlock(&c->lock);
	if (since == 0)
		return c->state == CONN_LINGER;
	if (now < since + conns.start->limits.unsent_ms * MS)
		return true;
	/* No goodbye gets through a socket that is full. */
	if (c->state == CONN_OPEN)
		c->reason = "unread";
	conn_free(c);
	return false;
}

uint64_t
conns_tick(uint64_t now)
{
	static uint64_t looked;
	static bool running;
	uint64_t deadline;

	deadline = pool_next_deadline(conns.pool);
	if (deadline != 0 && deadline <= now) {
		expire_calls(now);
		deadline = pool_next_deadline(conns.pool);
	}
	if (now >= looked + LOOK_AGAIN) {
		looked = now;
		running = conns.clock_runs = false;
		for (uint32_t i = 0; i < conns.used; i++)
			if (conns.slots[i].state != CONN_FREE)
				running |= check_clock(&conns.slots[i], now);
	}
	if (conns.fed && conns.starving)
		return now;
	if ((running || conns.clock_runs || conns.timed > 0) && (deadline == 0 || deadline > looked + LOOK_AGAIN))
		deadline = looked + LOOK_AGAIN;
	return deadline;
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
