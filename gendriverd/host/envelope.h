/* SPDX-License-Identifier: MIT */
/* What a client's frame asks for: docs/protocol.md, Requests. Pure. */
#ifndef HOST_ENVELOPE_H
#define HOST_ENVELOPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "etf.h"

/* Pointers point into the frame. */
struct envelope {
	enum envelope_kind {
		ENV_CALL, ENV_CAST, ENV_CANCEL, ENV_PING, ENV_GOODBYE, ENV_CREDIT, ENV_NOTES
	} kind;
	uint32_t id;			/* call, cancel, ping, credit */
	int cmd;			/* call, cast */
	const unsigned char *params;	/* one term without version byte; NULL: none */
	size_t params_len;
	bool has_timeout, has_key;
	uint32_t timeout_ms, key;
	uint32_t parts;			/* call: the parts it takes, 0: none; credit: so many more */
	bool notes;			/* notes: they are wanted */
	const unsigned char *trace;	/* NULL: none */
	size_t trace_len;
};

enum {
	ENV_BAD_ENVELOPE = -1,	/* no message of the protocol: the connection ends */
	ENV_BAD_REQUEST = -2	/* a call (kind and id are set) or cast with a bad Cmd or Opts */
};

/* c has just validated data[0..len), version byte first. */
int envelope_parse(const struct etf_check *c, const unsigned char *data, size_t len,
    struct envelope *e);

#endif
