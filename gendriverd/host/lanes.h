/* SPDX-License-Identifier: MIT */
/*
 * Requests of many connections in one place where they wait: each connection's in order, the connections in
 * turn. So who sends thousands at once makes the others wait for his turn, and not for all of them.
 *
 * What a connection has waiting in one place is a lane. A lane's turn is one request, or as many as are
 * expected to take no longer together than LANE_TURN: short ones of one connection then stay together, and
 * their answers too. There are lanes only where requests wait, so never more of them than requests. No lock of
 * their own: the pool's guards its lanes, the loop alone has its own (pool_parts.h).
 */
#ifndef HOST_LANES_H
#define HOST_LANES_H

#include <stdint.h>

#include "queue.h"

#define LANE_TURN 100000u	/* ns */

struct lane {
	struct queue waiting;		/* never empty */
	struct place *place;
	struct lane *next, *prev;	/* in its place: whose turn comes after, and before */
	struct lane *sibling;		/* others of its slot; or, of none, the next that is free */
	uint32_t slot, generation;	/* its connection */
	uint32_t left;			/* ns: of its turn */
	uint64_t since;			/* when it began to wait for its turn, in turns of all places */
};

/* Where requests wait for one and the same. The first lane has its turn. */
struct place {
	struct lane *first, *last;
};

/* The lanes of several places. */
struct lanes {
	struct lane **of_slot;		/* NULL: nothing of it waits */
	struct lane *made, *free;
	uint32_t fresh;			/* made[fresh] and those behind it were never used */
	uint32_t slots;			/* of which something waits */
	uint64_t turns;			/* that have begun to be waited for */
};

/* For so many requests, of connections in so many slots. 0, or -1: no memory. */
int lanes_init(struct lanes *all, uint32_t requests, uint32_t slots);
void lanes_free(struct lanes *all);
/* r waits here. */
void lanes_push(struct lanes *all, struct place *p, struct request *r);
/* Take out the next, or NULL. */
struct request *lanes_pop(struct lanes *all, struct place *p);
/* Take out r, wherever it waits. */
void lanes_remove(struct lanes *all, struct request *r);

/* Of two places the lane whose turn came first; NULL: both are empty. */
static inline struct lane *
lanes_older(const struct place *a, const struct place *b)
{
	if (a->first == NULL || (b->first != NULL && b->first->since < a->first->since))
		return b->first;
	return a->first;
}

#endif
