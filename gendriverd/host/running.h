/* SPDX-License-Identifier: MIT */
/*
 * What the calling thread is running right now: for gd_log, gd_cancelled and
 * gd_deadline, which a driver calls without saying who it is.
 */
#ifndef HOST_RUNNING_H
#define HOST_RUNNING_H

#include "request.h"

struct running {
	const struct request *request;	/* NULL: no dispatch on this thread */
	unsigned seat;
};

void running_set(const struct request *r, unsigned seat);
struct running running_here(void);

#endif
