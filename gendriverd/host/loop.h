/* SPDX-License-Identifier: MIT */
/*
 * The event loop: one thread that reads sockets and the control channel, keeps
 * the clock, and never waits for a driver.
 */
#ifndef HOST_LOOP_H
#define HOST_LOOP_H

#include "driver.h"
#include "start.h"

/* Starts the pool, says ready, serves until told to stop. The exit code. */
int loop_run(const struct start *start, struct driver *driver);

#endif
