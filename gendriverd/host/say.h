/* SPDX-License-Identifier: MIT */
/*
 * What the loop says to the daemon (docs/control-channel.md), but for the log and refuse.
 * All: loop, or before there are threads.
 */
#ifndef HOST_SAY_H
#define HOST_SAY_H

#include <stdbool.h>
#include <stdint.h>

#include "conn.h"
#include "driver.h"

/* {Tag} */
void say(const char *tag);
/* {Tag, Number} */
void say_number(const char *tag, uint64_t number);
/* A connection was not adopted. */
void say_refused(uint64_t number, const char *reason);
/* And one that was is gone. */
void say_closed(const struct conn *c);
/* False: there is more to say than a message holds. */
bool say_ready(const struct driver *d);

#endif
