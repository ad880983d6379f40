/* SPDX-License-Identifier: MIT */
/*
 * Requests that have killed this instance's hosts again and again, and are refused: by
 * command, and length and SHA-256 of their params (the term, without version byte).
 * The daemon counts the deaths and says which. Loop's thread alone.
 */
#ifndef HOST_QUARANTINE_H
#define HOST_QUARANTINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sha256.h"

#define QUARANTINE_MOST 64	/* when there are more, the one that ends first goes */

struct quarantined {
	int cmd;
	uint64_t len;			/* bytes of params */
	unsigned char digest[SHA256_SIZE];
	uint64_t until;			/* ns of CLOCK_MONOTONIC; 0: unused */
};

void quarantine_add(const struct quarantined *entry);
/* Whether such a request is to be refused now. Costs nothing to speak of, but for one of the same command
 * and length: then its params are hashed. */
bool quarantine_holds(int cmd, const unsigned char *params, size_t len);

#endif
