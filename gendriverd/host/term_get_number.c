/* SPDX-License-Identifier: MIT */
/* Reading numbers: integers of any form and floats, of gd_term.h. */
#include <math.h>
#include <string.h>

#include "term_cursor.h"

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

gd_type
term_big_type(const gd_in *in)
{
	struct integer n;

	if (big_integer(in, &n) != 0)
		return GD_END;
	return fits_i64(&n) || (n.fits && !n.sign) ? GD_INT : GD_BIG;
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
	int code = term_head(in, TAG_NEW_FLOAT, TAG_FLOAT, &h);

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
