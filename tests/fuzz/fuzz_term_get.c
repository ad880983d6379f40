/* SPDX-License-Identifier: MIT */
/*
 * Readers on bytes that nobody has validated: an input is a program, whose first byte
 * says how many gets follow, and then the term they read. No get leaves its bytes, and
 * one that fails leaves the cursor where it was.
 */
#include <stdlib.h>
#include <string.h>

#include "term.h"

#define GETS 18

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static int
get(gd_in *in, unsigned which)
{
	static unsigned char big[64];
	static char text[32];
	const void *data;
	const char *name;
	size_t size = sizeof(big);
	uint64_t u64;
	int64_t i64;
	int32_t i32;
	double f64;
	int n;

	switch (which % GETS) {
	case 0: return gd_get_i64(in, &i64);
	case 1: return gd_get_u64(in, &u64);
	case 2: return gd_get_i32(in, &i32);
	case 3: return gd_get_f64(in, &f64);
	case 4: return gd_get_number(in, &f64);
	case 5: return gd_get_big(in, &n, big, &size);
	case 6: return gd_get_atom(in, &name, &size);
	case 7: return gd_get_atom_is(in, "ok");
	case 8: return gd_get_bool(in, &n);
	case 9: return gd_get_binary(in, &data, &size);
	case 10: return gd_get_bits(in, &data, &size, &n);
	case 11: return gd_get_text(in, text, sizeof(text), &size);
	case 12: return gd_get_tuple(in, &size);
	case 13: return gd_get_list(in, &size);
	case 14: return gd_get_end(in);
	case 15: return gd_get_map(in, &size);
	case 16: return gd_get_raw(in, &data, &size);
	default: return gd_skip(in);
	}
}

static int
same(const gd_in *a, const gd_in *b)
{
	return a->at == b->at && a->bytes_left == b->bytes_left && a->in_bytes == b->in_bytes;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	size_t gets = len > 0 ? data[0] : 0;
	gd_in in, before;

	if (len < 1 + gets)
		return 0;
	gd_in_init(&in, data + 1 + gets, len - 1 - gets);
	if (gets % 2 == 0)
		in.whole = NULL;	/* so that gd_get_raw has to count */
	for (size_t i = 0; i < gets; i++) {
		before = in;
		(void)gd_peek(&in);
		if (get(&in, data[1 + i]) < 0 && !same(&in, &before))
			abort();
		if (in.at > in.end || in.bytes_left > (size_t)(in.end - in.at))
			abort();
	}
	return 0;
}
