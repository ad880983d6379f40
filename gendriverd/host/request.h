/* SPDX-License-Identifier: MIT */
/*
 * A request: one call or cast, from the moment its frame was accepted until its
 * answer is given back. It knows its connection as (slot, generation), never as
 * a pointer: the connection may be gone when the answer comes.
 *
 * Small params are copied into the request's slot of the recorder; params of a frame
 * that had a buffer of its own take that buffer along.
 */
#ifndef HOST_REQUEST_H
#define HOST_REQUEST_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "recorder.h"

struct lane;

enum request_state { REQUEST_FREE, REQUEST_QUEUED, REQUEST_RUNNING };

struct request {
	/* Its lane or free list (pool lock), or its connection's replies that are not yet
	 * sent (the connection's lock). */
	struct request *next, *prev;
	struct slot *record;		/* its own, for ever */
	enum request_state state;	/* pool lock */
	bool shared;			/* pool lock: by its answer and a thread that was written off */
	struct lane *lane;		/* pool lock: where it waits */
	size_t heap_at;			/* pool lock: place among the deadlines, 0: none */

	uint32_t credit;		/* conn lock: parts that its caller still takes */
	bool takes_parts;
	uint64_t end_at;		/* conn lock: where in its connection's output its reply ends */
	uint64_t number;		/* the host's, ascending: order, and logs */
	uint64_t deadline;		/* ns of CLOCK_MONOTONIC, 0: none */
	uint32_t slot, generation;	/* its connection */
	uint32_t id;			/* the client's, for a call */
	uint32_t key;
	int cmd;
	unsigned char entry;		/* its command's: stats.h */
	bool syn;			/* a call */
	bool keyed;
	atomic_bool cancelled;		/* asked to stop, or nobody waits any more */
	size_t bytes;			/* of its frame: counts as in flight */

	unsigned char *own;		/* malloc'ed buffer that holds params, or NULL */
	unsigned char *params;		/* behind a version byte: params[-1] is 131 */
	size_t params_len;
};

/* What became of a request: exactly one term, or the service's own word. */
struct answer {
	const char *failed;	/* reason, or NULL: `term` holds */
	const unsigned char *term;	/* without version byte */
	size_t len;
	void *own;		/* malloc'ed buffer around term that may be taken, or NULL */
	bool astray;		/* loop: its thread was written off, and is in the driver yet */
	bool more;		/* loop: others follow at once, and then it sends them all */
	bool kept;		/* worker: the same (keep.c) */
};

/* Copy params (NULL: none were sent, [] is meant) into r, or take `own`, in
 * which they lie with a byte to spare in front. 0, or -1: out of memory. */
int request_set_params(struct request *r, const unsigned char *params, size_t len,
    unsigned char *own);
/* Free what r owns; r itself belongs to the pool. */
void request_clear(struct request *r);

#endif
