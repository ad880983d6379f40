/* SPDX-License-Identifier: MIT */
/*
 * Reading terms: the gets of gd_term.h. A get looks first, and moves the cursor
 * only when nothing can fail any more. Inside a byte list (a STRING_EXT, or [])
 * the cursor is at the next byte, and nothing but integers is there. Long, as
 * gd_term.h is.
 */
#include <math.h>
#include <string.h>

#include "etf.h"
#include "etf_tags.h"
#include "term.h"

#define SIGN_BIT 0x8000000000000000u

/* An integer of any form. */
struct integer {
	int sign;
	int fits;			/* its magnitude is `value`; else only in digits */
	uint64_t value;
	const unsigned char *digits;	/* least significant first; NULL: see value */
	size_t size;			/* of digits, without leading zeros */
	size_t bytes;			/* it takes in the term */
};

void
gd_in_init(gd_in *in, const void *term, size_t len)
{
	in->at = in->whole = term;
	in->end = in->at + len;
	in->bytes_left = 0;
	in->in_bytes = 0;
}

static size_t
left(const gd_in *in)
{
	return (size_t)(in->end - in->at);
}

/* The next term's tag, 0 inside a byte list, or GD_EEND. */
static int
next_tag(const gd_in *in)
{
	if (in->in_bytes)
		return in->bytes_left > 0 ? 0 : GD_EEND;
	return in->at < in->end ? in->at[0] : GD_EEND;
}

/* Why the next term is not what was asked for. */
static int
other_type(const gd_in *in)
{
	return next_tag(in) == GD_EEND ? GD_EEND : GD_ETYPE;
}

static void
advance(gd_in *in, size_t n)
{
	in->at += n;
	if (in->in_bytes)
		in->bytes_left -= n;
}

/* 0 and the next term's head when it has one of two tags. */
static int
head_of(const gd_in *in, int tag, int other, struct etf_head *h)
{
	int next = next_tag(in);

	if (next != tag && next != other)
		return other_type(in);
	return etf_head(in->at, left(in), UINT32_MAX, h) == 0 ? 0 : GD_ETYPE;
}

/* --- integers ------------------------------------------------------------ */

static void
small_integer(struct integer *n, int64_t value, size_t bytes)
{
	n->sign = value < 0;
	n->fits = 1;
	n->value = value < 0 ? -(uint64_t)value : (uint64_t)value;
	n->digits = NULL;
	n->size = 0;
	n->bytes = bytes;
}

static int
big_integer(const gd_in *in, struct integer *n)
{
	struct etf_head h;
	size_t head = in->at[0] == TAG_SMALL_BIG ? 3 : 6;

	if (etf_head(in->at, left(in), UINT32_MAX, &h) != 0)
		return GD_ETYPE;
	n->bytes = (size_t)h.size;
	n->digits = in->at + head;
	n->size = n->bytes - head;
	while (n->size > 0 && n->digits[n->size - 1] == 0)
		n->size--;
	n->sign = n->size > 0 && in->at[head - 1] != 0;
	n->fits = n->size <= sizeof(n->value);
	n->value = 0;
	for (size_t i = n->fits ? n->size : 0; i > 0; i--)
		n->value = n->value << 8 | n->digits[i - 1];
	return 0;
}

static int
look_integer(const gd_in *in, struct integer *n)
{
	switch (next_tag(in)) {
	case 0:
		if (!in->in_bytes)
			return GD_ETYPE;	/* a tag that no term has */
		small_integer(n, in->at[0], 1);
		return 0;
	case TAG_SMALL_INTEGER:
		if (left(in) < 2)
			return GD_ETYPE;
		small_integer(n, in->at[1], 2);
		return 0;
	case TAG_INTEGER:
		if (left(in) < 5)
			return GD_ETYPE;
		small_integer(n, (int32_t)etf_u32(in->at + 1), 5);
		return 0;
	case TAG_SMALL_BIG: case TAG_LARGE_BIG:
		return big_integer(in, n);
	default:
		return other_type(in);
	}
}

/* What most integers are: 0, the value, and past it; else look_integer. */
static inline int
get_common(gd_in *in, int64_t *value)
{
	if (in->in_bytes) {
		if (in->bytes_left == 0)
			return -1;
		*value = *in->at++;
		in->bytes_left--;
		return 0;
	}
	if (left(in) < 5)
		return -1;
	if (in->at[0] == TAG_SMALL_INTEGER) {
		*value = in->at[1];
		in->at += 2;
		return 0;
	}
	if (in->at[0] != TAG_INTEGER)
		return -1;
	*value = (int32_t)etf_u32(in->at + 1);
	in->at += 5;
	return 0;
}

