/* SPDX-License-Identifier: MIT */
/* Who gets a free request: anyone while there are many, then each connection its share, and a newcomer always. */
#include "pool_parts.h"

#define SCARCE 8	/* the last such part of the queue is shared out */

/* A free one, or NULL. Lock held. */
static struct request *
take_free(struct pool *p)
{
	struct request *r = queue_pop(&p->free);

	if (r == NULL && p->fresh < p->made) {
		r = &p->requests[p->fresh];
		r->record = recorder_slot(p->fresh);
		recorder_use(p->fresh++);
	}
	return r;
}

/* Free ones to hand, up to so many. Lock held. */
static void
refill(struct pool *p, size_t wanted, uint32_t most)
{
	struct request *r;

	for (; p->cache.len < wanted && p->active < most && (r = take_free(p)) != NULL; p->active++)
		queue_push(&p->cache, r);
}

/* Of the queue, for a connection that has `own` of it: where others wait too, no more than its part. Lock held. */
static bool
within_share(const struct pool *p, uint32_t own)
{
	return p->lanes.slots <= 1 || own < p->queue / p->lanes.slots;
}

/* One for such a connection is at hand. Lock held. */
static bool
at_hand(struct pool *p, uint32_t own)
{
	uint32_t many = p->threads + p->queue - p->queue / SCARCE;

	if (own > 0 && p->active - p->cache.len >= many && !within_share(p, own))
		return false;
	if (p->cache.head == NULL)
		refill(p, REFILL, p->most);
	if (p->cache.head == NULL && own == 0)
		refill(p, 1, p->most + p->reserve);
	p->crowded = p->active >= many;
	return p->cache.head != NULL;
}

struct request *
pool_take(struct pool *p, uint32_t own)
{
	bool got = true;

	if (p->cache.head == NULL || p->crowded) {
		pthread_mutex_lock(&p->lock);
		got = at_hand(p, own);
		p->starved |= !got;
		pthread_mutex_unlock(&p->lock);
	}
	return got ? queue_pop(&p->cache) : NULL;
}
