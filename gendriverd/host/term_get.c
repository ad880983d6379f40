/* SPDX-License-Identifier: MIT */
/* Reading terms: a cursor's beginning, terms with terms inside, and any term, of gd_term.h. */
#include "term_cursor.h"

void
gd_in_init(gd_in *in, const void *term, size_t len)
{
	in->at = in->whole = term;
	in->end = in->at + len;
	in->bytes_left = 0;
	in->in_bytes = 0;
}

int
term_head(const gd_in *in, int tag, int other, struct etf_head *h)
{
	int next = next_tag(in);

	if (next != tag && next != other)
		return other_type(in);
	return etf_head(in->at, left(in), UINT32_MAX, h) == 0 ? 0 : GD_ETYPE;
}

/* --- terms with terms inside --------------------------------------------- */

int
gd_get_tuple(gd_in *in, size_t *arity)
{
	struct etf_head h;
	int code = term_head(in, TAG_SMALL_TUPLE, TAG_LARGE_TUPLE, &h);

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
	int code = term_head(in, TAG_MAP, TAG_MAP, &h);

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
	switch (next_tag(in)) {
	case 0:
		return in->in_bytes ? GD_INT : GD_END;
	case TAG_SMALL_INTEGER: case TAG_INTEGER:
		return GD_INT;
	case TAG_SMALL_BIG: case TAG_LARGE_BIG:
		return term_big_type(in);
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
