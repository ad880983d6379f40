/* SPDX-License-Identifier: MIT */
/*
 * Two orders over requests, both intrusive and without a lock of their own (the
 * pool's guards them): a FIFO from which any member can be taken out, and a heap
 * of deadlines.
 */
#ifndef HOST_QUEUE_H
#define HOST_QUEUE_H

#include <stddef.h>

#include "request.h"

struct queue {
	struct request *head, *tail;
	size_t len;
};

void queue_push(struct queue *q, struct request *r);
void queue_push_front(struct queue *q, struct request *r);	/* the next to be popped */
struct request *queue_pop(struct queue *q);	/* NULL: empty */
void queue_remove(struct queue *q, struct request *r);
/* Append all of `from`, which is empty afterwards. */
void queue_join(struct queue *q, struct queue *from);

/* Earliest deadline first; at[1..len]. */
struct deadlines {
	struct request **at;
	size_t len, room;
};

int deadlines_init(struct deadlines *d, size_t room);	/* 0, or -1: no memory */
void deadlines_free(struct deadlines *d);
void deadlines_add(struct deadlines *d, struct request *r);	/* room is the caller's care */
void deadlines_remove(struct deadlines *d, struct request *r);	/* not in it: nothing */
struct request *deadlines_first(const struct deadlines *d);	/* NULL: none */

#endif
