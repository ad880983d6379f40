/* SPDX-License-Identifier: MIT */
/* The statistics: which bucket a time falls into, and which entry a command has. */
#include "check.h"
#include "recorder.h"

#define SEATS 2
#define LOW (1ull << STATS_LOW)
#define HIGH (1ull << STATS_HIGH)

static void
check_edges(void)
{
	about = "edges";
	CHECK(stats_bucket(0) == 0);
	CHECK(stats_bucket(LOW - 1) == 0);
	CHECK(stats_bucket(LOW) == 1);
	CHECK(stats_bucket(LOW + LOW / 4 - 1) == 1);
	CHECK(stats_bucket(LOW + LOW / 4) == 2);
	CHECK(stats_bucket(2 * LOW - 1) == 4);
	CHECK(stats_bucket(2 * LOW) == 5);
	CHECK(stats_bucket(HIGH - 1) == STATS_BUCKETS - 2);
	CHECK(stats_bucket(HIGH) == STATS_BUCKETS - 1);
	CHECK(stats_bucket(UINT64_MAX) == STATS_BUCKETS - 1);
	CHECK(HIGH > 60 * 1000000000ull);
}

/* Each begins where the one before ends, with a quarter of a power of two: so all are met. */
static void
check_each(void)
{
	uint64_t begin = LOW;

	about = "every bucket";
	for (unsigned bucket = 1; bucket < STATS_BUCKETS - 1; bucket++) {
		uint64_t width = 1ull << (STATS_LOW - 2 + (bucket - 1) / 4);
		CHECK(stats_bucket(begin - 1) == bucket - 1);
		CHECK(stats_bucket(begin) == bucket);
		CHECK(stats_bucket(begin + width - 1) == bucket);
		CHECK(8 * (width / 2) <= begin);	/* the middle is within an eighth */
		begin += width;
	}
	CHECK(begin == HIGH);
}

static void
check_any(void)
{
	unsigned before = 0, now;

	about = "monotone, in range";
	for (uint64_t ns = 0; ns < UINT64_MAX / 2; ns += ns / 97 + 1) {
		now = stats_bucket(ns);
		CHECK(now >= before && now < STATS_BUCKETS);
		before = now;
	}
}

static void
add(unsigned seat, int cmd, bool call, bool failed)
{
	stats_add(seat, &(struct sample){ .entry = stats_entry_of(cmd), .call = call, .failed = failed,
	    .queued_at = 1000, .started_at = 3000, .ended_at = 10000 });
}

static void
check_entries(void)
{
	/* More than have entries of their own; 5 has two names. */
	static const char *name = "x";
	gd_command commands[STATS_COMMANDS + 4] = { { name, 5 }, { name, -1 }, { name, 5 } };
	const struct stats_entry *e;

	about = "entries";
	for (int i = 3; i < STATS_COMMANDS + 3; i++)
		commands[i] = (gd_command){ name, i * 128 };	/* they meet in the table */
	CHECK(recorder_open(-1, 1, 1, SEATS) == 0);
	stats_open(commands);
	CHECK(recorder_here()->command_count == STATS_COMMANDS);
	CHECK(recorder_here()->commands[0] == 5 && recorder_here()->commands[1] == -1);
	for (int i = 2; i < STATS_COMMANDS; i++)
		CHECK(recorder_here()->commands[i] == (i + 1) * 128);
	for (int i = 0; i < STATS_COMMANDS; i++) {
		e = &recorder_seat(1)->entries[i];
		add(1, recorder_here()->commands[i], true, false);
		CHECK(e->calls == 1 && e->casts == 0 && e->failed == 0);
		CHECK(recorder_seat(0)->entries[i].calls == 0);
	}
	e = &recorder_seat(1)->entries[STATS_OTHERS];
	add(1, 7, false, true);
	add(1, (STATS_COMMANDS + 1) * 128, true, false);
	CHECK(e->calls == 1 && e->casts == 1 && e->failed == 1);
	CHECK(e->waited.sum == 4000 && e->waited.most == 2000);
	CHECK(e->ran.sum == 14000 && e->ran.most == 7000);
	CHECK(e->waited.buckets[stats_bucket(2000)] == 2 && e->ran.buckets[stats_bucket(7000)] == 2);
}

/* A clock that goes back, or a slot that the driver wrote into. */
static void
check_nonsense(void)
{
	const struct stats_entry *e = &recorder_seat(0)->entries[0];

	about = "times that are none";
	stats_add(0, &(struct sample){ .entry = stats_entry_of(5), .queued_at = 9, .started_at = 8, .ended_at = 7 });
	CHECK(e->casts == 1 && e->waited.sum == 0 && e->waited.buckets[0] == 1 && e->ran.buckets[0] == 1);
	stats_add(0, &(struct sample){ .entry = stats_entry_of(5), .ended_at = UINT64_MAX });
	CHECK(e->casts == 2 && e->ran.most == UINT64_MAX && e->ran.buckets[STATS_BUCKETS - 1] == 1);
}

int
main(void)
{
	check_edges();
	check_each();
	check_any();
	check_entries();
	check_nonsense();
	return check_summary();
}
