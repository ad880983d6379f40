/* SPDX-License-Identifier: MIT */
/*
 * The leaves of etf_head.h that take more than a look at their length: atoms, what names a node, large integers. And
 * the head of a fun, which such leaves make up.
 */
#include "etf_leaf.h"
#include "etf_tags.h"

#define REFERENCE_WORDS 5
#define OLD_CREATION 3		/* the forms with one byte of creation use two bits of it, */
#define OLD_REFERENCE 0x3ffffu	/* and 18 bits of a reference's first word */
#define FUN_FIXED 30		/* tag, size, arity, uniq, index, number of free variables */

int
etf_old_float(const unsigned char *p, size_t left, uint64_t *size)
{
	double ignored;

	if (sized(left, 1 + ETF_FLOAT_TEXT, size) != 0)
		return ETF_BAD_TERM;
	return etf_float_text(p + 1, &ignored);
}

int
etf_atom(const unsigned char *p, size_t left, uint64_t *size)
{
	int wide = p[0] == TAG_ATOM || p[0] == TAG_ATOM_UTF8;
	int utf8 = p[0] == TAG_ATOM_UTF8 || p[0] == TAG_SMALL_ATOM_UTF8;
	size_t head = wide ? 3 : 2, len;
	int64_t chars;

	if (left < head || (!wide && !utf8 && p[0] != TAG_SMALL_ATOM))
		return ETF_BAD_TERM;
	len = wide ? etf_u16(p + 1) : p[1];
	if (sized(left, head + len, size) != 0)
		return ETF_BAD_TERM;
	chars = utf8 ? etf_utf8_length(p + head, len) : (int64_t)len;
	return chars < 0 || chars > ETF_ATOM_CHARS ? ETF_BAD_TERM : 0;
}

static int
plain_integer(const unsigned char *p, size_t left, uint64_t *size)
{
	if (p[0] == TAG_SMALL_INTEGER)
		return sized(left, 2, size);
	return p[0] == TAG_INTEGER ? sized(left, 5, size) : ETF_BAD_TERM;
}

int
etf_named(const unsigned char *p, size_t left, size_t before, size_t after, uint64_t *size)
{
	if (left <= before || etf_atom(p + before, left - before, size) != 0)
		return ETF_BAD_TERM;
	return sized(left, before + *size + after, size);
}

int
etf_old_named(const unsigned char *p, size_t left, size_t after, uint64_t *size)
{
	if (etf_named(p, left, 1, after, size) != 0)
		return ETF_BAD_TERM;
	return p[*size - 1] > OLD_CREATION ? ETF_BAD_TERM : 0;
}

int
etf_pid(const unsigned char *p, size_t left, uint64_t *size)
{
	if (p[0] == TAG_NEW_PID)
		return etf_named(p, left, 1, 12, size);
	return p[0] == TAG_PID ? etf_old_named(p, left, 9, size) : ETF_BAD_TERM;
}

int
etf_old_reference(const unsigned char *p, size_t left, uint64_t *size)
{
	if (etf_old_named(p, left, 5, size) != 0)
		return ETF_BAD_TERM;
	return etf_u32(p + *size - 5) > OLD_REFERENCE ? ETF_BAD_TERM : 0;
}

int
etf_reference(const unsigned char *p, size_t left, uint64_t *size)
{
	const unsigned char *id;
	size_t words;

	if (left < 3)
		return ETF_BAD_TERM;
	words = etf_u16(p + 1);
	if (words == 0 || words > REFERENCE_WORDS)
		return ETF_BAD_TERM;
	if (p[0] == TAG_NEWER_REFERENCE)
		return etf_named(p, left, 3, 4 + 4 * words, size);
	if (etf_named(p, left, 3, 1 + 4 * words, size) != 0)
		return ETF_BAD_TERM;
	id = p + *size - 4 * words;
	return id[-1] > OLD_CREATION || etf_u32(id) > OLD_REFERENCE ? ETF_BAD_TERM : 0;
}

int
etf_export(const unsigned char *p, size_t left, uint64_t *size)
{
	uint64_t module, function;

	if (left < 2 || etf_atom(p + 1, left - 1, &module) != 0)
		return ETF_BAD_TERM;
	p += 1 + module;
	left -= 1 + module;
	if (left == 0 || etf_atom(p, left, &function) != 0)
		return ETF_BAD_TERM;
	if (left - function < 2 || p[function] != TAG_SMALL_INTEGER)
		return ETF_BAD_TERM;
	*size = 1 + module + function + 2;
	return 0;
}

int
etf_bits(const unsigned char *p, size_t left, uint64_t *size)
{
	if (left < 6 || p[5] == 0 || p[5] > 8 || etf_u32(p + 1) == 0)
		return ETF_BAD_TERM;
	return sized(left, 6 + (uint64_t)etf_u32(p + 1), size);
}

int
etf_big(const unsigned char *p, size_t left, uint32_t limit, uint64_t *size)
{
	size_t head = p[0] == TAG_SMALL_BIG ? 3 : 6;
	uint32_t len;

	if (left < head || p[head - 1] > 1)
		return ETF_BAD_TERM;
	len = p[0] == TAG_SMALL_BIG ? p[1] : etf_u32(p + 1);
	if (sized(left, head + (uint64_t)len, size) != 0)
		return ETF_BAD_TERM;
	return len > limit ? ETF_BIGNUM : 0;
}

int
etf_fun(const unsigned char *p, size_t left, struct etf_head *h)
{
	static int (*const part[])(const unsigned char *, size_t, uint64_t *) = {
		etf_atom, plain_integer, plain_integer, etf_pid	/* module, index, uniq, creator */
	};
	uint64_t size;

	if (left < FUN_FIXED)
		return ETF_BAD_TERM;
	h->span = 1 + (uint64_t)etf_u32(p + 1);
	h->children = etf_u32(p + 26);
	h->size = FUN_FIXED;
	for (size_t i = 0; i < sizeof(part) / sizeof(part[0]); i++) {
		if (left == h->size || part[i](p + h->size, left - h->size, &size) != 0)
			return ETF_BAD_TERM;
		h->size += size;
	}
	if (h->span > left || h->span < h->size)
		return ETF_BAD_TERM;
	return h->children == 0 && h->span != h->size ? ETF_BAD_TERM : 0;
}