static int
fits_i64(const struct integer *n)
{
	return n->fits && (n->value < SIGN_BIT || (n->sign && n->value == SIGN_BIT));
}

static __attribute__((noinline)) int
get_i64(gd_in *in, int64_t *value)
{
	struct integer n;
	int code = look_integer(in, &n);

	if (code != 0)
		return code;
	if (!fits_i64(&n))
		return GD_ERANGE;
	*value = (int64_t)(n.sign ? -n.value : n.value);
	advance(in, n.bytes);
	return 0;
}

int
gd_get_i64(gd_in *in, int64_t *value)
{
	return get_common(in, value) == 0 ? 0 : get_i64(in, value);
}

int
gd_get_u64(gd_in *in, uint64_t *value)
{
	struct integer n;
	int code = look_integer(in, &n);

	if (code != 0)
		return code;
	if (!n.fits || n.sign)
		return GD_ERANGE;
	*value = n.value;
	advance(in, n.bytes);
	return 0;
}

int
gd_get_i32(gd_in *in, int32_t *value)
{
	gd_in ahead = *in;
	int64_t wide;
	int code = gd_get_i64(&ahead, &wide);

	if (code != 0)
		return code;
	if (wide < INT32_MIN || wide > INT32_MAX)
		return GD_ERANGE;
	*value = (int32_t)wide;
	*in = ahead;
	return 0;
}

int
gd_get_big(gd_in *in, int *sign, unsigned char *magnitude, size_t *size)
{
	struct integer n;
	unsigned char small[sizeof(n.value)];
	int code = look_integer(in, &n);

	if (code != 0)
		return code;
	if (n.digits == NULL) {
		n.digits = small;
		for (; n.value != 0; n.value >>= 8)
			small[n.size++] = (unsigned char)n.value;
	}
	if (n.size > *size)
		return GD_ERANGE;
	if (n.size > 0)
		memcpy(magnitude, n.digits, n.size);
	*size = n.size;
	*sign = n.sign;
	advance(in, n.bytes);
	return 0;
}

/* --- floats -------------------------------------------------------------- */

/* Of more than 64 bits: the 64 highest, the lowest of them set when any bit below
 * is, so that the conversion to a double rounds as it would with all of them. */
static double
rounded(const struct integer *n)
{
	size_t below = n->size - sizeof(uint64_t);
	const unsigned char *top = n->digits + below;
	unsigned shift = 0;
	uint64_t high = 0;

	for (size_t i = sizeof(high); i > 0; i--)
		high = high << 8 | top[i - 1];
	for (; (high & SIGN_BIT) == 0; shift++)
		high = high << 1 | (top[-1] >> (7 - shift) & 1u);
	high |= (unsigned char)(top[-1] << shift) != 0;
	for (size_t i = 0; i + 1 < below && (high & 1) == 0; i++)
		high |= n->digits[i] != 0;
	return below > 1024 / 8 ? INFINITY : ldexp((double)high, (int)(8 * below - shift));
}

static int
look_float(const gd_in *in, double *value, size_t *bytes)
{
	struct etf_head h;
	uint64_t bits;
	int code = head_of(in, TAG_NEW_FLOAT, TAG_FLOAT, &h);

	if (code != 0)	/* all that is wrong with a whole NEW_FLOAT is its value */
		return next_tag(in) == TAG_NEW_FLOAT && left(in) >= 9 ? GD_ERANGE : code;
	*bytes = (size_t)h.size;
	if (in->at[0] == TAG_FLOAT)
		return etf_float_text(in->at + 1, value);	/* as etf_head has read it: 0 */
	bits = (uint64_t)etf_u32(in->at + 1) << 32 | etf_u32(in->at + 5);
	memcpy(value, &bits, sizeof(*value));
	return 0;
}

int
gd_get_f64(gd_in *in, double *value)
{
	double d;
	size_t bytes;
	int code = look_float(in, &d, &bytes);

	if (code != 0)
		return code;
	*value = d;
	advance(in, bytes);
	return 0;
}

