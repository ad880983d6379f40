/* SPDX-License-Identifier: MIT */
/* Room for large frames: who gets it, in which order, and what whoever has it owes to those that wait. */
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "conn.h"

#define MIB (1024u * 1024)
#define FRAME (4 * MIB)
#define STEP 1000000000ull	/* ns: an eighth of frame_ms */
#define MANY 6

struct conns conns;
static struct conn slots[MANY];
static unsigned char frame[8] = { FRAME >> 24 & 255, FRAME >> 16 & 255, FRAME >> 8 & 255, FRAME & 255 };
static unsigned looks;		/* at the clock, asked for */

void
conn_clock(struct conn *c, uint64_t when)
{
	(void)c, (void)when;
	looks++;
}

/* Nobody has any room, of so many bytes. */
static void
begin(const char *what, uint64_t frames_bytes)
{
	static struct start start;

	about = what;
	start.limits.frame_ms = 8000;
	start.limits.frames_bytes = frames_bytes;
	memset(&conns, 0, sizeof(conns));
	memset(slots, 0, sizeof(slots));
	conns.start = &start;
	conns.waiting_end = &conns.waiting;
	looks = 0;
	for (size_t i = 0; i < MANY; i++)
		slots[i].stash = frame;
}

static bool
ask(unsigned i, size_t bytes)
{
	return conn_room_ask(&slots[i], bytes);
}

/* Others may go on: once for each time. */
static bool
fed(void)
{
	bool is = conns.fed;

	conns.fed = false;
	return is;
}

static void
check_order(void)
{
	begin("order", 2 * FRAME);
	CHECK(ask(0, FRAME) && ask(1, FRAME) && ask(1, FRAME));
	CHECK(looks == 0 && !fed());
	CHECK(!ask(2, FRAME));
	CHECK(looks == 1);	/* the first that waits has the others timed */
	CHECK(!ask(3, FRAME) && !ask(4, 65 * 1024));
	CHECK(looks == 1);
	conn_room_leave(&slots[1]);
	CHECK(fed());
	CHECK(!ask(4, 65 * 1024) && !ask(3, FRAME));	/* though there is room */
	CHECK(ask(2, FRAME));
	CHECK(fed() && looks == 2);	/* the next may look; and it is timed at once */
	CHECK(!ask(3, FRAME));
	conn_room_leave(&slots[0]);
	conn_room_leave(&slots[2]);
	CHECK(ask(3, FRAME) && ask(4, 65 * 1024));
	CHECK(conns.stashed == FRAME + 65 * 1024 && conns.have_room == 2);
	CHECK(conns.waiting == &slots[4] || conns.waiting == NULL);
}

static void
check_who_leaves_the_line(void)
{
	begin("who leaves the line", FRAME);
	CHECK(ask(0, FRAME) && !ask(1, FRAME) && !ask(2, FRAME) && !ask(3, FRAME));
	conn_room_pass(&slots[1]);
	CHECK(fed());
	conn_room_leave(&slots[2]);
	CHECK(fed());
	conn_room_leave(&slots[2]);
	CHECK(!fed());
	conn_room_leave(&slots[0]);
	CHECK(ask(3, FRAME));	/* those before it do not hold it up */
	CHECK(!ask(1, FRAME) && !ask(2, FRAME));
	conn_room_leave(&slots[3]);
	CHECK(!ask(2, FRAME) && ask(1, FRAME));
}

static void
check_what_is_kept(void)
{
	begin("kept without asking", FRAME);
	for (unsigned i = 1; i < MANY; i++) {
		slots[i].stash_room = MIB;
		conn_room_kept(&slots[i]);
	}
	CHECK(conns.stashed == (MANY - 1) * MIB && conns.read_size == ROOM_ALWAYS);
	CHECK(ask(0, FRAME));	/* as nobody has any */
	CHECK(!ask(1, FRAME));
	slots[0].stash_room = 2 * MIB;
	conn_room_kept(&slots[0]);
	CHECK(conns.stashed == FRAME + (MANY - 1) * MIB);	/* all of it is set aside */
	for (unsigned i = 2; i < MANY; i++) {
		slots[i].stash_room = ROOM_ALWAYS;
		conn_room_kept(&slots[i]);
	}
	conn_room_leave(&slots[0]);
	CHECK(conns.stashed == MIB && conns.read_size == READ_SIZE);
	CHECK(ask(1, FRAME));
	CHECK(conns.stashed == FRAME);	/* what it kept is part of it */
}

static void
check_pace(void)
{
	struct conn *c = &slots[0];
	uint64_t now = 5 * STEP;

	begin("pace", FRAME);
	c->stash_len = 100000;
	CHECK(conn_room_ends(c, now) == 0);
	CHECK(ask(0, FRAME));
	CHECK(conn_room_ends(c, now) == 0);	/* nobody waits: it has its time */
	CHECK(!ask(1, FRAME));
	CHECK(conn_room_ends(&slots[1], now) == 0);	/* has none */
	CHECK(conn_room_ends(c, now) == now + STEP);
	c->stash_len += MIB / 2;
	CHECK(conn_room_ends(c, now + STEP / 2) == now + STEP);
	CHECK(conn_room_ends(c, now + STEP) == now + STEP);	/* its end: a byte too few */
	c->stash_len += 1;
	CHECK(conn_room_ends(c, now + STEP) == now + 2 * STEP);
	CHECK(conn_room_ends(c, now + 2 * STEP) == now + 2 * STEP);	/* what came before counts no more */
	conn_room_leave(&slots[1]);
	CHECK(conn_room_ends(c, now + 2 * STEP) == 0);
	CHECK(!ask(1, FRAME));
	CHECK(conn_room_ends(c, now + 9 * STEP) == now + 10 * STEP);	/* anew */
}

int
main(void)
{
	check_order();
	check_who_leaves_the_line();
	check_what_is_kept();
	check_pace();
	return check_summary();
}
