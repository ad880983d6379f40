/* SPDX-License-Identifier: MIT */
/* The chunks of output.h. The last chunk is kept for reuse when all is sent. */
#include <stdlib.h>
#include <string.h>

#include "output.h"

struct chunk {
	struct chunk *next;
	const unsigned char *data;	/* in `small`, or in own */
	size_t len, sent;
	void *own;
	unsigned char small[];	/* OUTPUT_SMALL bytes, but none when own is set */
};

static void
append(struct output *o, struct chunk *c)
{
	c->next = NULL;
	if (o->tail != NULL)
		o->tail->next = c;
	else
		o->head = c;
	o->tail = c;
}

unsigned char *
output_room(struct output *o, size_t n)
{
	struct chunk *c = o->tail;

	if (c == NULL || c->own != NULL || OUTPUT_SMALL - c->len < n) {
		if ((c = malloc(sizeof(*c) + OUTPUT_SMALL)) == NULL)
			return NULL;
		c->len = c->sent = 0;
		c->own = NULL;
		c->data = c->small;
		append(o, c);
	}
	return c->small + c->len;
}

void
output_wrote(struct output *o, size_t n)
{
	o->tail->len += n;
	o->unsent += n;
}

int
output_take(struct output *o, const void *data, size_t len, void *own)
{
	struct chunk *c = malloc(sizeof(*c));

	if (c == NULL)
		return -1;
	c->data = data;
	c->len = len;
	c->sent = 0;
	c->own = own;
	append(o, c);
	o->unsent += len;
	return 0;
}

int
output_copy(struct output *o, const void *data, size_t len)
{
	unsigned char *at;
	void *own;

	if (len <= OUTPUT_SMALL) {
		if ((at = output_room(o, len)) == NULL)
			return -1;
		memcpy(at, data, len);
		output_wrote(o, len);
		return 0;
	}
	if ((own = malloc(len)) == NULL)
		return -1;
	memcpy(own, data, len);
	if (output_take(o, own, len, own) != 0) {
		free(own);
		return -1;
	}
	return 0;
}

int
output_front(const struct output *o, struct iovec *iov, int max)
{
	int n = 0;

	for (struct chunk *c = o->head; c != NULL && n < max; c = c->next) {
		if (c->len == c->sent)
			continue;
		iov[n].iov_base = (void *)(c->data + c->sent);
		iov[n++].iov_len = c->len - c->sent;
	}
	return n;
}

static void
drop_head(struct output *o)
{
	struct chunk *c = o->head;

	if ((o->head = c->next) == NULL)
		o->tail = NULL;
	free(c->own);
	free(c);
}

void
output_sent(struct output *o, size_t n)
{
	o->unsent -= n;
	while (n > 0) {
		struct chunk *c = o->head;
		size_t part = c->len - c->sent < n ? c->len - c->sent : n;
		c->sent += part;
		n -= part;
		if (c->sent < c->len)
			return;
		if (c->next == NULL && c->own == NULL) {
			c->len = c->sent = 0;
			return;
		}
		drop_head(o);
	}
}

void
output_free(struct output *o)
{
	while (o->head != NULL)
		drop_head(o);
	o->unsent = 0;
}
