/* SPDX-License-Identifier: MIT */
/*
 * Answers to bytes. Whoever has an answer appends it and sends what waits, unless
 * another thread is just sending: that one takes it along. So replies batch by
 * themselves when there are many, and none ever waits for the next.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "clock.h"
#include "conn.h"
#include "frame.h"

#define VECTORS 64
#define COPY_BELOW 2000		/* bytes: smaller replies are copied, not handed over */

/* The loop has something to do on c: its calls, its output, its end. Lock held. */
static void
call_attention(struct conn *c)
{
	bool first;

	if ((!c->watched && !c->broken) || c->attended)
		return;
	c->watched = false;
	c->attended = true;
	pthread_mutex_lock(&conns.attention_lock);
	first = conns.attention_len == 0;
	conns.attention[conns.attention_len++] = c->slot;
	pthread_mutex_unlock(&conns.attention_lock);
	if (first)
		conns.hooks.notify();
}

static ssize_t
send_front(struct conn *c, struct iovec *iov, int n)
{
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = (size_t)n };
	ssize_t sent;

	do
		sent = sendmsg(c->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (sent < 0 && errno == EINTR);
	if (sent < 0 && (errno == EBADF || errno == ENOTSOCK))
		abort();	/* a driver has closed what is ours: nobody can be served */
	return sent;
}

void
conn_flush(struct conn *c)
{
	struct iovec iov[VECTORS];
	ssize_t sent;
	int n, failure;

	if (c->sending || c->blocked || c->broken)
		return;
	c->sending = true;
	while ((n = output_front(&c->out, iov, VECTORS)) > 0) {
		c->writable_again = false;
		pthread_mutex_unlock(&c->lock);
		sent = send_front(c, iov, n);
		failure = errno;
		pthread_mutex_lock(&c->lock);
		if (sent >= 0) {
			output_sent(&c->out, (size_t)sent);
			c->bytes_out += (size_t)sent;
			c->progress_at = 0;
		} else if (failure != EAGAIN && failure != EWOULDBLOCK) {
			c->broken = true;
			break;
		} else if (!c->writable_again) {
			c->blocked = true;
			if (c->progress_at == 0)
				c->progress_at = now_ns();
			break;
		}
	}
	c->sending = false;
	call_attention(c);
}

/* Room for a small frame, or NULL: nobody is there to hear it, or no memory, and
 * then the connection ends, as a frame left out would be a lie. */
static unsigned char *
room(struct conn *c)
{
	unsigned char *at = c->broken ? NULL : output_room(&c->out, FRAME_SMALL);

	if (at == NULL)
		c->broken = true;
	return at;
}

void
conn_put_failed(struct conn *c, uint32_t id, const char *reason)
{
	unsigned char *at = room(c);

	if (at != NULL)
		output_wrote(&c->out, frame_failed(at, id, reason));
}

void
conn_put_pong(struct conn *c, uint32_t id)
{
	unsigned char *at = room(c);

	if (at != NULL)
		output_wrote(&c->out, frame_pong(at, id));
}

void
conn_put_goodbye(struct conn *c, const char *reason)
{
	unsigned char *at = room(c);

	if (at != NULL)
		output_wrote(&c->out, frame_goodbye(at, reason));
}

/* True: answer->own was taken. */
static bool
put_reply(struct conn *c, uint32_t id, const struct answer *answer)
{
	unsigned char *at = room(c);
	bool take = answer->own != NULL && answer->len >= COPY_BELOW;
	int result;

	if (at == NULL)
		return false;
	output_wrote(&c->out, frame_reply_head(at, id, answer->len));
	result = take ? output_take(&c->out, answer->term, answer->len, answer->own)
	    : output_copy(&c->out, answer->term, answer->len);
	if (result != 0) {
		c->broken = true;	/* a head without its term must not go out */
		return false;
	}
	return take;
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

static void
forget_call(struct conn *c, const struct request *r)
{
	ids_remove(&c->calls, r->id);
	c->call_bytes -= r->bytes;
}

bool
conn_done(struct request *r, struct answer *answer)
{
	struct conn *c;
	bool taken = false;

	if (!r->syn || (c = lock_connection(r)) == NULL)
		return false;
	if (ids_find(&c->calls, r->id) == r) {	/* else it was given up already */
		forget_call(c, r);
		if (answer->failed != NULL)
			conn_put_failed(c, r->id, answer->failed);
		else
			taken = put_reply(c, r->id, answer);
		conn_flush(c);
		call_attention(c);
	}
	pthread_mutex_unlock(&c->lock);
	return taken;
}

void
conn_fail(struct request *r, const char *reason)
{
	struct conn *c = lock_connection(r);

	if (c != NULL) {
		forget_call(c, r);
		conn_put_failed(c, r->id, reason);
		conn_flush(c);
		pthread_mutex_unlock(&c->lock);
	}
	pool_give(conns.pool, r);
}