static __attribute__((noinline)) int
get_number(gd_in *in, double *value)
{
	struct integer n;
	double d;
	int code = look_integer(in, &n);

	if (code != 0)
		return code == GD_ETYPE ? gd_get_f64(in, value) : code;
	d = n.fits ? (double)n.value : rounded(&n);
	if (!isfinite(d))
		return GD_ERANGE;
	*value = n.sign ? -d : d;
	advance(in, n.bytes);
	return 0;
}

int
gd_get_number(gd_in *in, double *value)
{
	int64_t common;

	if (get_common(in, &common) != 0)
		return get_number(in, value);
	*value = (double)common;
	return 0;
}

/* --- atoms, binaries, text ----------------------------------------------- */

int
gd_get_atom(gd_in *in, const char **name, size_t *size)
{
	struct etf_head h;
	size_t head;

	switch (next_tag(in)) {
	case TAG_SMALL_ATOM: case TAG_SMALL_ATOM_UTF8: head = 2; break;
	case TAG_ATOM: case TAG_ATOM_UTF8: head = 3; break;
	default: return other_type(in);
	}
	if (etf_head(in->at, left(in), UINT32_MAX, &h) != 0)
		return GD_ETYPE;
	*name = (const char *)in->at + head;
	*size = (size_t)h.size - head;
	in->at += h.size;
	return 0;
}

int
gd_get_atom_is(gd_in *in, const char *name)
{
	gd_in ahead = *in;
	const char *found;
	size_t size;
	int code = gd_get_atom(&ahead, &found, &size);

	if (code != 0)
		return code;
	if (size != strlen(name) || memcmp(found, name, size) != 0)
		return GD_ETYPE;
	*in = ahead;
	return 0;
}

int
gd_get_bool(gd_in *in, int *value)
{
	int code = gd_get_atom_is(in, "true");
	int yes = code == 0;

	if (!yes)
		code = gd_get_atom_is(in, "false");
	if (code == 0)
		*value = yes;
	return code;
}

int
gd_get_binary(gd_in *in, const void **data, size_t *size)
{
	struct etf_head h;
	int code = head_of(in, TAG_BINARY, TAG_BINARY, &h);

	if (code != 0)
		return code;
	*data = in->at + 5;
	*size = (size_t)h.size - 5;
	in->at += h.size;
	return 0;
}

int
gd_get_bits(gd_in *in, const void **data, size_t *size, int *bits)
{
	struct etf_head h;
	int code;

	if (head_of(in, TAG_BIT_BINARY, TAG_BIT_BINARY, &h) != 0) {
		if ((code = gd_get_binary(in, data, size)) == 0)
			*bits = 8;
		return code;
	}
	*data = in->at + 6;
	*size = (size_t)h.size - 6;
	*bits = in->at[5];
	in->at += h.size;
	return 0;
}

/* The `length` bytes of a list and its end: to buf, unless that is NULL. */
static int
list_text(gd_in *in, size_t length, char *buf)
{
	uint64_t byte;

	for (size_t i = 0; i < length; i++) {
		if (gd_get_u64(in, &byte) != 0 || byte > 255)
			return GD_ETYPE;
		if (byte == 0)
			return GD_ERANGE;
		if (buf != NULL)
			buf[i] = (char)byte;
	}
	return gd_get_end(in) == 0 ? 0 : GD_ETYPE;
}

int
gd_get_text(gd_in *in, char *buf, size_t room, size_t *size)
{
	gd_in ahead = *in, again;
	const void *data = NULL;
	size_t length;
	int code;

	if (gd_get_binary(&ahead, &data, &length) != 0
	    && (code = gd_get_list(&ahead, &length)) != 0)
		return code;
	if (length >= room)
		return GD_ERANGE;
	if (data != NULL) {
		if (memchr(data, '\0', length) != NULL)
			return GD_ERANGE;
		memcpy(buf, data, length);
	} else {
		again = ahead;
		if ((code = list_text(&again, length, NULL)) != 0)
			return code;
		list_text(&ahead, length, buf);
	}
	buf[length] = '\0';
	if (size != NULL)
		*size = length;
	*in = ahead;
	return 0;
}

/* --- terms with terms inside --------------------------------------------- */

int
gd_get_tuple(gd_in *in, size_t *arity)
{
	struct etf_head h;
	int code = head_of(in, TAG_SMALL_TUPLE, TAG_LARGE_TUPLE, &h);

	if (code != 0)
		return code;
	*arity = (size_t)h.children;
	in->at += h.size;
	return 0;
}

