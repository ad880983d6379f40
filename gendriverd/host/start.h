/* SPDX-License-Identifier: MIT */
/* What the daemon told this host at its start; written once, read by all. */
#ifndef HOST_START_H
#define HOST_START_H

#include <stddef.h>
#include <stdint.h>

#include "etf.h"
#include "sandbox.h"

struct limits {
	struct etf_limits term;		/* depth, terms, bignum of a request */
	uint32_t frame;			/* bytes of a request's frame */
	uint32_t frame_ms;		/* for it to be whole, and a second more for each 64 KiB of it */
	uint64_t frames_bytes;		/* of all connections' unfinished frames */
	uint32_t queue;			/* requests waiting for a worker */
	uint32_t connections;
	uint32_t in_flight;		/* calls of one connection */
	uint64_t in_flight_bytes;	/* their frames */
	uint64_t unsent_bytes;		/* of one connection; above, it is not read */
	uint32_t unsent_ms;		/* without progress: the connection ends */
	uint32_t linger_ms;		/* for the peer's end after goodbye */
	uint64_t reply;			/* bytes of a reply */
};

struct start {
	char *name;
	char *driver;			/* path */
	uint32_t generation;
	uint32_t threads;
	uint32_t short_ns;		/* requests that lately took no longer the loop runs itself; 0: none */
	uint32_t max_run_ms;		/* of a request, 0: for ever */
	struct run_limit {		/* of commands that have one of their own */
		char *command;		/* its name, or its number */
		uint32_t ms;
	} *run_limits;
	size_t run_limit_count;
	uint32_t max_abandoned;		/* threads that may be written off for that, 0: the process goes down */
	uint32_t cores;			/* not 0: leave a core file */
	int log_level;			/* enum gd_level */
	int recorder;			/* descriptor, closed when it is mapped; or -1: nobody will read it */
	struct limits limits;
	struct sandbox sandbox;
};

#endif
