/* SPDX-License-Identifier: MIT */
/*
 * How long the requests of each command took lately, and so who runs the next one: the loop
 * what is short, a worker the rest. Of each a maximum that decays, max(new, old * 7/8), so that one
 * long run is remembered for some tens of short ones. A command that nobody has run yet
 * is for a worker; so are those that the driver calls long. Commands that have no entry of
 * their own (stats.h) share one.
 */
#ifndef HOST_LENGTHS_H
#define HOST_LENGTHS_H

#include <stdint.h>

#include "gen_driver.h"

#define LENGTH_LONG UINT32_MAX	/* not for the loop */

/* Once, after stats_open. `most`: ns up to which a request is short; 0: none is. */
void lengths_open(const gd_driver *driver, uint32_t most);
/* Loop. The ns that a request of this entry is expected to take, if it is for the loop; else LENGTH_LONG. */
uint32_t lengths_expect(unsigned entry, uint64_t now);
/* Any thread. The ns that one took lately; LENGTH_LONG: nobody knows. */
uint32_t lengths_lately(unsigned entry);
/* Any thread: one has run. */
void lengths_took(unsigned entry, uint64_t ns);
/* One thread. One was expected to be short, and the loop was held up: none is for the loop for a
 * while, a second at first, twice as long each time, an hour at most. The ns. */
uint64_t lengths_bar(unsigned entry, uint64_t now);

#endif
