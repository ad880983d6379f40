/* SPDX-License-Identifier: MIT */
/*
 * Room for large frames that have not come whole, of which all together have so much (limits.frames_bytes): it is set
 * aside for all of a frame before more of it is read, in the order of asking. Whoever has some is read to the end;
 * while others wait it must come at a pace, an eighth of the frame in each eighth of its time, else its connection
 * ends. So the first in line gets its room within that time, whatever others do. Loop thread.
 */
#include "clock.h"
#include "conn.h"
#include "frame.h"

#define STEPS 8			/* of a frame, in which it must come */

/* c holds so much from now on. */
static void
charge(struct conn *c, uint64_t bytes)
{
	conns.stashed += bytes - c->charged;
	conns.fed |= bytes < c->charged;	/* others may go on */
	c->charged = bytes;
	/* What is read and cannot be taken is kept without asking: of that there may be half as much. */
	conns.read_size = conns.stashed < conns.start->limits.frames_bytes / 2 ? READ_SIZE : ROOM_ALWAYS;
}

void
conn_room_kept(struct conn *c)
{
	if (!c->has_room)
		charge(c, c->stash_room > ROOM_ALWAYS ? c->stash_room : 0);
}

/* Who is first in line; NULL: nobody waits. */
static struct conn *
first_waiting(void)
{
	struct conn *c;

	while ((c = conns.waiting) != NULL && !c->waits) {
		if ((conns.waiting = c->next_waiting) == NULL)
			conns.waiting_end = &conns.waiting;
		c->in_line = false;
	}
	return c;
}

static void
wait_in_line(struct conn *c)
{
	if (first_waiting() == NULL)
		conn_clock(c, now_ns());	/* from now on those who have room need a pace */
	c->waits = true;
	if (c->in_line)
		return;
	c->in_line = true;
	c->next_waiting = NULL;
	*conns.waiting_end = c;
	conns.waiting_end = &c->next_waiting;
}

/* One goes beyond the bound where nobody has any: what is kept without asking holds up nobody for ever. */
static bool
fits(const struct conn *c, uint64_t bytes)
{
	return conns.have_room == 0
	    || conns.stashed - c->charged + bytes <= conns.start->limits.frames_bytes;
}

bool
conn_room_ask(struct conn *c, size_t bytes)
{
	struct conn *first;

	if (c->has_room)
		return true;
	first = first_waiting();
	if ((first != NULL && first != c) || !fits(c, bytes)) {
		wait_in_line(c);
		return false;
	}
	c->waits = false;
	c->has_room = true;
	c->step_at = 0;
	conns.have_room++;
	charge(c, bytes);
	if (first_waiting() != NULL) {
		conns.fed = true;	/* perhaps the next fits too */
		conn_clock(c, now_ns());
	}
	return true;
}

void
conn_room_pass(struct conn *c)
{
	conns.fed |= c->waits;		/* it may have been first in line */
	c->waits = false;
}

void
conn_room_leave(struct conn *c)
{
	conn_room_pass(c);
	if (!c->has_room)
		return;
	c->has_room = false;
	conns.have_room--;
	charge(c, 0);
}

uint64_t
conn_room_ends(struct conn *c, uint64_t now)
{
	uint64_t step = conns.start->limits.frame_ms * 1000000ull / STEPS;

	if (!c->has_room || first_waiting() == NULL) {
		c->step_at = 0;
		return 0;
	}
	if (c->step_at == 0 || (c->step_at + step <= now
	    && c->stash_len - c->step_len > frame_length(c->stash) / STEPS)) {
		c->step_at = now;
		c->step_len = c->stash_len;
	}
	return c->step_at + step;
}
