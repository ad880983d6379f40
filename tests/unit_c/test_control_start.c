/* SPDX-License-Identifier: MIT */
/* The start message: each of its fields, missing, wrong, twice, or beyond its bounds; and no memory for them. */
#include "check.h"
#include "control_words.h"
#include "faults.h"
#include "recorder.h"

/* 0 or -1, and all that was allocated is freed. */
static int
started(void)
{
	struct start s;
	int code;

	CHECK(gd_out_done(&message) == 1);
	code = control_parse_start(message.buf, message.len, &s);
	for (size_t i = 0; i < s.run_limit_count; i++)
		free(s.run_limits[i].command);
	free(s.run_limits);
	sandbox_forget(&s.sandbox);
	free(s.driver);
	free(s.name);
	gd_out_free(&message);
	return code;
}

/* The pair of a key and one of these. */
static const char *key;
static enum { NIL, NUMBER, SETTING, BAD_SETTING, NO_SETTING, LIMIT, NO_LIMIT, BAD_LIMIT, INFO } value;

static void
put_setting(const char *name, bool text)
{
	gd_put_map(&message, 1);
	gd_put_text(&message, name);
	if (text)
		gd_put_text(&message, "v");
	else
		gd_put_nil(&message);
}

static void
put_pair(void)
{
	gd_put_atom(&message, key);
	switch (value) {
	case NIL: gd_put_nil(&message); break;
	case NUMBER: gd_put_u64(&message, 3); break;
	case SETTING: put_setting("a", true); break;
	case BAD_SETTING: put_setting("bad", true); break;
	case NO_SETTING: put_setting("a", false); break;
	case NO_LIMIT: gd_put_map(&message, 1), gd_put_nil(&message), gd_put_u64(&message, 1); break;
	case LIMIT: gd_put_map(&message, 1), gd_put_text(&message, "c"), gd_put_u64(&message, 1); break;
	case BAD_LIMIT: gd_put_map(&message, 1), gd_put_text(&message, "c"), gd_put_nil(&message); break;
	case INFO: gd_put_atom(&message, "info"); break;
	}
}

static int
started_with(const char *with, int what)
{
	key = with;
	value = what;
	say_start(1, put_pair, 2, 0);
	return started();
}

static void
put_text_as_key(void)
{
	gd_put_text(&message, "key");
	gd_put_nil(&message);
}

static void
put_name_too(void)
{
	gd_put_atom(&message, "name");
	gd_put_text(&message, "other");
}

static void
put_run_limits_twice(void)
{
	key = "max_run_of";
	value = LIMIT;
	put_pair();
	put_pair();
}

static void
check_pairs(void)
{
	static const char *const numbers[] = { "generation", "short", "max_run", "cores" };

	about = "pairs";
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		CHECK(started_with(numbers[i], NUMBER) == 0 && started_with(numbers[i], NIL) == -1);
	CHECK(started_with("log_level", INFO) == 0 && started_with("log_level", NIL) == -1);
	CHECK(started_with("settings", SETTING) == 0 && started_with("settings", NIL) == -1);
	CHECK(started_with("settings", BAD_SETTING) == -1 && started_with("settings", NO_SETTING) == -1);
	CHECK(started_with("settings", NO_LIMIT) == -1);
	CHECK(started_with("max_run_of", LIMIT) == 0 && started_with("max_run_of", NIL) == -1);
	CHECK(started_with("max_run_of", NO_LIMIT) == -1 && started_with("max_run_of", BAD_LIMIT) == -1);
	CHECK(started_with("name", NIL) == -1 && started_with("limits", NIL) == -1);
	CHECK(started_with("name", NUMBER) == -1 && started_with("more", NIL) == 0);
	say_start(1, put_text_as_key, 2, 0);
	CHECK(started() == 0);
	say_start(1, put_name_too, 2, 0);
	CHECK(started() == -1);
	say_start(2, put_run_limits_twice, 2, 0);
	CHECK(started() == -1);
}

static void
check_bounds(void)
{
	about = "bounds";
	say_start(0, NULL, 1024, RECORDER_ABANDONED);
	CHECK(started() == 0);
	say_start(0, NULL, 1025, 0);
	CHECK(started() == -1);
	say_start(0, NULL, 0, 0);
	CHECK(started() == -1);
	say_start(0, NULL, 1, RECORDER_ABANDONED + 1);
	CHECK(started() == -1);
}

/* Only limits, and whether there is a name, a driver. */
static int
started_bare(bool name, bool driver, const char *except, int how)
{
	say("start", 2);
	gd_put_map(&message, (size_t)2 + name + driver);
	gd_put_atom(&message, "threads");
	gd_put_u64(&message, 1);
	for (int i = 0; i < 2; i++) {
		if (i == 0 ? !name : !driver)
			continue;
		gd_put_atom(&message, i == 0 ? "name" : "driver");
		gd_put_text(&message, "x");
	}
	put_limits(except, how);
	return started();
}

static void
check_missing(void)
{
	about = "missing";
	CHECK(started_bare(true, true, NULL, 0) == 0);
	CHECK(started_bare(false, true, NULL, 0) == -1 && started_bare(true, false, NULL, 0) == -1);
	for (size_t i = 0; i < LIMITS; i++)
		CHECK(started_bare(true, true, limits[i], 0) == -1 && started_bare(true, true, limits[i], 1) == -1);
	CHECK(started_bare(true, true, "frame", 2) == -1 && started_bare(true, true, "connections", 2) == -1);
	CHECK(started_bare(true, true, "queue", 2) == 0);
	say("start", 1);
	CHECK(started() == -1);
	say("begin", 2);
	gd_put_nil(&message);
	CHECK(started() == -1);
	say("start", 2);
	gd_put_nil(&message);
	CHECK(started() == -1);
}

/* No memory for the first text, the second, the list of limits, its text. */
static void
check_no_memory(void)
{
	about = "no memory";
	for (int n = 0; n < 4; n++) {
		key = "max_run_of";
		value = LIMIT;
		say_start(1, put_pair, 2, 0);
		allocations = n;
		CHECK(started() == -1);
		allocations = -1;
	}
}

int
main(void)
{
	check_pairs();
	check_bounds();
	check_missing();
	check_no_memory();
	return check_summary();
}
