/* SPDX-License-Identifier: MIT */
/* The running request of each thread, and what a driver may ask about it. */
#include "gen_driver.h"
#include "running.h"

static _Thread_local struct running here;

void
running_set(struct request *r, unsigned seat)
{
	here = (struct running){ .request = r, .seat = seat };
}

void
running_cut(const char *why)
{
	here.cut = why;
}

struct running
running_here(void)
{
	return here;
}

int
gd_cancelled(void)
{
	return here.request != NULL && atomic_load_explicit(&here.request->cancelled, memory_order_relaxed);
}

int64_t
gd_deadline(void)
{
	return here.request != NULL ? (int64_t)here.request->deadline : 0;
}
