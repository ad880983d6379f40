/* SPDX-License-Identifier: MIT */
/*
 * Answers that a worker keeps back for a moment, as the next ones follow at once: then one send takes them all.
 * Only while what is next for it was short lately (lengths.h), only of one connection at a time, and
 * for no longer than a turn of the loop. Where the next one is not short after all, the thread that watches
 * (takeover.c) sends them within two of its ticks.
 *
 * Which answers is one word: the connection, and how often this worker has kept any. Whoever sets it to
 * none sends them.
 */
#include "lengths.h"
#include "pool_parts.h"

#define LARGE 16384u		/* bytes of an answer that goes out at once */

static uint32_t
slot_of(uint64_t kept)
{
	return (uint32_t)kept - 1;
}

/* Lock held. Whether what this worker is to run next is short. */
static bool
next_is_short(const struct pool *p, const struct worker *w)
{
	const struct request *r = seat_next(p, w->seat);

	return r != NULL && !r->takes_parts && lengths_expect(r->entry, w->bench.ended_at) != LENGTH_LONG;
}

bool
keep_wants(struct pool *p, struct worker *w, const struct request *r, const struct answer *answer)
{
	uint64_t kept = atomic_load_explicit(&w->kept, memory_order_relaxed);
	bool wants;

	if (!r->syn || answer->len >= LARGE || atomic_load_explicit(&p->waiting, memory_order_relaxed) == 0)
		return false;
	if (kept != 0 && (slot_of(kept) != r->slot || w->bench.ended_at >= w->keeps_until))
		return false;
	pthread_mutex_lock(&p->lock);
	wants = next_is_short(p, w);
	pthread_mutex_unlock(&p->lock);
	return wants;
}

void
keep_begin(struct pool *p, struct worker *w, uint32_t slot)
{
	if (atomic_load_explicit(&w->kept, memory_order_relaxed) != 0)
		return;
	w->keeps_until = w->bench.ended_at + LEAD_TURN;
	atomic_store(&w->kept, (uint64_t)++w->keeps << 32 | (slot + 1));	/* before the look at `armed` */
	lead_watch(&p->lead);
}

bool
keep_goes_on(const struct pool *p, const struct worker *w)
{
	return atomic_load_explicit(&w->kept, memory_order_relaxed) == 0
	    || (w->bench.ended_at < w->keeps_until && next_is_short(p, w));
}

static void
send_kept(struct pool *p, uint64_t kept)
{
	struct queue freed = { 0 };

	if (kept == 0)
		return;
	p->hooks.flush_one(slot_of(kept), &freed);
	pool_answered(p, &freed);
}

void
keep_end(struct pool *p, struct worker *w)
{
	if (atomic_load_explicit(&w->kept, memory_order_relaxed) != 0)
		send_kept(p, atomic_exchange(&w->kept, 0));
}

/* Lock held. What w keeps since the last look at the least, which is the caller's then; or 0. */
static uint64_t
take_late(struct worker *w)
{
	uint64_t kept = atomic_load(&w->kept), seen = w->kept_seen;

	w->kept_seen = kept;
	return kept == seen && atomic_compare_exchange_strong(&w->kept, &kept, 0) ? kept : 0;
}

void
keep_watch(struct pool *p)
{
	for (unsigned i = 0; i < p->threads; i++) {
		pthread_mutex_lock(&p->lock);
		uint64_t late = take_late(p->seats[i].holder);
		pthread_mutex_unlock(&p->lock);
		send_kept(p, late);
	}
}

bool
keep_any(struct pool *p)
{
	bool any = false;

	pthread_mutex_lock(&p->lock);
	for (unsigned i = 0; i < p->threads && !any; i++)
		any = atomic_load(&p->seats[i].holder->kept) != 0;
	pthread_mutex_unlock(&p->lock);
	return any;
}
