/* SPDX-License-Identifier: MIT */
/* Turns of connections: who floods a place makes the others wait for one turn, and order is kept within each. */
#include <string.h>

#include "check.h"
#include "lanes.h"
#include "lengths.h"
#include "stats.h"

#define MANY 100u
#define SLOTS 4u

enum { SHORT_ONE = 1, LONG_ONE, UNKNOWN };

static const gd_command commands[] = {
	{ "short", SHORT_ONE }, { "long", LONG_ONE }, { "unknown", UNKNOWN }, { NULL, 0 },
};

static struct request requests[MANY * SLOTS];
static size_t used;
static struct lanes lanes;
static struct place here, there;

static struct request *
add(struct place *p, uint32_t slot, uint32_t generation, int cmd)
{
	struct request *r = &requests[used++];

	memset(r, 0, sizeof(*r));
	r->slot = slot;
	r->generation = generation;
	r->entry = (unsigned char)stats_entry_of(cmd);
	r->number = used;
	lanes_push(&lanes, p, r);
	return r;
}

/* Take one out: its slot, or 99. */
static uint32_t
pop(struct place *p)
{
	struct request *r = lanes_pop(&lanes, p);

	return r != NULL ? r->slot : 99;
}

static void
check_turns(void)
{
	about = "turns";
	for (unsigned i = 0; i < MANY; i++)
		add(&here, 0, 1, LONG_ONE);
	CHECK(pop(&here) == 0);
	add(&here, 1, 1, LONG_ONE);
	add(&here, 1, 1, LONG_ONE);
	add(&here, 2, 1, UNKNOWN);
	CHECK(lanes.slots == 3);
	CHECK(pop(&here) == 0);
	CHECK(pop(&here) == 1);
	CHECK(pop(&here) == 2);
	CHECK(pop(&here) == 0);
	CHECK(pop(&here) == 1);
	CHECK(lanes.slots == 1);
	for (unsigned i = 0; i < MANY - 3; i++)
		CHECK(pop(&here) == 0);
	CHECK(pop(&here) == 99);
	CHECK(here.first == NULL && here.last == NULL && lanes.slots == 0);
}

/* Of short ones a turn is as many as take no longer together than LANE_TURN. */
static void
check_short_ones_stay_together(void)
{
	unsigned n = 0;

	about = "short ones";
	for (unsigned i = 0; i < MANY; i++)
		add(&here, 0, 1, SHORT_ONE);
	add(&here, 1, 1, SHORT_ONE);
	while (pop(&here) == 0)
		n++;
	CHECK(n == 10);		/* of a tenth of a turn each */
	while (pop(&here) != 99)
		n++;
	CHECK(n == MANY);
}

static void
check_order_within_one(void)
{
	struct request *r;
	uint64_t last[SLOTS] = { 0 };

	about = "order";
	for (unsigned i = 0; i < MANY; i++)
		add(&here, i * 7 % SLOTS, 1, i % 3 ? SHORT_ONE : LONG_ONE);
	while ((r = lanes_pop(&lanes, &here)) != NULL) {
		CHECK(r->number > last[r->slot]);
		last[r->slot] = r->number;
	}
}

/* What a connection before has left in a slot does not hold up the one that has it now. */
static void
check_a_slot_that_changed_hands(void)
{
	struct request *r;

	about = "a slot of two";
	for (unsigned i = 0; i < 10; i++)
		add(&here, 0, 1, LONG_ONE);
	r = add(&here, 0, 2, LONG_ONE);
	CHECK(lanes.slots == 1);
	CHECK(lanes_pop(&lanes, &here)->generation == 1);
	CHECK(lanes_pop(&lanes, &here) == r);
	while (pop(&here) != 99)
		continue;
	CHECK(lanes.slots == 0);
}

/* The older turn of two places is next, however old the first request in the other is. */
static void
check_two_places(void)
{
	about = "two places";
	for (unsigned i = 0; i < MANY; i++)
		add(&there, 0, 1, LONG_ONE);
	add(&here, 1, 1, LONG_ONE);
	CHECK(lanes_older(&here, &there)->slot == 0);
	CHECK(pop(&there) == 0);
	CHECK(lanes_older(&here, &there)->slot == 1);
	CHECK(lanes_older(&there, &here)->slot == 1);
	CHECK(pop(&here) == 1);
	CHECK(lanes_older(&here, &there)->slot == 0);
	while (pop(&there) != 99)
		continue;
	CHECK(lanes_older(&here, &there) == NULL);
}

static void
check_taken_out(void)
{
	struct request *first = add(&here, 0, 1, LONG_ONE), *second = add(&here, 1, 1, LONG_ONE);
	struct request *third = add(&here, 2, 1, LONG_ONE), *beside = add(&there, 1, 1, LONG_ONE);

	about = "taken out";
	lanes_remove(&lanes, second);
	CHECK(lanes.slots == 3);
	lanes_remove(&lanes, beside);
	CHECK(lanes.slots == 2);
	lanes_remove(&lanes, third);
	CHECK(here.first == here.last && lanes_pop(&lanes, &here) == first);
	CHECK(here.first == NULL && there.first == NULL && lanes.slots == 0);
}

int
main(void)
{
	gd_driver driver = { .commands = commands };
	void (*const checks[])(void) = {
		check_turns, check_short_ones_stay_together, check_order_within_one,
		check_a_slot_that_changed_hands, check_two_places, check_taken_out,
	};

	if (recorder_open(-1, 1, 1, 1) != 0 || lanes_init(&lanes, MANY * SLOTS, SLOTS) != 0)
		return 1;
	stats_open(driver.commands);
	lengths_open(&driver, 20000);
	lengths_took(stats_entry_of(SHORT_ONE), LANE_TURN / 10);
	lengths_took(stats_entry_of(LONG_ONE), 10 * LANE_TURN);
	for (size_t i = 0; i < sizeof(checks) / sizeof(checks[0]); i++) {
		used = 0;
		checks[i]();
		CHECK(lanes.fresh <= MANY * SLOTS);
	}
	lanes_free(&lanes);
	return check_summary();
}
