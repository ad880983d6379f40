/* SPDX-License-Identifier: MIT */
/*
 * Writers: an input is a program of puts. Whatever they say is done passes the validator, a put that
 * fails writes nothing and stops those that follow, and nothing grows beyond its limit.
 */
#include <stdlib.h>
#include <string.h>

#include "etf.h"
#include "input.h"
#include "term.h"

#define PUTS 21
#define PUTS_MOST 300

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* As deep as there are puts; a byte list and a list's tails count as terms. */
static const struct etf_limits limits = { PUTS_MOST, 1u << 20, 1u << 20 };

static double
as_double(uint64_t bits)
{
	double value;

	memcpy(&value, &bits, sizeof(value));
	return value;
}

/* gd_put_raw wants a term: what is none is not put. */
static int
put_raw(gd_out *out, const uint8_t *data, size_t len)
{
	return etf_check_all(&limits, data, len, 0) == 0 ? gd_put_raw(out, data, len) : out->error;
}

/* The room that was last asked for, which trimming is told again. */
static size_t space;

static int
put_space(gd_out *out, size_t room)
{
	void *at;
	int code = gd_put_space(out, room, &at);

	if (code == 0)
		memset(at, 'x', room);
	space = room;
	return code;
}

static int
put(gd_out *out, struct input *in)
{
	unsigned which = input_byte(in);
	const uint8_t *data;
	size_t len, n;

	switch (which % PUTS) {
	case 0: return gd_put_i64(out, (int64_t)input_number(in, 8));
	case 1: return gd_put_u64(out, input_number(in, 8));
	case 2: return gd_put_i64(out, (int8_t)input_byte(in));
	case 3: return gd_put_f64(out, as_double(input_number(in, 8)));
	case 4: return gd_put_bool(out, input_byte(in) & 1);
	case 5: return gd_put_tuple(out, input_byte(in));
	case 6: return gd_put_tuple(out, (size_t)input_number(in, 4));
	case 7: return gd_put_list(out, input_byte(in) % 8);
	case 8: return gd_put_list(out, (size_t)input_number(in, 5));
	case 9: return gd_put_nil(out);
	case 10: return gd_put_map(out, input_byte(in) % 4);
	case 11: return gd_put_map(out, (size_t)input_number(in, 5));
	case 12: return gd_open_list(out);
	case 13: return gd_close_list(out);
	case 14: return put_space(out, input_byte(in));
	case 15: return gd_trim_binary(out, space, input_byte(in));
	default: break;
	}
	n = which & 0x80 ? (size_t)input_number(in, 2) : input_byte(in);
	data = input_bytes(in, n, &len);
	switch (which % PUTS) {
	case 16: return gd_put_big(out, (int)(which >> 6 & 1), data, len);
	case 17: return gd_put_atom_n(out, (const char *)data, len);
	case 18: return gd_put_string(out, (const char *)data, len);
	case 19: return len > 0 ? gd_put_bits(out, data + 1, len - 1, data[0] % 10) : gd_put_binary(out, data, 0);
	default: return put_raw(out, data, len);
	}
}

/* Behind a put that gave `code`; `before` is the writer as it was. */
static void
check_put(const gd_out *out, const gd_out *before, int code)
{
	if (code != out->error || out->len > out->room || out->room > out->limit)
		abort();
	if (before->error != 0 && (code != before->error || out->len != before->len))
		abort();
	if (code != 0 && before->error == 0 && out->len > before->len)
		abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct input in = { data, data + len };
	size_t limit = 1 + (size_t)input_number(&in, 2) * 4;
	gd_out out, before;

	space = 0;
	if (gd_out_init(&out, limit) != 0)
		abort();
	for (int i = 0; i < PUTS_MOST && input_left(&in) > 0; i++) {
		before = out;
		check_put(&out, &before, put(&out, &in));
		if (gd_out_done(&out) == 1 && etf_check_all(&limits, out.buf, out.len, 1) != 0)
			abort();
	}
	gd_out_reset(&out);
	if (out.error != 0 || out.len != 1 || gd_out_done(&out) != 0)
		abort();
	gd_out_free(&out);
	return 0;
}
