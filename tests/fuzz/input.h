/* SPDX-License-Identifier: MIT */
/* An input as a program: bytes taken off its front. Past its end all are 0. */
#ifndef INPUT_H
#define INPUT_H

#include <stddef.h>
#include <stdint.h>

struct input {
	const uint8_t *at, *end;
};

static inline size_t
input_left(const struct input *in)
{
	return (size_t)(in->end - in->at);
}

static inline uint8_t
input_byte(struct input *in)
{
	return in->at < in->end ? *in->at++ : 0;
}

/* Of `bytes` bytes, at most 8, highest first. */
static inline uint64_t
input_number(struct input *in, unsigned bytes)
{
	uint64_t n = 0;

	while (bytes-- > 0)
		n = n << 8 | input_byte(in);
	return n;
}

/* The next `most` bytes, or as many as there are. */
static inline const uint8_t *
input_bytes(struct input *in, size_t most, size_t *len)
{
	const uint8_t *at = in->at;

	*len = most < input_left(in) ? most : input_left(in);
	in->at += *len;
	return at;
}

#endif
