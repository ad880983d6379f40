/* SPDX-License-Identifier: MIT */
/* Writing numbers: integers of any size and floats, of gd_term.h. */
#include <math.h>

#include "term_out.h"

static int
put_small(gd_out *out, int64_t value)
{
	unsigned char *at;

	if ((at = term_begin(out, value >= 0 && value < 256 ? 2 : 5, 0)) == NULL)
		return out->error;
	if (value >= 0 && value < 256) {
		at[0] = TAG_SMALL_INTEGER;
		at[1] = (unsigned char)value;
	} else {
		at[0] = TAG_INTEGER;
		put_u32(at + 1, (uint32_t)value);
	}
	return 0;
}

static int
put_magnitude(gd_out *out, int sign, uint64_t value)
{
	unsigned char magnitude[sizeof(value)];

	for (size_t i = 0; i < sizeof(value); i++)
		magnitude[i] = (unsigned char)(value >> 8 * i);
	return gd_put_big(out, sign, magnitude, sizeof(magnitude));
}

int
gd_put_i64(gd_out *out, int64_t value)
{
	if (value >= INT32_MIN && value <= INT32_MAX)
		return put_small(out, value);
	return put_magnitude(out, value < 0, value < 0 ? -(uint64_t)value : (uint64_t)value);
}

int
gd_put_u64(gd_out *out, uint64_t value)
{
	return value <= INT32_MAX ? put_small(out, (int64_t)value) : put_magnitude(out, 0, value);
}

/* The value of a magnitude that an INTEGER_EXT holds; 0: it does not. */
static int
is_small(int sign, const unsigned char *magnitude, size_t size, int64_t *value)
{
	*value = 0;
	if (size > 4)
		return 0;
	for (size_t i = size; i > 0; i--)
		*value = *value << 8 | magnitude[i - 1];
	if (sign)
		*value = -*value;
	return *value >= INT32_MIN && *value <= INT32_MAX;
}

int
gd_put_big(gd_out *out, int sign, const unsigned char *magnitude, size_t size)
{
	unsigned char *at;
	int64_t value;

	while (size > 0 && magnitude[size - 1] == 0)
		size--;
	if (is_small(sign, magnitude, size, &value))
		return put_small(out, value);
	if (size > 255) {
		if ((at = term_begin_long(out, TAG_LARGE_BIG, size, 1 + (uint64_t)size, 0)) == NULL)
			return out->error;
	} else {
		if ((at = term_begin(out, 3 + size, 0)) == NULL)
			return out->error;
		*at++ = TAG_SMALL_BIG;
		*at++ = (unsigned char)size;
	}
	*at++ = sign != 0;
	copy(at, magnitude, size);
	return 0;
}

int
gd_put_f64(gd_out *out, double value)
{
	unsigned char *at;
	uint64_t bits;

	if (!isfinite(value))
		return fail(out, GD_ERANGE);
	if ((at = term_begin(out, 9, 0)) == NULL)
		return out->error;
	memcpy(&bits, &value, sizeof(bits));
	*at++ = TAG_NEW_FLOAT;
	put_u32(put_u32(at, (uint32_t)(bits >> 32)), (uint32_t)bits);
	return 0;
}
