/* SPDX-License-Identifier: MIT */
/* What is due on connections, and their goodbyes: conn.h. Loop thread. */
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "clock.h"
#include "conn.h"

#define MS 1000000ull		/* ns */

void
conn_ready(struct conn *c)
{
	if (c->queued)
		return;
	c->queued = true;
	c->next_ready = NULL;
	*conns.ready_end = c;
	conns.ready_end = &c->next_ready;
}

void
conn_broken(struct conn *c)
{
	pthread_mutex_lock(&c->lock);
	c->broken = true;
	pthread_mutex_unlock(&c->lock);
	conn_ready(c);
}

static struct conn *
take_ready(void)
{
	struct conn *c = conns.ready;

	if ((conns.ready = c->next_ready) == NULL)
		conns.ready_end = &conns.ready;
	c->queued = false;
	return c;
}

void
conn_event(uint64_t token, uint32_t events)
{
	struct conn *c = &conns.slots[(uint32_t)token];

	if (c->state == CONN_FREE || c->generation != (uint32_t)(token >> 32))
		return;
	if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR | EPOLLPRI))
		c->ending = true;
	if (events & EPOLLHUP)
		c->hup = true;
	if ((events & EPOLLERR) && c->starved)	/* it is not read, and so would not be noticed */
		conn_broken(c);
	if (events & (EPOLLIN | EPOLLPRI | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		c->readable = true;
	if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) {
		pthread_mutex_lock(&c->lock);
		c->writable_again = true;
		c->blocked = false;
		conn_flush(c);
		pthread_mutex_unlock(&c->lock);
	}
	conn_ready(c);
}

/* No credit comes any more, and a note would hold up the end. Lock held. */
static void
set_last(struct conn *c)
{
	if (c->last)
		return;
	c->last = true;
	c->notes = false;
	conn_stir(c);
}

void
conn_close_with(struct conn *c, const char *goodbye)
{
	if (c->state != CONN_OPEN)
		return;
	c->state = CONN_CLOSING;
	c->reason = goodbye;
	c->starved = false;
	c->frame_since = 0;
	conn_room_leave(c);
	pthread_mutex_lock(&c->lock);
	set_last(c);
	pthread_mutex_unlock(&c->lock);
	conn_ready(c);
}

/* All that was accepted is answered and out; else, at an end, hear when it is. `more`: not all was read. */
static bool
settled(struct conn *c, bool more, bool *broken, bool *sending)
{
	uint64_t behind;
	bool done;

	pthread_mutex_lock(&c->lock);
	if (c->eof && !more && !c->starved && !c->held)
		set_last(c);
	done = c->calls.len == 0 && c->out.unsent == 0;
	if (!done && (c->state != CONN_OPEN || c->eof))
		c->watched = true;
	behind = c->blocked ? c->progress_at : 0;
	*broken = c->broken;
	*sending = c->sending;
	pthread_mutex_unlock(&c->lock);
	if (behind != 0)
		conn_clock(c, behind + conns.start->limits.unsent_ms * MS);
	return done;
}

static void
say_goodbye(struct conn *c)
{
	pthread_mutex_lock(&c->lock);
	conn_put_goodbye(c, c->reason);
	conn_flush(c);
	pthread_mutex_unlock(&c->lock);
	c->state = CONN_LINGER;
	c->linger_until = 0;
}

static bool
attend_linger(struct conn *c, bool out)
{
	if (out && c->linger_until == 0) {
		shutdown(c->fd, SHUT_WR);
		c->linger_until = now_ns() + conns.start->limits.linger_ms * MS;
		conn_clock(c, c->linger_until);
	}
	if (c->readable && !conn_discard(c))
		c->eof = true;
	if (c->eof && out)
		conn_free(c);
	return false;
}

/* Do what is due on c. True: there is more. */
static bool
attend(struct conn *c)
{
	bool broken, sending, more = false, done;

	if (c->state == CONN_OPEN && (c->readable || c->stash_len > 0) && !c->starved)
		more = conn_read(c);
	done = settled(c, more, &broken, &sending);
	if (broken) {
		if (c->state == CONN_OPEN)
			c->reason = "peer_gone";
		conn_free(c);
		return false;
	}
	switch (c->state) {
	case CONN_OPEN:
		if (!c->eof || more || c->starved)
			return more;
		/* It has asked all, and heard all: nothing unread is left to reset. Or it
		 * hears nothing any more; whoever is just sending calls for attention. */
		if (!done && (!c->hup || sending))
			return false;
		if (!done)
			c->reason = "peer_gone";
		conn_free(c);
		return false;
	case CONN_CLOSING:
		if (c->readable && !conn_discard(c))
			c->eof = true;
		if (done)
			say_goodbye(c);
		else
			return false;
		return attend_linger(c, settled(c, false, &broken, &sending));
	case CONN_LINGER:
		return attend_linger(c, done);
	case CONN_FREE:
		break;
	}
	return false;
}

static void
take_attention(void)
{
	uint32_t slots[64];
	size_t n;

	do {
		pthread_mutex_lock(&conns.attention_lock);
		for (n = 0; n < 64 && conns.attention_len > 0; n++)
			slots[n] = conns.attention[--conns.attention_len];
		pthread_mutex_unlock(&conns.attention_lock);
		for (size_t i = 0; i < n; i++) {
			struct conn *c = &conns.slots[slots[i]];
			pthread_mutex_lock(&c->lock);
			c->attended = false;
			pthread_mutex_unlock(&c->lock);
			c->starved = false;	/* perhaps there is room now */
			if (c->state != CONN_FREE)
				conn_ready(c);
		}
	} while (n == 64);
}

bool
conns_attend(void)
{
	struct conn *last;

	take_attention();
	if (conns.fed && conns.starving != NULL)
		conns_fed();
	conns.fed = false;
	if (conns.ready == NULL)
		return false;
	/* Once round, or as far as it may take: a connection with more goes behind all others. */
	conns.spent = 0;
	last = (struct conn *)((char *)conns.ready_end - offsetof(struct conn, next_ready));
	for (;;) {
		struct conn *c = take_ready();
		if (attend(c))
			conn_ready(c);
		if (c == last || conns.spent >= ROUND_STEPS)
			break;
	}
	return conns.ready != NULL;
}

void
conn_starve(struct conn *c)
{
	c->starved = true;
	if (c->listed)
		return;
	c->listed = true;
	c->next_starved = NULL;
	*conns.starving_end = c;
	conns.starving_end = &c->next_starved;
}

/* Those that waited longest first. */
void
conns_fed(void)
{
	struct conn *c = conns.starving, *next;

	conns.starving = NULL;
	conns.starving_end = &conns.starving;
	for (; c != NULL; c = next) {
		next = c->next_starved;
		c->listed = false;
		if (!c->starved)
			continue;
		c->starved = false;
		conn_ready(c);
	}
}
