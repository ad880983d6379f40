/* SPDX-License-Identifier: MIT */
/*
 * Writing terms: the puts of gd_term.h. Every put says first how many terms it
 * settles (one) and announces; a reply is done when nothing is owed at the root.
 * Nothing is written before its whole size is reserved, so a put that fails
 * writes nothing, and no later one does. Long, as gd_term.h is.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "etf.h"
#include "etf_tags.h"
#include "term.h"

#define FIRST_ROOM 256
#define KEEP_ROOM (64u * 1024)
#define HUGE_PAGE (2u * 1024 * 1024)
#define MAX_STRING 65535

int
gd_out_init(gd_out *out, size_t limit)
{
	out->limit = limit > 0 ? limit : 1;	/* the version byte */
	out->room = 0;
	out->buf = NULL;
	gd_out_reset(out);
	return out->error;
}

void
gd_out_free(gd_out *out)
{
	free(out->buf);
	out->buf = NULL;
	out->len = out->room = 0;
	out->error = GD_ENOMEM;		/* a put now would have nowhere to go */
}

void
gd_out_reset(gd_out *out)
{
	if (out->room > KEEP_ROOM)
		gd_out_free(out);
	if (out->buf == NULL && (out->buf = malloc(FIRST_ROOM)) != NULL)
		out->room = out->limit < FIRST_ROOM ? out->limit : FIRST_ROOM;
	out->len = 0;
	out->error = out->buf != NULL ? 0 : GD_ENOMEM;
	out->depth = 0;
	out->level[0].owed = 1;
	out->space = 0;
	if (out->error == 0)
		out->buf[out->len++] = ETF_VERSION;
}

int
gd_out_done(const gd_out *out)
{
	if (out->error != 0)
		return out->error;
	if (out->depth == 0 && out->level[0].owed == 0)
		return 1;
	return out->len == 1 ? 0 : GD_ETYPE;
}

/* --- what every put does -------------------------------------------------- */

static int
fail(gd_out *out, int code)
{
	if (out->error == 0)
		out->error = code;
	return out->error;
}

/* Else there is a page fault for each 4 KiB, and all of them cost as much as the copy. Where the kernel gives none, no
 * harm is done. */
static void
ask_for_huge_pages(unsigned char *buf, size_t room)
{
	uintptr_t from = ((uintptr_t)buf + HUGE_PAGE - 1) & ~(uintptr_t)(HUGE_PAGE - 1);
	uintptr_t end = ((uintptr_t)buf + room) & ~(uintptr_t)(HUGE_PAGE - 1);

	(void)madvise((void *)from, end - from, MADV_HUGEPAGE);
}

static int
grow(gd_out *out, size_t more)
{
	size_t room = out->room;
	unsigned char *larger;

	if (more > out->limit - out->len)
		return fail(out, GD_ELIMIT);
	while (room - out->len < more)
		room = room > out->limit / 2 ? out->limit : 2 * room;
	if ((larger = realloc(out->buf, room)) == NULL)
		return fail(out, GD_ENOMEM);
	out->buf = larger;
	out->room = room;
	if (room >= 2 * HUGE_PAGE)
		ask_for_huge_pages(larger, room);
	return 0;
}

/* Room for `more` bytes behind len. */
static inline int
reserve(gd_out *out, uint64_t more)
{
#if SIZE_MAX < UINT64_MAX
	if (more > SIZE_MAX)
		return fail(out, GD_ELIMIT);
#endif
	return more > out->room - out->len ? grow(out, (size_t)more) : 0;
}

/* Where a term of `size` bytes goes, which the caller writes at once; `children` are
 * to follow. NULL: out->error says why. */
static unsigned char *
begin(gd_out *out, uint64_t size, uint64_t children)
{
	uint64_t owed = out->level[out->depth].owed;

	if (out->error == 0 && owed == 0 && out->depth == 0)
		fail(out, GD_EEND);
	if (out->error != 0 || reserve(out, size) != 0)
		return NULL;
	if (owed == 0) {	/* an open list takes another element */
		owed = 1;
		out->level[out->depth].count++;
	}
	out->level[out->depth].owed = owed - 1 + children;
	out->space = 0;
	out->len += (size_t)size;
	return out->buf + out->len - size;
}

