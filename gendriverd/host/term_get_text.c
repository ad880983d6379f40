/* SPDX-License-Identifier: MIT */
/* Reading what is made of bytes: atoms, binaries and text, of gd_term.h. */
#include <string.h>

#include "term_cursor.h"

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
	int code = term_head(in, TAG_BINARY, TAG_BINARY, &h);

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

	if (term_head(in, TAG_BIT_BINARY, TAG_BIT_BINARY, &h) != 0) {
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