int
gd_get_map(gd_in *in, size_t *pairs)
{
	struct etf_head h;
	int code = head_of(in, TAG_MAP, TAG_MAP, &h);

	if (code != 0)
		return code;
	*pairs = (size_t)h.children / 2;
	in->at += h.size;
	return 0;
}

int
gd_get_list(gd_in *in, size_t *length)
{
	struct etf_head h;
	int tag = next_tag(in);

	if (tag != TAG_LIST && tag != TAG_STRING && tag != TAG_NIL)
		return other_type(in);
	if (etf_head(in->at, left(in), UINT32_MAX, &h) != 0)
		return GD_ETYPE;
	if (tag == TAG_LIST) {
		*length = (size_t)h.children - 1;
		in->at += h.size;
		return 0;
	}
	*length = tag == TAG_STRING ? (size_t)h.size - 3 : 0;
	in->bytes_left = *length;
	in->in_bytes = 1;
	in->at += tag == TAG_STRING ? 3 : 1;
	return 0;
}

int
gd_get_end(gd_in *in)
{
	if (in->in_bytes) {
		if (in->bytes_left > 0)
			return GD_ETYPE;
		in->in_bytes = 0;
		return 0;
	}
	if (next_tag(in) != TAG_NIL)
		return other_type(in);
	in->at++;
	return 0;
}

/* --- any term ------------------------------------------------------------ */

/* Bytes of the next term, all of it. Counts terms instead of nesting: no stack. */
static int
look_term(const gd_in *in, size_t *bytes)
{
	struct etf_head h;
	uint64_t owed = 1;
	size_t at = 0;

	if (in->at == in->whole && in->at < in->end) {
		*bytes = left(in);
		return 0;
	}
	while (owed > 0) {
		if (at == left(in))
			return at == 0 ? GD_EEND : GD_ETYPE;
		if (etf_head(in->at + at, left(in) - at, UINT32_MAX, &h) != 0)
			return GD_ETYPE;
		at += (size_t)h.size;
		owed += h.children - 1;
	}
	*bytes = at;
	return 0;
}

int
gd_get_raw(gd_in *in, const void **data, size_t *size)
{
	size_t bytes;
	int code = in->in_bytes ? other_type(in) : look_term(in, &bytes);

	if (code != 0)
		return code;
	*data = in->at;
	*size = bytes;
	in->at += bytes;
	return 0;
}

int
gd_skip(gd_in *in)
{
	const void *data;
	size_t size;
	uint64_t byte;

	return in->in_bytes ? gd_get_u64(in, &byte) : gd_get_raw(in, &data, &size);
}

gd_type
gd_peek(const gd_in *in)
{
	struct integer n;

	switch (next_tag(in)) {
	case 0:
		return in->in_bytes ? GD_INT : GD_END;
	case TAG_SMALL_INTEGER: case TAG_INTEGER:
		return GD_INT;
	case TAG_SMALL_BIG: case TAG_LARGE_BIG:
		if (big_integer(in, &n) != 0)
			return GD_END;
		return fits_i64(&n) || (n.fits && !n.sign) ? GD_INT : GD_BIG;
	case TAG_NEW_FLOAT: case TAG_FLOAT:
		return GD_FLOAT;
	case TAG_ATOM: case TAG_SMALL_ATOM: case TAG_ATOM_UTF8: case TAG_SMALL_ATOM_UTF8:
		return GD_ATOM;
	case TAG_BINARY:
		return GD_BINARY;
	case TAG_BIT_BINARY:
		return GD_BITS;
	case TAG_SMALL_TUPLE: case TAG_LARGE_TUPLE:
		return GD_TUPLE;
	case TAG_NIL: case TAG_STRING: case TAG_LIST:
		return GD_LIST;
	case TAG_MAP:
		return GD_MAP;
	case TAG_PID: case TAG_NEW_PID:
		return GD_PID;
	case TAG_REFERENCE: case TAG_NEW_REFERENCE: case TAG_NEWER_REFERENCE:
		return GD_REF;
	case TAG_PORT: case TAG_NEW_PORT: case TAG_V4_PORT:
		return GD_PORT;
	case TAG_NEW_FUN: case TAG_EXPORT:
		return GD_FUN;
	default:
		return GD_END;
	}
}