static unsigned char *
put_u32(unsigned char *at, uint32_t n)
{
	at[0] = (unsigned char)(n >> 24);
	at[1] = (unsigned char)(n >> 16);
	at[2] = (unsigned char)(n >> 8);
	at[3] = (unsigned char)n;
	return at + 4;
}

static void
copy(unsigned char *at, const void *data, size_t size)
{
	if (size > 0)
		memcpy(at, data, size);
}

/* A tag and a 32-bit length; where the `size` bytes behind them go, or NULL. */
static unsigned char *
begin_long(gd_out *out, int tag, uint64_t n, uint64_t size, uint64_t children)
{
	unsigned char *at;

	if (n > UINT32_MAX)
		fail(out, GD_ELIMIT);
	if ((at = begin(out, 5 + size, children)) == NULL)
		return NULL;
	*at++ = (unsigned char)tag;
	return put_u32(at, (uint32_t)n);
}

/* --- numbers ------------------------------------------------------------- */

static int
put_small(gd_out *out, int64_t value)
{
	unsigned char *at;

	if ((at = begin(out, value >= 0 && value < 256 ? 2 : 5, 0)) == NULL)
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
		if ((at = begin_long(out, TAG_LARGE_BIG, size, 1 + (uint64_t)size, 0)) == NULL)
			return out->error;
	} else {
		if ((at = begin(out, 3 + size, 0)) == NULL)
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
	if ((at = begin(out, 9, 0)) == NULL)
		return out->error;
	memcpy(&bits, &value, sizeof(bits));
	*at++ = TAG_NEW_FLOAT;
	put_u32(put_u32(at, (uint32_t)(bits >> 32)), (uint32_t)bits);
	return 0;
}

/* --- atoms, binaries, text ----------------------------------------------- */

int
gd_put_atom(gd_out *out, const char *name)
{
	return gd_put_atom_n(out, name, strlen(name));
}

int
gd_put_atom_n(gd_out *out, const char *name, size_t size)
{
	size_t head = size > 255 ? 3 : 2;
	unsigned char *at;
	int64_t chars;

	chars = size > 4 * ETF_ATOM_CHARS ? -1 : etf_utf8_length((const unsigned char *)name, size);
	if (chars < 0 || chars > ETF_ATOM_CHARS)
		return fail(out, GD_ERANGE);
	if ((at = begin(out, head + size, 0)) == NULL)
		return out->error;
	*at++ = head == 3 ? TAG_ATOM_UTF8 : TAG_SMALL_ATOM_UTF8;
	if (head == 3)
		*at++ = (unsigned char)(size >> 8);
	*at++ = (unsigned char)size;
	copy(at, name, size);
	return 0;
}

int
gd_put_bool(gd_out *out, int value)
{
	return gd_put_atom(out, value ? "true" : "false");
}

int
gd_put_binary(gd_out *out, const void *data, size_t size)
{
	unsigned char *at;

	if ((at = begin_long(out, TAG_BINARY, size, size, 0)) == NULL)
		return out->error;
	copy(at, data, size);
	return 0;
}

int
gd_put_text(gd_out *out, const char *text)
{
	return gd_put_binary(out, text, strlen(text));
}

int
gd_put_bits(gd_out *out, const void *data, size_t size, int bits)
{
	unsigned char *at;

	if (bits < 1 || bits > 8)
		return fail(out, GD_ERANGE);
	if (size == 0 || bits == 8)
		return gd_put_binary(out, data, size);
	if ((at = begin_long(out, TAG_BIT_BINARY, size, 1 + (uint64_t)size, 0)) == NULL)
		return out->error;
	*at++ = (unsigned char)bits;
	copy(at, data, size);
	at[size - 1] &= (unsigned char)(0xff << (8 - bits));	/* unused bits are zeros */
	return 0;
}

