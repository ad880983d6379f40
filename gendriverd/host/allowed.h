/* SPDX-License-Identifier: MIT */
/*
 * The commands that a connection may ask for, where these are not all: the daemon says which when it
 * passes the socket. Made once, then only read. Loop's thread.
 */
#ifndef HOST_ALLOWED_H
#define HOST_ALLOWED_H

#include <stdbool.h>
#include <stdint.h>

#include "gd_term.h"

#define ALLOWED_MOST 256

struct allowed {
	uint32_t n;
	uint32_t commands[];	/* ascending */
};

/* `all` (NULL), or a list of at most ALLOWED_MOST commands (malloc'ed, the caller's to free). 0, or -1: it is
 * neither, or there is no memory; then *allowed is as it was. */
int allowed_read(gd_in *in, struct allowed **allowed);

bool allowed_finds(const struct allowed *allowed, int cmd);

static inline bool
allowed_has(const struct allowed *allowed, int cmd)
{
	return allowed == NULL || allowed_finds(allowed, cmd);
}

#endif
