/* SPDX-License-Identifier: MIT */
/*
 * Between the files that write terms (term_put.c, term_put_number.c, term_put_text.c): what every put does. It says first
 * how many terms it settles (one) and announces; a reply is done when nothing is owed at the root. Nothing is written
 * before its whole size is reserved, so a put that fails writes nothing, and no later one does.
 */
#ifndef HOST_TERM_OUT_H
#define HOST_TERM_OUT_H

#include <stdint.h>
#include <string.h>

#include "etf_tags.h"
#include "term.h"

/* term_put.c. Where a term of `size` bytes goes, which the caller writes at once; `children` are
 * to follow. NULL: out->error says why. */
unsigned char *term_begin(gd_out *out, uint64_t size, uint64_t children);
/* The same behind a tag and a 32-bit length: where the `size` bytes go that follow them. */
unsigned char *term_begin_long(gd_out *out, int tag, uint64_t n, uint64_t size, uint64_t children);

static inline int
fail(gd_out *out, int code)
{
	if (out->error == 0)
		out->error = code;
	return out->error;
}

static inline unsigned char *
put_u32(unsigned char *at, uint32_t n)
{
	at[0] = (unsigned char)(n >> 24);
	at[1] = (unsigned char)(n >> 16);
	at[2] = (unsigned char)(n >> 8);
	at[3] = (unsigned char)n;
	return at + 4;
}

static inline void
copy(unsigned char *at, const void *data, size_t size)
{
	if (size > 0)
		memcpy(at, data, size);
}

#endif
