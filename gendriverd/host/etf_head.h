/* SPDX-License-Identifier: MIT */
/*
 * The head of any term, inline: the walk of etf.c is quick because of that. Rule: no length or count is used before it
 * is held against the bytes left.
 */
#ifndef HOST_ETF_HEAD_H
#define HOST_ETF_HEAD_H

#include "etf.h"
#include "etf_leaf.h"
#include "etf_tags.h"

/* All exponent bits set: NaN or infinity. */
static inline int
new_float(const unsigned char *p, size_t left, uint64_t *size)
{
	if (sized(left, 9, size) != 0)
		return ETF_BAD_TERM;
	return (p[1] & 0x7f) == 0x7f && (p[2] & 0xf0) == 0xf0 ? ETF_BAD_TERM : 0;
}

static inline int
container(uint32_t size, uint64_t children, struct etf_head *h)
{
	h->size = size;
	h->children = children;
	return 0;
}

static inline int
any_head(const unsigned char *p, size_t left, uint32_t bignum, struct etf_head *h)
{
	switch (p[0]) {
	case TAG_SMALL_INTEGER:
		return sized(left, 2, &h->size);
	case TAG_INTEGER:
		return sized(left, 5, &h->size);
	case TAG_NIL:
		return sized(left, 1, &h->size);
	case TAG_ATOM: case TAG_ATOM_UTF8: case TAG_SMALL_ATOM: case TAG_SMALL_ATOM_UTF8:
		return etf_atom(p, left, &h->size);
	case TAG_BINARY:
		return left < 5 ? ETF_BAD_TERM : sized(left, 5 + (uint64_t)etf_u32(p + 1), &h->size);
	case TAG_STRING:
		return left < 3 ? ETF_BAD_TERM : sized(left, 3 + (uint64_t)etf_u16(p + 1), &h->size);
	case TAG_NEW_FLOAT:
		return new_float(p, left, &h->size);
	case TAG_SMALL_TUPLE:
		return left < 2 ? ETF_BAD_TERM : container(2, p[1], h);
	case TAG_LARGE_TUPLE:
		if (left < 5 || etf_u32(p + 1) > ETF_MAX_ARITY)
			return ETF_BAD_TERM;
		return container(5, etf_u32(p + 1), h);
	case TAG_LIST:
		if (left < 5 || etf_u32(p + 1) == 0)
			return ETF_BAD_TERM;
		return container(5, (uint64_t)etf_u32(p + 1) + 1, h);
	case TAG_MAP:
		return left < 5 ? ETF_BAD_TERM : container(5, (uint64_t)etf_u32(p + 1) * 2, h);
	case TAG_SMALL_BIG: case TAG_LARGE_BIG:
		return etf_big(p, left, bignum, &h->size);
	case TAG_BIT_BINARY:
		return etf_bits(p, left, &h->size);
	case TAG_NEW_PID: case TAG_PID:
		return etf_pid(p, left, &h->size);
	case TAG_REFERENCE:
		return etf_old_reference(p, left, &h->size);
	case TAG_NEW_REFERENCE: case TAG_NEWER_REFERENCE:
		return etf_reference(p, left, &h->size);
	case TAG_PORT:
		return etf_old_named(p, left, 5, &h->size);
	case TAG_NEW_PORT:
		return etf_named(p, left, 1, 8, &h->size);
	case TAG_V4_PORT:
		return etf_named(p, left, 1, 12, &h->size);
	case TAG_EXPORT:
		return etf_export(p, left, &h->size);
	case TAG_NEW_FUN:
		return etf_fun(p, left, h);
	case TAG_FLOAT:
		return etf_old_float(p, left, &h->size);
	case TAG_COMPRESSED:
		return ETF_COMPRESSED;
	default:
		return ETF_BAD_TERM;
	}
}

static inline int
head_within(const unsigned char *p, size_t left, uint32_t bignum, struct etf_head *h)
{
	int code;

	if (left == 0)
		return ETF_BAD_TERM;
	h->children = h->span = 0;
	if ((code = any_head(p, left, bignum, h)) != 0)
		return code;
	return h->children > left - h->size ? ETF_BAD_TERM : 0;
}

#endif
