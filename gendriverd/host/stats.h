/* SPDX-License-Identifier: MIT */
/*
 * What the requests of each command have cost, for each seat: how many ran, how long
 * they had waited, and how long they took. It lies in the recorder, so the daemon may
 * read it while this process lives and when it is dead. gendriverd/statistics.py is its
 * reader, and a test holds the two together.
 *
 * An entry is written by the thread in its seat alone, with relaxed stores and without a
 * lock; a reader may see one word newer than the next.
 */
#ifndef HOST_STATS_H
#define HOST_STATS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "gen_driver.h"

#define STATS_COMMANDS 64	/* the first that the driver declares */
#define STATS_OTHERS STATS_COMMANDS	/* the entry of all other commands */

/* Buckets of time: one below 1.024 us (2^10 ns), then four for each power of two, the last
 * for 68.7 s (2^36 ns) and more. Between, the middle of a bucket is within 12.5 % of every
 * time that falls in. */
#define STATS_LOW 10
#define STATS_HIGH 36
#define STATS_BUCKETS (4 * (STATS_HIGH - STATS_LOW) + 2)

struct timing {
	_Atomic uint64_t sum, most;	/* ns */
	_Atomic uint64_t buckets[STATS_BUCKETS];
};

struct stats_entry {
	_Atomic uint64_t calls, casts;	/* whose dispatch has returned */
	_Atomic uint64_t failed;	/* of both: error_set, or a reply that was none */
	_Atomic uint64_t by_loop;	/* of both: the loop ran them, not a worker */
	_Atomic uint64_t taken_over;	/* of those: they took so long that another thread became the loop */
	struct timing waited;		/* from accepted to taken out by a worker */
	struct timing ran;		/* from there to the return of dispatch */
};

#define STATS_SEAT 118784	/* bytes: whole pages; those of commands that nobody uses cost none */

struct stats_seat {
	struct stats_entry entries[STATS_COMMANDS + 1];
	unsigned char pad[STATS_SEAT - (STATS_COMMANDS + 1) * sizeof(struct stats_entry)];
};

/* One request that has run. */
struct sample {
	unsigned entry;		/* its command's */
	bool call, failed, by_loop;
	uint64_t queued_at, started_at, ended_at;	/* ns of CLOCK_MONOTONIC */
};

/* Once, before there are workers; the recorder is open. NULL: the driver declares none. */
void stats_open(const gd_command *commands);
/* The command's; those without one of their own have STATS_OTHERS. */
unsigned stats_entry_of(int cmd);
/* The thread in this seat. */
void stats_add(unsigned seat, const struct sample *s);
/* One thread. The loop was taken over while it was in this seat. */
void stats_taken_over(unsigned seat, unsigned entry);

static inline unsigned
stats_bucket(uint64_t ns)
{
	unsigned power;

	if (ns >> STATS_LOW == 0)
		return 0;
	if (ns >> STATS_HIGH != 0)
		return STATS_BUCKETS - 1;
	power = 63 - (unsigned)__builtin_clzll(ns);
	return 1 + 4 * (power - STATS_LOW) + (unsigned)(ns >> (power - 2) & 3);
}

#endif
