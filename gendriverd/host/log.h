/* SPDX-License-Identifier: MIT */
/*
 * Log lines to the daemon, which writes them: {log, Level, Event, Map}. Never
 * blocks; what the channel has no room for is dropped, and counted in the next
 * line that gets through. Any thread.
 */
#ifndef HOST_LOG_H
#define HOST_LOG_H

#include <stddef.h>
#include <stdint.h>

#include "gen_driver.h"

void log_level_set(int level);			/* enum gd_level */
int log_level_of(const char *name, size_t len);	/* or -1 */

struct log_number {
	const char *key;
	uint64_t n;
};

/* So many numbers with the event. */
void log_numbers(enum gd_level level, const char *event, const struct log_number *numbers, size_t n);
/* One field with the event; text NULL: none. */
void log_event(enum gd_level level, const char *event, const char *key, const char *text);

#endif
