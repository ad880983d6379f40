/* SPDX-License-Identifier: MIT */
/* The host's side of gd_term.h: where a cursor begins, and when a reply is done. */
#ifndef HOST_TERM_H
#define HOST_TERM_H

#include "gd_term.h"

/* `term` is one term, without version byte, and outlives the cursor. On bytes that
 * were not validated every get stays inside them, but what it says means nothing. */
void gd_in_init(gd_in *in, const void *term, size_t len);

/* 1: exactly one whole term was put; 0: nothing was; else the first put's error,
 * or GD_ETYPE: terms are missing that were announced. */
int gd_out_done(const gd_out *out);

#endif
