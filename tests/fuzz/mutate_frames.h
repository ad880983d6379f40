/* SPDX-License-Identifier: MIT */
/* Mutations that leave a stream one of frames: of a term in one of them, whose length follows, and one more call. */
#ifndef MUTATE_FRAMES_H
#define MUTATE_FRAMES_H

#include "frame.h"
#include "mutate_term.h"

/* The frame at `at`, whose term is `size` bytes, with its length. */
static size_t
mutate_frame(uint8_t *data, size_t len, size_t most, size_t at, size_t size)
{
	size_t room = size + most - len, term = at + FRAME_HEAD;
	uint8_t *copy = malloc(room);

	if (copy == NULL)
		return len;
	memcpy(copy, data + term, size);
	room = mutate_term(copy, size, room, 1);
	len = replace_part(data, len, most, term, term + size, copy, room);
	for (unsigned i = 0; i < FRAME_HEAD; i++)
		data[at + i] = (uint8_t)(room >> 8 * (3 - i));
	free(copy);
	return len;
}

/* {call, Id, 1}, to begin with. */
static size_t
append_call(uint8_t *data, size_t len, size_t most)
{
	uint8_t call[] = { 0, 0, 0, 13, 131, 104, 3, 119, 4, 'c', 'a', 'l', 'l', 97, (uint8_t)rand(), 97, 1 };

	return replace_part(data, len, most, len, len, call, sizeof(call));
}

#endif
