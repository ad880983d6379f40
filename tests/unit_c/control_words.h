/* SPDX-License-Identifier: MIT */
/* What the daemon says on the control channel, put together in `message`; and settings, which take all but "bad". */
#ifndef CONTROL_WORDS_H
#define CONTROL_WORDS_H

#include <stdbool.h>
#include <string.h>

#include "control.h"
#include "settings.h"
#include "term.h"

int
settings_add(const void *key, size_t key_len, const void *value, size_t value_len)
{
	(void)value, (void)value_len;
	return key_len == 3 && memcmp(key, "bad", 3) == 0 ? -1 : 0;
}

static gd_out message;

static inline void
say(const char *tag, size_t arity)
{
	gd_out_init(&message, CONTROL_MAX);
	gd_put_tuple(&message, arity);
	gd_put_atom(&message, tag);
}

static const char *const limits[] = {
	"frame", "depth", "terms", "bignum", "queue", "connections", "in_flight", "in_flight_bytes", "unsent_bytes",
	"unsent_ms", "linger_ms", "reply", "frame_ms", "frames_bytes",
};
#define LIMITS (sizeof(limits) / sizeof(limits[0]))

/* limits, of which `except` is left out, is 0 or `wrong`, and one that nobody knows. */
static inline void
put_limits(const char *except, int how)
{
	gd_put_atom(&message, "limits");
	gd_put_map(&message, LIMITS + 1);
	for (size_t i = 0; i < LIMITS; i++) {
		bool it = except != NULL && strcmp(limits[i], except) == 0;
		gd_put_atom(&message, it && how == 0 ? "no_limit" : limits[i]);
		if (it && how == 1)
			gd_put_nil(&message);
		else
			gd_put_u64(&message, it ? 0 : 1000);
	}
	gd_put_atom(&message, "more");
	gd_put_nil(&message);
}

/* A start that is complete, but for the pairs that `change` puts in front; `pairs` counts them. */
static inline void
say_start(size_t pairs, void (*change)(void), uint64_t threads, uint64_t abandoned)
{
	say("start", 2);
	gd_put_map(&message, 5 + pairs);
	if (pairs > 0)
		change();
	gd_put_atom(&message, "name");
	gd_put_text(&message, "n");
	gd_put_atom(&message, "driver");
	gd_put_text(&message, "d");
	gd_put_atom(&message, "threads");
	gd_put_u64(&message, threads);
	gd_put_atom(&message, "max_abandoned");
	gd_put_u64(&message, abandoned);
	put_limits(NULL, 0);
}

#endif
