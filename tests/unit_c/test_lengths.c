/* SPDX-License-Identifier: MIT */
/* How long commands took lately: which are the loop's, and for how long one is barred. */
#include "check.h"
#include "lengths.h"
#include "recorder.h"
#include "stats.h"

#define SHORT 20000u		/* ns */
#define SECOND 1000000000ull	/* ns */

enum { UNSAID = 1, SAID_LONG, SAID_SHORT };

static const gd_command commands[] = {
	{ "unsaid", UNSAID }, { "said_long", SAID_LONG }, { "said_short", SAID_SHORT }, { NULL, 0 },
};
static const gd_length said[] = { { SAID_LONG, GD_LONG }, { SAID_SHORT, GD_SHORT }, { 0, GD_LENGTHS_END } };

static uint32_t
expect(int cmd, uint64_t now)
{
	return lengths_expect(stats_entry_of(cmd), now);
}

static void
took(int cmd, uint64_t ns)
{
	lengths_took(stats_entry_of(cmd), ns);
}

static void
check_what_was_said(void)
{
	about = "what the driver said";
	CHECK(expect(UNSAID, 0) == LENGTH_LONG);	/* nobody knows yet */
	CHECK(expect(SAID_LONG, 0) == LENGTH_LONG);
	CHECK(expect(SAID_SHORT, 0) == 0);
	took(SAID_LONG, 10);
	CHECK(expect(SAID_LONG, 0) == LENGTH_LONG);
	took(SAID_SHORT, 100);
	CHECK(expect(SAID_SHORT, 0) == 100);
	took(SAID_SHORT, 10 * SHORT);		/* its word counts: this one was held up */
	CHECK(expect(SAID_SHORT, 0) == 1000);
	took(SAID_SHORT, UINT64_MAX);
	CHECK(expect(SAID_SHORT, 0) == 1000);
}

static void
check_decay(void)
{
	int runs = 0;

	about = "decay";
	took(UNSAID, 0);
	CHECK(expect(UNSAID, 0) == 1);
	took(UNSAID, SHORT);
	CHECK(expect(UNSAID, 0) == SHORT);
	took(UNSAID, SHORT + 1);
	CHECK(expect(UNSAID, 0) == LENGTH_LONG);
	took(UNSAID, 300 * SECOND / 1000);
	while (expect(UNSAID, 0) == LENGTH_LONG && ++runs < 1000)
		took(UNSAID, 1000);
	CHECK(runs > 50 && runs < 100);		/* one in 90 calls that takes 300 ms is remembered until the next */
	for (int i = 0; i < 1000; i++)
		took(UNSAID, 1000);
	CHECK(expect(UNSAID, 0) >= 1000 && expect(UNSAID, 0) < 1300);
}

static void
check_bar(void)
{
	unsigned entry = stats_entry_of(UNSAID);
	uint64_t now = SECOND, bar = 0;

	about = "bar";
	CHECK(expect(UNSAID, now) != LENGTH_LONG);
	CHECK(lengths_bar(entry, now) == SECOND);
	CHECK(expect(UNSAID, now) == LENGTH_LONG);
	CHECK(expect(UNSAID, now + SECOND - 1) == LENGTH_LONG);
	CHECK(expect(UNSAID, now + SECOND) != LENGTH_LONG);
	CHECK(expect(SAID_SHORT, now) != LENGTH_LONG);
	CHECK(lengths_bar(entry, now) == 2 * SECOND);
	CHECK(lengths_bar(entry, now) == 4 * SECOND);
	for (int i = 0; i < 100; i++)
		bar = lengths_bar(entry, now);
	CHECK(bar == 3600 * SECOND);
}

static void
check_off(const gd_driver *driver)
{
	about = "off";
	lengths_open(driver, 0);
	CHECK(expect(SAID_SHORT, UINT64_MAX) == LENGTH_LONG);
	CHECK(expect(UNSAID, UINT64_MAX) == LENGTH_LONG);
}

int
main(void)
{
	const gd_driver driver = { .commands = commands, .lengths = said };

	if (recorder_open(-1, 1, 1, 1) != 0)
		return 1;
	stats_open(commands);
	lengths_open(&driver, SHORT);
	check_what_was_said();
	check_decay();
	check_bar();
	check_off(&driver);
	return check_summary();
}
