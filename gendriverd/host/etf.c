/* SPDX-License-Identifier: MIT */
/* The validator of etf.h: a stack that counts, a level, the terms still to come. */
#include <stdlib.h>
#include <string.h>

#include "etf.h"
#include "etf_head.h"
#include "etf_tags.h"

#define IN_LIST 1		/* as the end of a level: no fun ends there */

int
etf_head(const unsigned char *p, size_t left, uint32_t bignum, struct etf_head *h)
{
	return head_within(p, left, bignum, h);
}

void
etf_check_begin(struct etf_check *c, const struct etf_limits *limits, const unsigned char *data,
    size_t len, int with_version)
{
	c->data = data;
	c->len = len <= UINT32_MAX ? (uint32_t)len : 0;	/* nothing: no term */
	c->limits = *limits;
	c->at = 0;
	if (with_version && c->len > 0 && data[0] == ETF_VERSION)
		c->at = 1;
	else if (with_version)
		c->len = 0;
	c->terms = 1;
	c->depth = 0;
	c->few[0].left = 1;
	c->few[0].end = 0;
	c->room = ETF_LEVELS;
	c->many = NULL;
	c->elems = 0;
}

void
etf_check_end(struct etf_check *c)
{
	free(c->many);
	c->many = NULL;
}

static int
grow(struct etf_check *c)
{
	size_t room = 4 * (size_t)c->room;
	struct etf_level *larger = realloc(c->many, room * sizeof(*larger));

	if (larger == NULL)
		return ETF_NOMEM;
	if (c->many == NULL)
		memcpy(larger, c->few, sizeof(c->few));
	c->many = larger;
	c->room = (uint32_t)room;
	return 0;
}

static inline struct etf_level *
top(struct etf_check *c)
{
	return (c->many != NULL ? c->many : c->few) + c->depth;
}

/* A list as the tail of a list goes on with it: no level, however many they are. Who writes
 * a list before its length is known writes it so (the manual page of ei tells how). */
static inline int
open_level(struct etf_check *c, const struct etf_head *h)
{
	struct etf_level *level = top(c);
	int list = c->data[c->at] == TAG_LIST;

	if (h->children + c->terms > c->limits.terms)
		return ETF_MANY;
	c->terms += (uint32_t)h->children;
	if (!list || level->end != IN_LIST || level->left != 0) {
		if (c->depth >= c->limits.depth)
			return ETF_DEEP;
		if (++c->depth == c->room && grow(c) != 0)
			return ETF_NOMEM;
		level = top(c);
		level->end = list ? IN_LIST : h->span == 0 ? 0 : c->at + (uint32_t)h->span;
	}
	level->left = (uint32_t)h->children;
	return 0;
}

/* Bytes of what most terms are made of; 0: look at it properly. */
static inline uint32_t
common_leaf(const unsigned char *p, uint32_t left)
{
	unsigned char all = 0;

	if (left < 5)
		return 0;
	switch (p[0]) {
	case TAG_SMALL_INTEGER:
		return 2;
	case TAG_INTEGER:
		return 5;
	case TAG_SMALL_ATOM_UTF8:
		if (left - 2 < p[1])
			return 0;
		for (uint32_t i = 0; i < p[1]; i++)
			all |= p[2 + i];
		return all < 0x80 ? 2 + (uint32_t)p[1] : 0;
	case TAG_BINARY:
		return left - 5 < etf_u32(p + 1) ? 0 : 5 + etf_u32(p + 1);
	default:
		return 0;
	}
}

int
etf_check_run(struct etf_check *c, uint32_t max_steps)
{
	const unsigned char *data = c->data;
	struct etf_level *level;
	struct etf_head h;
	uint32_t leaf;
	int code;

	for (;;) {
		for (level = top(c); level->left == 0; level--) {
			if (level->end > IN_LIST && level->end != c->at)
				return ETF_BAD_TERM;
			if (c->depth == 0)
				return c->at == c->len ? 0 : ETF_TRAILING;
			c->depth--;
		}
		if (max_steps-- == 0)
			return ETF_AGAIN;
		level->left--;
		if (c->depth == 1 && c->elems < ETF_ELEMS)
			c->elem[c->elems++] = c->at;
		if ((leaf = common_leaf(data + c->at, c->len - c->at)) != 0) {
			c->at += leaf;
			continue;
		}
		code = head_within(data + c->at, c->len - c->at, c->limits.bignum, &h);
		if (code != 0 || (h.children > 0 && (code = open_level(c, &h)) != 0))
			return code;
		c->at += (uint32_t)h.size;
	}
}

int
etf_check_all(const struct etf_limits *limits, const unsigned char *data, size_t len,
    int with_version)
{
	struct etf_check c;
	int code;

	etf_check_begin(&c, limits, data, len, with_version);
	code = etf_check_run(&c, UINT32_MAX);	/* no limit allows more terms */
	etf_check_end(&c);
	return code;
}

const char *
etf_reason(int code)
{
	switch (code) {
	case ETF_COMPRESSED: return "compressed";
	case ETF_TRAILING: return "trailing_bytes";
	case ETF_DEEP: return "too_deep";
	case ETF_MANY: return "too_many_terms";
	case ETF_BIGNUM: return "bignum_too_large";
	default: return "bad_term";
	}
}
