/* SPDX-License-Identifier: MIT */
/*
 * Frames to bytes. Whoever has appended one (conn_answer.c) sends what waits, unless
 * another thread is just sending: that one takes it along. So replies batch by
 * themselves when there are many, and none ever waits for the next.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "clock.h"
#include "conn.h"

#define VECTORS 64
#define GIVE_BACK 32		/* requests */

/* Give back the requests whose replies have left, or can be told of no more. Lock held. */
static void
release(struct conn *c, struct queue *freed)
{
	struct request *r;

	while ((r = c->unsent.head) != NULL && (c->blocked || c->broken || r->end_at <= c->bytes_out)) {
		queue_remove(&c->unsent, r);
		queue_push(freed, r);
	}
}

static size_t
total(const struct iovec *iov, int n)
{
	size_t sum = 0;

	while (n > 0)
		sum += iov[--n].iov_len;
	return sum;
}

/* For the recorder: these are about to be sent. Lock held. */
static struct mmsghdr *
record_sending(struct conn *c, struct iovec *iov, int n)
{
	struct conn_record *record = c->record;
	size_t len = total(iov, n);
	uint64_t word = atomic_load_explicit(&record->sent, memory_order_relaxed);

	record->message.msg_hdr.msg_iov = iov;		/* the rest of it is 0, and remains so */
	record->message.msg_hdr.msg_iovlen = (size_t)n;
	record->message.msg_len = 0;
	record->sending = len < SENDING_WHOLE ? (uint32_t)len : SENDING_WHOLE - 1;
	if (len == c->out.unsent)
		record->sending |= SENDING_WHOLE;
	atomic_store_explicit(&record->sent, word | SENT_SENDING, memory_order_release);
	return &record->message;
}

/* The kernel has taken n more bytes: c counts them already. */
static void
record_sent(struct conn *c, size_t n)
{
	uint64_t flags = atomic_load_explicit(&c->record->sent, memory_order_relaxed) & (SENT_WHOLE | SENT_BEHIND);

	if (n > 0)
		flags &= ~(uint64_t)SENT_WHOLE;
	if (c->out.unsent == 0)
		flags = SENT_WHOLE;
	atomic_store_explicit(&c->record->sent, flags | c->bytes_out << SENT_SHIFT, memory_order_release);
}

/* Replies wait until the socket takes more: too long for their slots. */
static void
record_behind(struct conn *c)
{
	atomic_fetch_or_explicit(&c->record->sent, SENT_BEHIND, memory_order_release);
}

void
conn_attention(struct conn *c)
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

/* Bytes, or -1. sendmmsg, as the kernel then writes to msg_len before this thread can die (recorder.h). */
static ssize_t
send_front(struct conn *c, struct mmsghdr *message)
{
	int n;

	do
		n = sendmmsg(c->fd, message, 1, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n < 0 && (errno == EBADF || errno == ENOTSOCK))
		abort();	/* a driver has closed what is ours: nobody can be served */
	return n < 0 ? -1 : (ssize_t)message->msg_len;
}

/* The kernel has taken n bytes. Lock held. */
static void
took(struct conn *c, size_t n)
{
	uint64_t most = conns.start->limits.unsent_bytes;
	bool crowded = c->out.unsent > most;

	output_sent(&c->out, n);
	if (crowded && c->out.unsent <= most)
		conn_stir(c);
}

/* The socket is full. Most never are: who always listens for room is woken by each read of the client. Should there be
 * room again meanwhile, epoll tells at once. Lock held. */
static void
block(struct conn *c)
{
	c->blocked = c->watched = true;	/* the loop's clock runs now */
	if (c->progress_at == 0)
		c->progress_at = now_ns();
	if (!c->hears_out) {
		c->hears_out = true;
		if (conn_hear(c, c->fd, EPOLL_CTL_MOD) != 0)
			abort();	/* a driver has closed what is ours */
	}
}

/* Send until all is out or the socket is full. Drops and takes the lock. */
static void
send_out(struct conn *c, struct queue *freed)
{
	struct iovec iov[VECTORS];
	struct mmsghdr *message;
	ssize_t sent;
	int n, failure;

	while (!c->broken && (n = output_front(&c->out, iov, VECTORS)) > 0) {
		c->writable_again = false;
		message = record_sending(c, iov, n);
		pthread_mutex_unlock(&c->lock);
		sent = send_front(c, message);
		failure = errno;
		pthread_mutex_lock(&c->lock);
		if (sent >= 0) {
			took(c, (size_t)sent);
			c->bytes_out += (size_t)sent;
			c->progress_at = 0;
			record_sent(c, (size_t)sent);
			release(c, freed);
			if (freed->len >= GIVE_BACK)	/* others may append for as long as we send */
				pool_answered(conns.pool, freed);
		} else if (failure != EAGAIN && failure != EWOULDBLOCK) {
			record_sent(c, 0);
			c->broken = true;
			conn_stir(c);
			break;
		} else if (!c->writable_again) {
			record_sent(c, 0);
			block(c);
			break;
		}
	}
}

void
conn_flush_into(struct conn *c, struct queue *freed)
{
	if (c->sending)
		return;		/* it takes along what waits, and gives back what it sent */
	if (!c->blocked && !c->broken) {
		c->sending = true;
		send_out(c, freed);
		c->sending = false;
	}
	if (c->blocked)
		record_behind(c);
	release(c, freed);
	conn_attention(c);
}

void
conn_flush(struct conn *c)
{
	struct queue freed = { 0 };

	conn_flush_into(c, &freed);
	conn_answered(&freed);
}

void
conn_answered(struct queue *freed)
{
	if (freed->head == NULL)
		return;
	pool_answered(conns.pool, freed);
	conns.fed = true;
}
