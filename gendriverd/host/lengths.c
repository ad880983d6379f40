/* SPDX-License-Identifier: MIT */
/* The estimates of lengths.h: a few words for each entry, read and written with relaxed order. */
#include <stdatomic.h>
#include <stdbool.h>

#include "lengths.h"
#include "stats.h"

#define SAID 1000u			/* ns: what the driver calls short takes no longer */
#define FIRST_BAR 1000000000ull		/* ns */
#define LONGEST_BAR (3600 * FIRST_BAR)

static struct length {
	_Atomic uint32_t lately;	/* ns; 0: nobody knows */
	unsigned char said;		/* constant: GD_SHORT, GD_LONG, or 0: nothing */
	_Atomic uint64_t barred_until;	/* ns of CLOCK_MONOTONIC */
	uint64_t bar;			/* ns: the last one */
} lengths[STATS_COMMANDS + 1];

static uint32_t most_ns;

void
lengths_open(const gd_driver *driver, uint32_t most)
{
	most_ns = most;
	for (const gd_length *l = driver->lengths; l != NULL && l->is != GD_LENGTHS_END; l++)
		lengths[stats_entry_of(l->cmd)].said = (unsigned char)l->is;
}

uint32_t
lengths_expect(unsigned entry, uint64_t now)
{
	struct length *l = &lengths[entry];
	uint32_t lately = atomic_load_explicit(&l->lately, memory_order_relaxed);

	if (most_ns == 0 || l->said == GD_LONG)
		return LENGTH_LONG;
	if (atomic_load_explicit(&l->barred_until, memory_order_relaxed) > now)
		return LENGTH_LONG;
	if (l->said == GD_SHORT)
		return lately < SAID ? lately : SAID;
	return lately == 0 || lately > most_ns ? LENGTH_LONG : lately;
}

uint32_t
lengths_lately(unsigned entry)
{
	uint32_t lately = atomic_load_explicit(&lengths[entry].lately, memory_order_relaxed);

	return lately != 0 ? lately : LENGTH_LONG;
}

/* Where the new value is close to the old it is not stored: other threads have it in their caches. */
void
lengths_took(unsigned entry, uint64_t ns)
{
	struct length *l = &lengths[entry];
	uint32_t took = ns < LENGTH_LONG ? (uint32_t)ns + (ns == 0) : LENGTH_LONG;
	uint32_t old = atomic_load_explicit(&l->lately, memory_order_relaxed);
	uint32_t decayed = old - old / 8;

	if (took > old)
		atomic_store_explicit(&l->lately, took, memory_order_relaxed);
	else if (took < decayed - decayed / 8)
		atomic_store_explicit(&l->lately, decayed, memory_order_relaxed);
}

uint64_t
lengths_bar(unsigned entry, uint64_t now)
{
	struct length *l = &lengths[entry];

	l->bar = l->bar == 0 ? FIRST_BAR : 2 * l->bar;
	if (l->bar > LONGEST_BAR)
		l->bar = LONGEST_BAR;
	atomic_store_explicit(&l->barred_until, now + l->bar, memory_order_relaxed);
	return l->bar;
}
