/* SPDX-License-Identifier: MIT */
/*
 * Between the files that read terms (term_get.c, term_get_number.c, term_get_text.c): a look at what is next. A get looks
 * first, and moves the cursor only when nothing can fail any more. Inside a byte list (a STRING_EXT, or []) the cursor is
 * at the next byte, and nothing but integers is there.
 */
#ifndef HOST_TERM_CURSOR_H
#define HOST_TERM_CURSOR_H

#include "etf.h"
#include "etf_tags.h"
#include "term.h"

/* term_get.c. 0 and the next term's head when it has one of two tags. */
int term_head(const gd_in *in, int tag, int other, struct etf_head *h);
/* term_get_number.c. Of a SMALL_BIG_EXT or LARGE_BIG_EXT that is next: GD_INT, GD_BIG; GD_END: it is not whole. */
gd_type term_big_type(const gd_in *in);

static inline size_t
left(const gd_in *in)
{
	return (size_t)(in->end - in->at);
}

/* The next term's tag, 0 inside a byte list, or GD_EEND. */
static inline int
next_tag(const gd_in *in)
{
	if (in->in_bytes)
		return in->bytes_left > 0 ? 0 : GD_EEND;
	return in->at < in->end ? in->at[0] : GD_EEND;
}

/* Why the next term is not what was asked for. */
static inline int
other_type(const gd_in *in)
{
	return next_tag(in) == GD_EEND ? GD_EEND : GD_ETYPE;
}

static inline void
advance(gd_in *in, size_t n)
{
	in->at += n;
	if (in->in_bytes)
		in->bytes_left -= n;
}

#endif
