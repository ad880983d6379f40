/* SPDX-License-Identifier: MIT */
/*
 * Heads of terms without terms inside: p is at the tag, left > 0; 0 and the size, or a code.
 */
#ifndef HOST_ETF_LEAF_H
#define HOST_ETF_LEAF_H

#include "etf.h"

static inline int
sized(size_t left, uint64_t size, uint64_t *out)
{
	*out = size;
	return left < size ? ETF_BAD_TERM : 0;
}

int etf_atom(const unsigned char *p, size_t left, uint64_t *size);
int etf_old_float(const unsigned char *p, size_t left, uint64_t *size);
int etf_big(const unsigned char *p, size_t left, uint32_t limit, uint64_t *size);
int etf_bits(const unsigned char *p, size_t left, uint64_t *size);
int etf_pid(const unsigned char *p, size_t left, uint64_t *size);
int etf_reference(const unsigned char *p, size_t left, uint64_t *size);
int etf_old_reference(const unsigned char *p, size_t left, uint64_t *size);
int etf_export(const unsigned char *p, size_t left, uint64_t *size);
int etf_fun(const unsigned char *p, size_t left, struct etf_head *h);
/* A node's name after `before` bytes, `after` bytes behind it. */
int etf_named(const unsigned char *p, size_t left, size_t before, size_t after, uint64_t *size);
/* The same in an older form: one byte of creation, the last. */
int etf_old_named(const unsigned char *p, size_t left, size_t after, uint64_t *size);

#endif
