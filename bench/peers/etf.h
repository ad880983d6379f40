/* SPDX-License-Identifier: MIT */
/* Of the External Term Format just what the bench's own requests hold, for the peer that wants no library: echo.c. */
#ifndef BENCH_ETF_H
#define BENCH_ETF_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint32_t
etf_u32(const unsigned char *at)
{
	return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

/* An integer up to 32 bits; moves *at on. 0, or -1. */
static inline int
etf_int(const unsigned char **at, int64_t *value)
{
	const unsigned char *p = *at;

	if (p[0] == 97) {
		*value = p[1];
		*at = p + 2;
	} else if (p[0] == 98) {
		*value = (int32_t)etf_u32(p + 1);
		*at = p + 5;
	} else {
		return -1;
	}
	return 0;
}

/* An atom's name; moves *at on. 0, or -1. */
static inline int
etf_atom(const unsigned char **at, const char **name, size_t *size)
{
	const unsigned char *p = *at;
	size_t head;

	if (p[0] == 115 || p[0] == 119) {
		*size = p[1];
		head = 2;
	} else if (p[0] == 100 || p[0] == 118) {
		*size = (size_t)p[1] << 8 | p[2];
		head = 3;
	} else {
		return -1;
	}
	*name = (const char *)p + head;
	*at = p + head + *size;
	return 0;
}

/* The sum of a list of integers. 0, or -1. */
static inline int
etf_sum(const unsigned char *p, int64_t *sum)
{
	int64_t number;

	*sum = 0;
	if (p[0] == 106)
		return 0;
	if (p[0] == 107) {
		size_t size = (size_t)p[1] << 8 | p[2];

		for (p += 3; size > 0; size--)
			*sum += *p++;
		return 0;
	}
	if (p[0] != 108)
		return -1;
	uint32_t length = etf_u32(p + 1);
	for (p += 5; length > 0; length--) {
		if (etf_int(&p, &number) != 0)
			return -1;
		*sum += number;
	}
	return 0;
}

/* Writes an integer; how many bytes that took, 11 at most. */
static inline size_t
etf_put_int(unsigned char *p, int64_t value)
{
	uint64_t rest = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;

	if (value >= 0 && value < 256) {
		p[0] = 97;
		p[1] = (unsigned char)value;
		return 2;
	}
	p[0] = 110;
	p[1] = 8;
	p[2] = value < 0;
	for (int i = 0; i < 8; i++, rest >>= 8)
		p[3 + i] = (unsigned char)rest;
	return 11;
}

#endif
