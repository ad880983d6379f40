/* SPDX-License-Identifier: MIT */
/*
 * The validator of etf.h: a stack that counts, a level, the terms still to come.
 * Rule: no length or count is used before it is held against the bytes left.
 * One file, and so a long one: the walk is quick because the heads are inlined.
 */
#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "etf.h"
#include "etf_tags.h"

#define FLOAT_TEXT 31
#define REFERENCE_WORDS 5
#define OLD_CREATION 3		/* the forms with one byte of creation use two bits of it, */
#define OLD_REFERENCE 0x3ffffu	/* and 18 bits of a reference's first word */
#define FUN_FIXED 30		/* tag, size, arity, uniq, index, number of free variables */
#define IN_LIST 1		/* as the end of a level: no fun ends there */
#define HIGH_BITS 0x8080808080808080u

/* --- text ---------------------------------------------------------------- */

/* Bytes of the UTF-8 character at p, which is none of ASCII, or 0. */
static size_t
utf8_char(const unsigned char *p, size_t left)
{
	size_t size = p[0] < 0xc2 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : p[0] < 0xf5 ? 4 : 0;

	if (size == 0 || left < size)
		return 0;
	for (size_t i = 1; i < size; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f)
	    || (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f))
		return 0;	/* overlong, a surrogate, beyond Unicode */
	return size;
}

int64_t
etf_utf8_length(const unsigned char *text, size_t len)
{
	int64_t chars = 0;
	uint64_t eight;
	size_t i = 0, n;

	while (i < len) {
		if (len - i >= sizeof(eight)) {
			memcpy(&eight, text + i, sizeof(eight));
			if ((eight & HIGH_BITS) == 0) {
				i += sizeof(eight);
				chars += sizeof(eight);
				continue;
			}
		}
		if ((n = text[i] < 0x80 ? 1 : utf8_char(text + i, len - i)) == 0)
			return -1;
		i += n;
		chars++;
	}
	return chars;
}

static const char *
digits(const char *s)
{
	const char *begin = s;

	while (*s >= '0' && *s <= '9')
		s++;
	return s > begin ? s : NULL;
}

static const char *
sign_and_digits(const char *s)
{
	return digits(*s == '+' || *s == '-' ? s + 1 : s);
}

/* As erl prints it: digits on both sides of the point. */
static int
is_float_text(const char *s)
{
	if ((s = sign_and_digits(s)) == NULL || *s != '.' || (s = digits(s + 1)) == NULL)
		return 0;
	if ((*s == 'e' || *s == 'E') && (s = sign_and_digits(s + 1)) == NULL)
		return 0;
	return *s == '\0';
}

int
etf_float_text(const unsigned char *text, double *value)
{
	char copy[FLOAT_TEXT], *end;
	double d;

	memcpy(copy, text, sizeof(copy));
	if (memchr(copy, '\0', sizeof(copy)) == NULL || !is_float_text(copy))
		return ETF_BAD_TERM;
	d = strtod(copy, &end);
	if (*end == '.') {	/* a driver has chosen a locale with a comma */
		*end = localeconv()->decimal_point[0];
		d = strtod(copy, &end);
	}
	if (*end != '\0' || !isfinite(d))
		return ETF_BAD_TERM;
	*value = d;
	return 0;
}

/* --- leaves: p is at the tag, left > 0; 0 and the size, or a code --------- */

static inline int
sized(size_t left, uint64_t size, uint64_t *out)
{
	*out = size;
	return left < size ? ETF_BAD_TERM : 0;
}

static int
float_text(const unsigned char *p, size_t left, uint64_t *size)
{
	double ignored;

	if (sized(left, 1 + FLOAT_TEXT, size) != 0)
		return ETF_BAD_TERM;
	return etf_float_text(p + 1, &ignored);
}

/* All exponent bits set: NaN or infinity. */
static inline int
new_float(const unsigned char *p, size_t left, uint64_t *size)
{
	if (sized(left, 9, size) != 0)
		return ETF_BAD_TERM;
	return (p[1] & 0x7f) == 0x7f && (p[2] & 0xf0) == 0xf0 ? ETF_BAD_TERM : 0;
}

static int
atom(const unsigned char *p, size_t left, uint64_t *size)
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

