/* SPDX-License-Identifier: MIT */
/* The turns of lanes.h. */
#include <stdlib.h>

#include "lanes.h"
#include "lengths.h"

int
lanes_init(struct lanes *all, uint32_t requests, uint32_t slots)
{
	/* Their memory is touched when they are needed, not before. */
	all->of_slot = calloc(slots, sizeof(all->of_slot[0]));
	all->made = calloc(requests, sizeof(all->made[0]));
	return all->of_slot != NULL && all->made != NULL ? 0 : -1;
}

void
lanes_free(struct lanes *all)
{
	free(all->of_slot);
	free(all->made);
}

/* Its turn comes after all others'. */
static void
line_up(struct lanes *all, struct lane *l)
{
	struct place *p = l->place;

	l->left = LANE_TURN;
	l->since = all->turns++;
	l->next = NULL;
	l->prev = p->last;
	if (p->last != NULL)
		p->last->next = l;
	else
		p->first = l;
	p->last = l;
}

static void
step_out(struct lane *l)
{
	struct place *p = l->place;

	if (l->prev != NULL)
		l->prev->next = l->next;
	else
		p->first = l->next;
	if (l->next != NULL)
		l->next->prev = l->prev;
	else
		p->last = l->prev;
}

/* Of a connection that has nothing waiting in this place. */
static struct lane *
begin(struct lanes *all, struct place *p, const struct request *r)
{
	struct lane *l = all->free, **of = &all->of_slot[r->slot];

	if (l != NULL)
		all->free = l->sibling;
	else
		l = &all->made[all->fresh++];
	all->slots += *of == NULL;
	l->sibling = *of;
	*of = l;
	l->slot = r->slot;
	l->generation = r->generation;
	l->place = p;
	line_up(all, l);
	return l;
}

/* Its last request was taken out. */
static void
end(struct lanes *all, struct lane *l)
{
	struct lane **of = &all->of_slot[l->slot], **at = of;

	step_out(l);
	while (*at != l)
		at = &(*at)->sibling;
	*at = l->sibling;
	all->slots -= *of == NULL;
	l->sibling = all->free;
	all->free = l;
}

void
lanes_push(struct lanes *all, struct place *p, struct request *r)
{
	struct lane *l = all->of_slot[r->slot];

	/* A slot that has changed hands has lanes of both. */
	while (l != NULL && (l->place != p || l->generation != r->generation))
		l = l->sibling;
	if (l == NULL)
		l = begin(all, p, r);
	r->lane = l;
	queue_push(&l->waiting, r);
}

/* A request of this lane, which was taken out, is run: is its turn over? */
static bool
spend(struct lane *l, const struct request *r)
{
	uint32_t ns = lengths_lately(r->entry);

	if (ns >= l->left)
		return true;
	l->left -= ns;
	return false;
}

void
lanes_remove(struct lanes *all, struct request *r)
{
	struct lane *l = r->lane;

	queue_remove(&l->waiting, r);
	if (l->waiting.head == NULL)
		end(all, l);
}

struct request *
lanes_pop(struct lanes *all, struct place *p)
{
	struct lane *l = p->first;
	struct request *r;

	if (l == NULL)
		return NULL;
	r = queue_pop(&l->waiting);
	if (l->waiting.head == NULL) {
		end(all, l);
	} else if (spend(l, r)) {
		step_out(l);
		line_up(all, l);
	}
	return r;
}
