/* SPDX-License-Identifier: MIT */
/*
 * What waits to be sent on one connection: a list of chunks. Bytes are only ever
 * added behind those that are there, so one thread may send the front, without
 * the lock, while others append under it.
 */
#ifndef HOST_OUTPUT_H
#define HOST_OUTPUT_H

#include <stddef.h>
#include <sys/uio.h>

struct chunk;

struct output {
	struct chunk *head, *tail;
	size_t unsent;		/* bytes */
};

/* Room for n (at most OUTPUT_SMALL) bytes to be written at once; then
 * output_wrote says how many were. NULL: out of memory. */
#define OUTPUT_SMALL 4000
unsigned char *output_room(struct output *o, size_t n);
void output_wrote(struct output *o, size_t n);

/* Copy data, or, with `own`, take over the malloc'ed buffer in which it lies.
 * 0, or -1: out of memory, nothing changed and own is still the caller's. */
int output_copy(struct output *o, const void *data, size_t len);
int output_take(struct output *o, const void *data, size_t len, void *own);

/* The front, as at most `max` vectors; how many. */
int output_front(const struct output *o, struct iovec *iov, int max);
/* n bytes of it are sent. */
void output_sent(struct output *o, size_t n);
void output_free(struct output *o);

#endif
