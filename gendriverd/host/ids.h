/* SPDX-License-Identifier: MIT */
/*
 * The calls in flight of one connection: the client's id -> request. Open
 * addressing, linear probing, deletion by shifting back. No lock of its own.
 */
#ifndef HOST_IDS_H
#define HOST_IDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct request;

struct ids {
	struct request **at;	/* room entries, NULL: free */
	size_t len, room;	/* room: a power of two, or 0 */
};

/* Before there are any: where an id has its place is this process's own, so that no client knows ids that collide. */
void ids_seed(void);

/* 0; IDS_TAKEN: that id is in flight; IDS_NOMEM. Nothing changes on failure. */
enum { IDS_TAKEN = -1, IDS_NOMEM = -2 };
int ids_add(struct ids *s, struct request *r);
struct request *ids_find(const struct ids *s, uint32_t id);	/* or NULL */
bool ids_remove(struct ids *s, const struct request *r);	/* false: it is not in flight, or another is with its id */
void ids_free(struct ids *s);

#endif
