/* SPDX-License-Identifier: MIT */
/* Writing what is made of bytes: atoms, binaries and text, of gd_term.h. */
#include "etf.h"
#include "term_out.h"

#define MAX_STRING 65535

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
	if ((at = term_begin(out, head + size, 0)) == NULL)
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

	if ((at = term_begin_long(out, TAG_BINARY, size, size, 0)) == NULL)
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
	if ((at = term_begin_long(out, TAG_BIT_BINARY, size, 1 + (uint64_t)size, 0)) == NULL)
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
		if ((at = term_begin(out, 3 + size, 0)) == NULL)
			return out->error;
		*at++ = TAG_STRING;
		*at++ = (unsigned char)(size >> 8);
		*at++ = (unsigned char)size;
		copy(at, bytes, size);
		return 0;
	}
	if ((at = term_begin_long(out, TAG_LIST, size, 2 * (uint64_t)size + 1, 0)) == NULL)
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

	if ((at = term_begin_long(out, TAG_BINARY, size, size, 0)) == NULL)
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