int
gd_put_string(gd_out *out, const char *bytes, size_t size)
{
	unsigned char *at;

	if (size == 0)
		return gd_put_nil(out);
	if (size <= MAX_STRING) {
		if ((at = begin(out, 3 + size, 0)) == NULL)
			return out->error;
		*at++ = TAG_STRING;
		*at++ = (unsigned char)(size >> 8);
		*at++ = (unsigned char)size;
		copy(at, bytes, size);
		return 0;
	}
	if ((at = begin_long(out, TAG_LIST, size, 2 * (uint64_t)size + 1, 0)) == NULL)
		return out->error;
	for (size_t i = 0; i < size; i++) {
		*at++ = TAG_SMALL_INTEGER;
		*at++ = (unsigned char)bytes[i];
	}
	*at = TAG_NIL;
	return 0;
}

/* Zeros, so that a driver that writes less than it asked for tells nobody's secrets. */
int
gd_put_space(gd_out *out, size_t size, void **data)
{
	unsigned char *at;

	if ((at = begin_long(out, TAG_BINARY, size, size, 0)) == NULL)
		return out->error;
	memset(at, 0, size);
	out->space = (size_t)(at - out->buf);
	*data = at;
	return 0;
}

int
gd_trim_binary(gd_out *out, size_t room, size_t size)
{
	if (out->error != 0)
		return out->error;
	if (out->space == 0 || out->len - out->space != room || size > room)
		return fail(out, GD_ERANGE);
	put_u32(out->buf + out->space - 4, (uint32_t)size);
	out->len = out->space + size;
	return 0;
}

/* --- terms with terms inside --------------------------------------------- */

int
gd_put_tuple(gd_out *out, size_t arity)
{
	unsigned char *at;

	if (arity > ETF_MAX_ARITY)
		return fail(out, GD_ERANGE);
	if (arity > 255)
		return begin_long(out, TAG_LARGE_TUPLE, arity, 0, arity) != NULL ? 0 : out->error;
	if ((at = begin(out, 2, arity)) == NULL)
		return out->error;
	at[0] = TAG_SMALL_TUPLE;
	at[1] = (unsigned char)arity;
	return 0;
}

int
gd_put_list(gd_out *out, size_t length)
{
	if (length == 0)
		return gd_put_nil(out);
	return begin_long(out, TAG_LIST, length, 0, (uint64_t)length + 1) != NULL ? 0 : out->error;
}

int
gd_put_nil(gd_out *out)
{
	unsigned char *at;

	if ((at = begin(out, 1, 0)) == NULL)
		return out->error;
	*at = TAG_NIL;
	return 0;
}

int
gd_put_map(gd_out *out, size_t pairs)
{
	return begin_long(out, TAG_MAP, pairs, 0, 2 * (uint64_t)pairs) != NULL ? 0 : out->error;
}

int
gd_put_raw(gd_out *out, const void *data, size_t size)
{
	unsigned char *at;

	if (size == 0)
		return fail(out, GD_ETYPE);
	if ((at = begin(out, size, 0)) == NULL)
		return out->error;
	copy(at, data, size);
	return 0;
}

int
gd_open_list(gd_out *out)
{
	unsigned char *at;

	if (out->error == 0 && out->depth == GD_OPEN_LISTS)
		return fail(out, GD_ELIMIT);
	if ((at = begin_long(out, TAG_LIST, 0, 0, 0)) == NULL)
		return out->error;
	out->depth++;
	out->level[out->depth].at = (size_t)(at - out->buf);
	out->level[out->depth].owed = 0;
	out->level[out->depth].count = 0;
	return 0;
}

int
gd_close_list(gd_out *out)
{
	size_t at = out->level[out->depth].at;
	uint64_t count = out->level[out->depth].count;

	if (out->error != 0)
		return out->error;
	if (out->depth == 0)
		return fail(out, GD_EEND);
	if (out->level[out->depth].owed > 0)
		return fail(out, GD_ETYPE);
	if (count > UINT32_MAX)
		return fail(out, GD_ELIMIT);
	out->space = 0;
	if (count == 0)
		out->len = at - 5;	/* [] has no length */
	else if (reserve(out, 1) != 0)
		return out->error;
	else
		put_u32(out->buf + at - 4, (uint32_t)count);
	out->buf[out->len++] = TAG_NIL;
	out->depth--;
	return 0;
}
