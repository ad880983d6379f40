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

static inline void
queue_push(struct queue *q, struct request *r)
{
	r->next = NULL;
	r->prev = q->tail;
	if (q->tail != NULL)
		q->tail->next = r;
	else
		q->head = r;
	q->tail = r;
	q->len++;
}

/* The next to be popped. */
static inline void
queue_push_front(struct queue *q, struct request *r)
{
	r->prev = NULL;
	r->next = q->head;
	if (q->head != NULL)
		q->head->prev = r;
	else
		q->tail = r;
	q->head = r;
	q->len++;
}

static inline void
queue_remove(struct queue *q, struct request *r)
{
	if (r->prev != NULL)
		r->prev->next = r->next;
	else
		q->head = r->next;
	if (r->next != NULL)
		r->next->prev = r->prev;
	else
		q->tail = r->prev;
	r->next = r->prev = NULL;
	q->len--;
}

static inline struct request *
queue_pop(struct queue *q)	/* NULL: empty */
{
	struct request *r = q->head;

	if (r == NULL)
		return NULL;
	if ((q->head = r->next) != NULL)
		q->head->prev = NULL;
	else
		q->tail = NULL;
	r->next = NULL;
	q->len--;
	return r;
}

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
