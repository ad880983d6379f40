/* SPDX-License-Identifier: MIT */
/*
 * Mutations that leave a term one: what random bytes hardly ever hit upon, as a length that changes together with what
 * it counts. An input is `head` bytes of the fuzzer's own, then a term. Every other time libFuzzer's own mutations.
 */
#ifndef MUTATE_TERM_H
#define MUTATE_TERM_H

#include <stdlib.h>
#include <string.h>

#include "etf.h"
#include "etf_tags.h"

#define TERMS_MOST 256
#define LEAF_MOST 80

size_t LLVMFuzzerMutate(uint8_t *data, size_t len, size_t most);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t len, size_t most, unsigned int seed);

/* Where the terms begin from `at` on, the outermost first: how many. */
static size_t
term_starts(const uint8_t *data, size_t len, size_t at, size_t starts[TERMS_MOST])
{
	struct etf_head h;
	size_t n = 0;

	for (; n < TERMS_MOST && at < len && etf_head(data + at, len - at, UINT32_MAX, &h) == 0; at += (size_t)h.size)
		starts[n++] = at;
	return n;
}

/* Where the term at `at` ends with all that it holds, or the data does. */
static size_t
term_end(const uint8_t *data, size_t len, size_t at)
{
	struct etf_head h;
	uint64_t owed = 1;

	for (; owed > 0 && etf_head(data + at, len - at, UINT32_MAX, &h) == 0; owed--) {
		at += (size_t)h.size;
		owed += h.children;
	}
	return owed > 0 ? len : at;
}

/* `new` in the place of data[from..to); the new length, or the old one: there is no room. */
static size_t
replace_part(uint8_t *data, size_t len, size_t most, size_t from, size_t to, const uint8_t *new, size_t new_len)
{
	if (len - (to - from) + new_len > most)
		return len;
	memmove(data + from + new_len, data + to, len - to);
	memcpy(data + from, new, new_len);
	return len - (to - from) + new_len;
}

/* A leaf at the edge of something. */
static size_t
any_leaf(uint8_t leaf[LEAF_MOST])
{
	static const uint8_t some[][10] = {
		{ 97, 0 }, { 97, 255 }, { 98, 127, 255, 255, 255 }, { 98, 255, 255, 255, 255 }, { 98, 64, 0, 0, 0 },
		{ 110, 4, 0, 255, 255, 255, 255 }, { 110, 1, 1, 5 }, { 106 }, { 119, 4, 't', 'r', 'u', 'e' },
		{ 119, 0 }, { 70, 63, 240, 0, 0, 0, 0, 0, 0 }, { 77, 0, 0, 0, 1, 3, 224 }, { 116, 0, 0, 0, 0 }, { 104, 0 },
	};
	static const uint8_t size[] = { 2, 2, 5, 5, 5, 7, 4, 1, 6, 2, 9, 7, 5, 2 };
	size_t which = (size_t)rand() % (sizeof(size) + 2), len = (size_t)rand() % (LEAF_MOST - 5);

	if (which < sizeof(size)) {
		memcpy(leaf, some[which], size[which]);
		return size[which];
	}
	memset(leaf, 'x', LEAF_MOST);
	if (which == sizeof(size)) {	/* a binary of any length */
		memcpy(leaf, (const uint8_t[]){ 109, 0, 0, 0, (uint8_t)len }, 5);
		return 5 + len;
	}
	memcpy(leaf, (const uint8_t[]){ 107, 0, (uint8_t)len }, 3);
	return 3 + len;
}

/* One of the terms from `head` on becomes another of them, or a leaf. */
static size_t
mutate_term(uint8_t *data, size_t len, size_t most, size_t head)
{
	size_t starts[TERMS_MOST], n = term_starts(data, len, head, starts), from, other, end;
	uint8_t leaf[LEAF_MOST], *copy;

	if (n == 0)
		return LLVMFuzzerMutate(data, len, most);
	from = starts[(size_t)rand() % n];
	if (rand() % 2 == 0) {
		end = any_leaf(leaf);
		return replace_part(data, len, most, from, term_end(data, len, from), leaf, end);
	}
	other = starts[(size_t)rand() % n];
	end = term_end(data, len, other);
	if ((copy = malloc(end - other)) == NULL)
		return len;
	memcpy(copy, data + other, end - other);
	len = replace_part(data, len, most, from, term_end(data, len, from), copy, end - other);
	free(copy);
	return len;
}

#endif
