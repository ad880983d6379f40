/* SPDX-License-Identifier: MIT */
/* The counting of stats.h, and which entry is a command's: a small hash table, made once. */
#include "recorder.h"
#include "stats.h"

#define ROOM 128	/* a power of two, twice what comes in: a search ends soon */
#define ROOM_BITS 7

static struct {
	int cmd;
	unsigned entry;		/* + 1; 0: free */
} table[ROOM];

/* Where cmd is, or where it would be. */
static unsigned
place(int cmd)
{
	unsigned at = (uint32_t)cmd * 2654435769u >> (32 - ROOM_BITS);

	while (table[at].entry != 0 && table[at].cmd != cmd)
		at = (at + 1) % ROOM;
	return at;
}

void
stats_open(const gd_command *commands)
{
	struct recorder *r = recorder_here();
	uint32_t n = 0;

	for (const gd_command *c = commands; c != NULL && c->name != NULL && n < STATS_COMMANDS; c++) {
		unsigned at = place(c->cmd);
		if (table[at].entry != 0)
			continue;	/* another name of the same */
		table[at].cmd = r->commands[n] = c->cmd;
		table[at].entry = ++n;
	}
	atomic_store_explicit(&r->command_count, n, memory_order_release);
}

unsigned
stats_entry_of(int cmd)
{
	unsigned entry = table[place(cmd)].entry;

	return entry != 0 ? entry - 1 : STATS_OTHERS;
}

/* Nobody else writes: no need for an addition that is atomic. */
static void
add(_Atomic uint64_t *word, uint64_t n)
{
	atomic_store_explicit(word, atomic_load_explicit(word, memory_order_relaxed) + n,
	    memory_order_relaxed);
}

static void
add_time(struct timing *t, uint64_t from, uint64_t to)
{
	uint64_t ns = to > from ? to - from : 0;

	add(&t->sum, ns);
	if (ns > atomic_load_explicit(&t->most, memory_order_relaxed))
		atomic_store_explicit(&t->most, ns, memory_order_relaxed);
	add(&t->buckets[stats_bucket(ns)], 1);
}

void
stats_add(unsigned seat, const struct sample *s)
{
	struct stats_entry *e = &recorder_seat(seat)->entries[s->entry];

	add(s->call ? &e->calls : &e->casts, 1);
	if (s->failed)
		add(&e->failed, 1);
	if (s->by_loop)
		add(&e->by_loop, 1);
	add_time(&e->waited, s->queued_at, s->started_at);
	add_time(&e->ran, s->started_at, s->ended_at);
}

void
stats_taken_over(unsigned seat, unsigned entry)
{
	add(&recorder_seat(seat)->entries[entry].taken_over, 1);
}