/* A node's name after `before` bytes, `after` bytes behind it. */
static int
named(const unsigned char *p, size_t left, size_t before, size_t after, uint64_t *size)
{
	if (left <= before || atom(p + before, left - before, size) != 0)
		return ETF_BAD_TERM;
	return sized(left, before + *size + after, size);
}

/* The same in an older form: one byte of creation, the last. */
static int
old_named(const unsigned char *p, size_t left, size_t after, uint64_t *size)
{
	if (named(p, left, 1, after, size) != 0)
		return ETF_BAD_TERM;
	return p[*size - 1] > OLD_CREATION ? ETF_BAD_TERM : 0;
}

static int
pid(const unsigned char *p, size_t left, uint64_t *size)
{
	if (p[0] == TAG_NEW_PID)
		return named(p, left, 1, 12, size);
	return p[0] == TAG_PID ? old_named(p, left, 9, size) : ETF_BAD_TERM;
}

static int
old_reference(const unsigned char *p, size_t left, uint64_t *size)
{
	if (old_named(p, left, 5, size) != 0)
		return ETF_BAD_TERM;
	return etf_u32(p + *size - 5) > OLD_REFERENCE ? ETF_BAD_TERM : 0;
}

static int
reference(const unsigned char *p, size_t left, uint64_t *size)
{
	const unsigned char *id;
	size_t words;

	if (left < 3)
		return ETF_BAD_TERM;
	words = etf_u16(p + 1);
	if (words == 0 || words > REFERENCE_WORDS)
		return ETF_BAD_TERM;
	if (p[0] == TAG_NEWER_REFERENCE)
		return named(p, left, 3, 4 + 4 * words, size);
	if (named(p, left, 3, 1 + 4 * words, size) != 0)
		return ETF_BAD_TERM;
	id = p + *size - 4 * words;
	return id[-1] > OLD_CREATION || etf_u32(id) > OLD_REFERENCE ? ETF_BAD_TERM : 0;
}

static int
export(const unsigned char *p, size_t left, uint64_t *size)
{
	uint64_t module, function;

	if (left < 2 || atom(p + 1, left - 1, &module) != 0)
		return ETF_BAD_TERM;
	p += 1 + module;
	left -= 1 + module;
	if (left == 0 || atom(p, left, &function) != 0)
		return ETF_BAD_TERM;
	if (left - function < 2 || p[function] != TAG_SMALL_INTEGER)
		return ETF_BAD_TERM;
	*size = 1 + module + function + 2;
	return 0;
}

static int
bits(const unsigned char *p, size_t left, uint64_t *size)
{
	if (left < 6 || p[5] == 0 || p[5] > 8 || etf_u32(p + 1) == 0)
		return ETF_BAD_TERM;
	return sized(left, 6 + (uint64_t)etf_u32(p + 1), size);
}

static int
big(const unsigned char *p, size_t left, uint32_t limit, uint64_t *size)
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

/* --- heads of all terms -------------------------------------------------- */

static int
fun(const unsigned char *p, size_t left, struct etf_head *h)
{
	static int (*const part[])(const unsigned char *, size_t, uint64_t *) = {
		atom, plain_integer, plain_integer, pid	/* module, index, uniq, creator */
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
		return atom(p, left, &h->size);
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
		return big(p, left, bignum, &h->size);
	case TAG_BIT_BINARY:
		return bits(p, left, &h->size);
	case TAG_NEW_PID: case TAG_PID:
		return pid(p, left, &h->size);
	case TAG_REFERENCE:
		return old_reference(p, left, &h->size);
	case TAG_NEW_REFERENCE: case TAG_NEWER_REFERENCE:
		return reference(p, left, &h->size);
	case TAG_PORT:
		return old_named(p, left, 5, &h->size);
	case TAG_NEW_PORT:
		return named(p, left, 1, 8, &h->size);
	case TAG_V4_PORT:
		return named(p, left, 1, 12, &h->size);
	case TAG_EXPORT:
		return export(p, left, &h->size);
	case TAG_NEW_FUN:
		return fun(p, left, h);
	case TAG_FLOAT:
		return float_text(p, left, &h->size);
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

int
etf_head(const unsigned char *p, size_t left, uint32_t bignum, struct etf_head *h)
{
	return head_within(p, left, bignum, h);
}

/* --- the walk ------------------------------------------------------------ */

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
