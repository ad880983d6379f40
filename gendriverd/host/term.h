/* SPDX-License-Identifier: MIT */
/* The host's side of gd_term.h: where a cursor begins, and when a reply is done. */
#ifndef HOST_TERM_H
#define HOST_TERM_H

#include "gd_term.h"

/* `term` is one term, without version byte, and outlives the cursor. On bytes that
 * were not validated every get stays inside them, but what it says means nothing. */
void gd_in_init(gd_in *in, const void *term, size_t len);

/* An empty writer, whose buffer begins with the version byte; limit: of all its
 * bytes. 0 or GD_ENOMEM. */
int gd_out_init(gd_out *out, size_t limit);
/* Empty again, for the next term; a buffer of over 64 KiB is given back. */
void gd_out_reset(gd_out *out);
void gd_out_free(gd_out *out);

/* 1: exactly one whole term was put; 0: nothing was; else the first put's error,
 * or GD_ETYPE: terms are missing that were announced. */
int gd_out_done(const gd_out *out);

#endif
