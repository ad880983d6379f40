/* SPDX-License-Identifier: MIT */
/* Writing the small frames of frame.h by hand: each is one tagged tuple. */
#include <string.h>

#include "frame.h"

enum { VERSION = 131, SMALL_TUPLE = 104, SMALL_INTEGER = 97, INTEGER = 98, SMALL_ATOM_UTF8 = 119 };

static unsigned char *
put_u32(unsigned char *at, uint32_t n)
{
	at[0] = (unsigned char)(n >> 24);
	at[1] = (unsigned char)(n >> 16);
	at[2] = (unsigned char)(n >> 8);
	at[3] = (unsigned char)n;
	return at + 4;
}

uint32_t
frame_length(const unsigned char *h)
{
	return (uint32_t)h[0] << 24 | (uint32_t)h[1] << 16 | (uint32_t)h[2] << 8 | h[3];
}

static unsigned char *
put_atom(unsigned char *at, const char *name)
{
	size_t len = strlen(name);

	*at++ = SMALL_ATOM_UTF8;
	*at++ = (unsigned char)len;
	memcpy(at, name, len);
	return at + len;
}

static unsigned char *
put_id(unsigned char *at, uint32_t id)
{
	if (id < 256) {
		*at++ = SMALL_INTEGER;
		*at++ = (unsigned char)id;
		return at;
	}
	*at++ = INTEGER;
	return put_u32(at, id);
}

static unsigned char *
begin(unsigned char *frame, unsigned char arity, const char *tag)
{
	unsigned char *at = frame + FRAME_HEAD;

	*at++ = VERSION;
	*at++ = SMALL_TUPLE;
	*at++ = arity;
	return put_atom(at, tag);
}

/* Fill in the length; `more` bytes will follow `at`. */
static size_t
finish(unsigned char *frame, unsigned char *at, size_t more)
{
	put_u32(frame, (uint32_t)((size_t)(at - frame) - FRAME_HEAD + more));
	return (size_t)(at - frame);
}

size_t
frame_reply_head(unsigned char *frame, uint32_t id, size_t term_len)
{
	return finish(frame, put_id(begin(frame, 3, "reply"), id), term_len);
}

size_t
frame_part_head(unsigned char *frame, uint32_t id, size_t term_len)
{
	return finish(frame, put_id(begin(frame, 3, "part"), id), term_len);
}

size_t
frame_note_head(unsigned char *frame, size_t term_len)
{
	return finish(frame, begin(frame, 2, "note"), term_len);
}

size_t
frame_failed(unsigned char *frame, uint32_t id, const char *reason)
{
	return finish(frame, put_atom(put_id(begin(frame, 3, "failed"), id), reason), 0);
}

size_t
frame_pong(unsigned char *frame, uint32_t id)
{
	return finish(frame, put_id(begin(frame, 2, "pong"), id), 0);
}

size_t
frame_goodbye(unsigned char *frame, const char *reason)
{
	return finish(frame, put_atom(begin(frame, 2, "goodbye"), reason), 0);
}
