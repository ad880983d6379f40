/* SPDX-License-Identifier: MIT */
/*
 * The bytes of a request: in the recorder, in a buffer of its own, or taken over from
 * the connection. The byte in front of the params is always a version byte, so
 * that a driver written for the original finds the term as it expects it.
 */
#include <stdlib.h>
#include <string.h>

#include "request.h"

#define VERSION_BYTE 131
#define NIL_EXT 106

int
request_set_params(struct request *r, const unsigned char *params, size_t len,
    unsigned char *own)
{
	static const unsigned char nil = NIL_EXT;

	if (params == NULL) {
		params = &nil;
		len = 1;
		free(own);
		own = NULL;
	}
	r->own = own;
	r->params_len = r->record->params_len = len;
	if (own != NULL) {
		r->params = own + (params - own);
		r->params[-1] = VERSION_BYTE;
		return 0;
	}
	if (len > RECORDER_INLINE && (r->own = malloc(1 + len)) == NULL)
		return -1;
	r->params = (r->own != NULL ? r->own : r->record->params) + 1;
	r->params[-1] = VERSION_BYTE;
	memcpy(r->params, params, len);
	return 0;
}

void
request_clear(struct request *r)
{
	free(r->own);
	r->own = NULL;
}
