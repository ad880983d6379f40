/* SPDX-License-Identifier: MIT */
/*
 * Bytes to frames. Reads go into one buffer of the loop's; only a frame's
 * beginning, or frames that must wait, are kept with the connection (its stash).
 * A large frame gets a buffer of its own, which its request takes over; it grows as the frame comes.
 * One for which there is no room is not read (conn_room.c). Loop thread.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "clock.h"
#include "conn.h"
#include "frame.h"

#define FIRST_ROOM 4096u
#define FRAME_RATE (64u * 1024)	/* bytes a second: slower ones are not waited for */
#define READ_STEP 4096u		/* bytes, as dear as a frame */

static unsigned char shared[READ_SIZE];

/* Of what the stash begins with: one frame, or its length if even that is not whole. */
static size_t
frame_size(const unsigned char *data, size_t len)
{
	return len < FRAME_HEAD ? FRAME_HEAD : FRAME_HEAD + (size_t)frame_length(data);
}

static int
make_room(struct conn *c, size_t room)
{
	unsigned char *larger = realloc(c->stash, room);

	if (larger == NULL)
		return -1;
	c->stash = larger;
	c->stash_room = room;
	conn_room_kept(c);
	return 0;
}

/* Keep data[0..len) in the stash. data may lie in it already. */
static int
keep(struct conn *c, const unsigned char *data, size_t len)
{
	bool inside = c->stash != NULL && data >= c->stash && data < c->stash + c->stash_room;

	if (inside)
		memmove(c->stash, data, len);
	else if (len > c->stash_room && make_room(c, len) != 0)
		return -1;
	else
		memcpy(c->stash, data, len);
	c->stash_len = len;
	return 0;
}

/* Room for more of a frame of `need` bytes: twice what has come of it, whatever it claims to be. */
static enum taken
grow(struct conn *c, size_t need)
{
	size_t room = 2 * c->stash_len < FIRST_ROOM ? FIRST_ROOM : 2 * c->stash_len;

	if (room > need)
		room = need;
	if (room > ROOM_ALWAYS && !conn_room_ask(c, need))
		return STARVED;
	return make_room(c, room) == 0 ? TAKEN : ENDED;
}

void
conn_drop_stash(struct conn *c)
{
	free(c->stash);
	c->stash = NULL;
	c->stash_len = c->stash_room = 0;
	conn_room_leave(c);
	conn_room_kept(c);
}

static enum taken
take_stash(struct conn *c)
{
	size_t taken;
	enum taken code = conn_take(c, c->stash, c->stash_len, &taken);

	if (code == ENDED || c->stash == NULL || taken == c->stash_len) {
		conn_drop_stash(c);	/* or a request took it along */
		return code;
	}
	if (taken > 0)
		conn_check_anew(c);
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
		conns.spent += (uint32_t)((size_t)n / READ_STEP);
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
static enum taken
read_stash(struct conn *c)
{
	size_t need = frame_size(c->stash, c->stash_len), most;
	enum taken code;
	ssize_t n;

	if (c->stash_len < need) {
		if (c->stash_len >= c->stash_room && (code = grow(c, need)) != TAKEN)
			return code;
		most = need < c->stash_room ? need : c->stash_room;
		if ((n = receive(c, c->stash + c->stash_len, most - c->stash_len)) == 0)
			return TAKEN;
		c->stash_len += (size_t)n;
		if (c->stash_len == need)
			conn_room_leave(c);
	}
	return take_stash(c);
}

/* What is left of it must be kept: so no more is read than there may be room for. */
static enum taken
read_shared(struct conn *c)
{
	ssize_t n = receive(c, shared, conns.read_size);
	size_t taken;
	enum taken code;

	if (n == 0)
		return TAKEN;
	code = conn_take(c, shared, (size_t)n, &taken);
	if (code == ENDED || taken == (size_t)n)
		return code;
	conn_check_anew(c);
	return keep(c, shared + taken, (size_t)n - taken) == 0 ? code : ENDED;
}

uint64_t
conn_frame_ends(const struct conn *c)
{
	uint64_t s = frame_size(c->stash, c->stash_len) / FRAME_RATE;

	return c->frame_since + conns.start->limits.frame_ms * 1000000ull + s * 1000000000ull;
}

/* A frame that is not whole has its time from when the first of it came. */
static void
time_frame(struct conn *c)
{
	bool partial = c->stash_len > 0 && c->stash_len < frame_size(c->stash, c->stash_len);

	if (!partial)
		c->frame_since = 0;
	else if (c->frame_since == 0) {
		c->frame_since = now_ns();
		conn_clock(c, conn_frame_ends(c));
	}
}

bool
conn_read(struct conn *c)
{
	enum taken code;

	if ((c->held = too_much_unsent(c))) {
		conn_room_pass(c);	/* it could not make use of it */
		return false;
	}
	code = c->stash_len > 0 ? read_stash(c) : read_shared(c);
	if (c->stash_len > 0)
		time_frame(c);
	flush(c);
	if (code == ENDED && c->state == CONN_OPEN)	/* out of memory */
		conn_broken(c);
	if (code == STARVED)
		conn_starve(c);
	return code == AGAIN || (code == TAKEN && c->readable);
}

bool
conn_discard(struct conn *c)
{
	for (int i = 0; i < 4; i++)
		if (receive(c, shared, sizeof(shared)) == 0)
			return !c->eof;
	conn_ready(c);
	return true;
}
