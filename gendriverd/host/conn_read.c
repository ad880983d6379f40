/* SPDX-License-Identifier: MIT */
/*
 * Bytes to frames. Reads go into one buffer of the loop's; only a frame's
 * beginning, or frames that must wait, are kept with the connection (its stash).
 * A large frame gets a buffer of its own, which its request takes over. Loop
 * thread.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "clock.h"
#include "conn.h"
#include "frame.h"

#define READ_SIZE (256u * 1024)

static unsigned char shared[READ_SIZE];

/* Keep data[0..len) in the stash, with room for its whole frame. data may lie in the
 * stash already. */
static int
keep(struct conn *c, const unsigned char *data, size_t len)
{
	size_t room = len < FRAME_HEAD ? FRAME_HEAD : FRAME_HEAD + (size_t)frame_length(data);
	bool inside = c->stash != NULL && data >= c->stash && data < c->stash + c->stash_room;
	unsigned char *larger;

	if (inside)
		memmove(c->stash, data, len);
	if (room < len)
		room = len;
	if (room > c->stash_room) {
		if ((larger = realloc(c->stash, room)) == NULL)
			return -1;
		c->stash = larger;
		c->stash_room = room;
	}
	if (!inside)
		memcpy(c->stash, data, len);
	c->stash_len = len;
	return 0;
}

static void
drop_stash(struct conn *c)
{
	free(c->stash);
	c->stash = NULL;
	c->stash_len = c->stash_room = 0;
}

/* The bytes of a frame under validation move. */
static void
begin_check_anew(struct conn *c)
{
	if (c->checking)
		etf_check_end(&c->check);
	c->checking = false;
}

static int
take_stash(struct conn *c)
{
	size_t taken;
	int code = conn_take(c, c->stash, c->stash_len, &taken);

	if (code == ENDED || c->stash == NULL || taken == c->stash_len) {
		drop_stash(c);		/* or a request took it along */
		return code;
	}
	if (taken > 0)
		begin_check_anew(c);
	if (keep(c, c->stash + taken, c->stash_len - taken) != 0)
		code = ENDED;
	return code;
}

static ssize_t
receive(struct conn *c, unsigned char *at, size_t room)
{
	ssize_t n;

	do
		n = recv(c->fd, at, room, MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n > 0) {
		c->bytes_in += (size_t)n;
		/* A short read empties a stream socket; what comes later is a new edge. */
		if ((size_t)n < room && !c->ending)
			c->readable = false;
		return n;
	}
	c->readable = false;
	if (n == 0)
		c->eof = true;
	else if (errno != EAGAIN && errno != EWOULDBLOCK) {
		c->eof = true;
		conn_broken(c);		/* reset: nobody is there */
	}
	return 0;
}

static bool
too_much_unsent(struct conn *c)
{
	bool over;

	pthread_mutex_lock(&c->lock);
	over = c->out.unsent > conns.start->limits.unsent_bytes;
	if (over)
		c->watched = true;	/* whoever sends calls for attention */
	pthread_mutex_unlock(&c->lock);
	return over;
}

static void
flush(struct conn *c)
{
	pthread_mutex_lock(&c->lock);
	if (c->out.unsent > 0)
		conn_flush(c);
	pthread_mutex_unlock(&c->lock);
}

/* A stash that holds a whole frame is taken first; else it is read on. */
static int
read_stash(struct conn *c)
{
	size_t need = c->stash_len < FRAME_HEAD ? FRAME_HEAD
	    : FRAME_HEAD + (size_t)frame_length(c->stash);
	ssize_t n;

	if (c->stash_len < need) {
		if (keep(c, c->stash, c->stash_len) != 0)
			return ENDED;
		if ((n = receive(c, c->stash + c->stash_len, need - c->stash_len)) == 0)
			return TAKEN;
		c->stash_len += (size_t)n;
	}
	return take_stash(c);
}

static int
read_shared(struct conn *c)
{
	ssize_t n = receive(c, shared, sizeof(shared));
	size_t taken;
	int code;

	if (n == 0)
		return TAKEN;
	code = conn_take(c, shared, (size_t)n, &taken);
	if (code == ENDED || taken == (size_t)n)
		return code;
	begin_check_anew(c);
	return keep(c, shared + taken, (size_t)n - taken) == 0 ? code : ENDED;
}

bool
conn_read(struct conn *c)
{
	int code;

	if ((c->held = too_much_unsent(c)))
		return false;
	code = c->stash_len > 0 ? read_stash(c) : read_shared(c);
	flush(c);
	if (code == ENDED && c->state == CONN_OPEN)	/* out of memory */
		conn_broken(c);
	c->starved = code == STARVED;
	conns.starving |= c->starved;
	return code == AGAIN || (code == TAKEN && c->readable);
}

bool
conn_discard(struct conn *c)
{
	for (int i = 0; i < 16; i++)
		if (receive(c, shared, sizeof(shared)) == 0)
			return !c->eof;
	conn_ready(c);
	return true;
}
