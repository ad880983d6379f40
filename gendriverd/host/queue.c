/* SPDX-License-Identifier: MIT */
/* The deadline heap of queue.h, and what of the FIFO is not short. */
#include <stdlib.h>

#include "queue.h"

void
queue_join(struct queue *q, struct queue *from)
{
	if (from->head == NULL)
		return;
	from->head->prev = q->tail;
	if (q->tail != NULL)
		q->tail->next = from->head;
	else
		q->head = from->head;
	q->tail = from->tail;
	q->len += from->len;
	*from = (struct queue){ 0 };
}

int
deadlines_init(struct deadlines *d, size_t room)
{
	d->len = 0;
	d->room = room;
	d->at = calloc(room + 1, sizeof(*d->at));
	return d->at != NULL ? 0 : -1;
}

void
deadlines_free(struct deadlines *d)
{
	free(d->at);
	d->at = NULL;
}

static void
put(struct deadlines *d, size_t i, struct request *r)
{
	d->at[i] = r;
	r->heap_at = i;
}

static void
rise(struct deadlines *d, size_t i)
{
	struct request *r = d->at[i];

	for (; i > 1 && d->at[i / 2]->deadline > r->deadline; i /= 2)
		put(d, i, d->at[i / 2]);
	put(d, i, r);
}

static void
sink(struct deadlines *d, size_t i)
{
	struct request *r = d->at[i];
	size_t child;

	for (; (child = 2 * i) <= d->len; i = child) {
		if (child < d->len && d->at[child + 1]->deadline < d->at[child]->deadline)
			child++;
		if (d->at[child]->deadline >= r->deadline)
			break;
		put(d, i, d->at[child]);
	}
	put(d, i, r);
}

void
deadlines_add(struct deadlines *d, struct request *r)
{
	put(d, ++d->len, r);
	rise(d, d->len);
}

void
deadlines_remove(struct deadlines *d, struct request *r)
{
	size_t i = r->heap_at;
	struct request *last;

	if (i == 0)
		return;
	r->heap_at = 0;
	last = d->at[d->len--];
	if (last == r)
		return;
	put(d, i, last);
	rise(d, i);
	sink(d, last->heap_at);
}

struct request *
deadlines_first(const struct deadlines *d)
{
	return d->len > 0 ? d->at[1] : NULL;
}
