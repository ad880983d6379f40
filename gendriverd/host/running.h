/* SPDX-License-Identifier: MIT */
/*
 * What the calling thread is running right now: for gd_log, gd_cancelled, gd_part and
 * others that a driver calls without saying who it is.
 */
#ifndef HOST_RUNNING_H
#define HOST_RUNNING_H

#include "request.h"

struct running {
	struct request *request;	/* NULL: no dispatch on this thread */
	unsigned seat;
	const char *cut;		/* why its parts ended before the last, or NULL */
};

void running_set(struct request *r, unsigned seat);
void running_cut(const char *why);
struct running running_here(void);

#endif
