/* SPDX-License-Identifier: MIT */
/* Readers and writers of terms, value by value: forms, bounds, text, rounding. */
#include <math.h>

#include "check.h"
#include "term.h"
#include "vectors.h"

static gd_out out;

/* The term that was put; the writer is ready for the next. */
static gd_in
what_was_put(void)
{
	static unsigned char copy[1 << 20];
	size_t len = out.len;
	gd_in in;

	CHECK(gd_out_done(&out) == 1);
	CHECK(etf_check_all(&vector_limits, out.buf, len, 1) == 0);
	memcpy(copy, out.buf, len);
	gd_out_reset(&out);
	gd_in_init(&in, copy + 1, len - 1);
	return in;
}

static gd_in
cursor(const char *hex)
{
	static unsigned char *data;
	size_t len = 0;
	gd_in in;

	free(data);
	data = from_hex(hex, &len);
	gd_in_init(&in, data, len);
	return in;
}

static void
check_integers(void)
{
	static const int64_t edges[] = { 0, 1, -1, 255, 256, INT32_MAX, INT32_MIN, INT32_MAX + 1LL,
		INT32_MIN - 1LL, INT64_MAX, INT64_MIN };
	static const unsigned char forms[] = { 97, 97, 98, 97, 98, 98, 98, 110, 110, 110, 110 };
	unsigned char magnitude[8];
	int64_t value;
	uint64_t natural;
	size_t size;
	int sign;

	about = "integers";
	for (size_t i = 0; i < sizeof(forms); i++) {
		CHECK(gd_put_i64(&out, edges[i]) == 0);
		gd_in in = what_was_put(), again = in;
		CHECK(in.at[0] == forms[i] && gd_peek(&in) == GD_INT);
		CHECK(gd_get_i64(&in, &value) == 0 && value == edges[i] && in.at == in.end);
		size = sizeof(magnitude);
		CHECK(gd_get_big(&again, &sign, magnitude, &size) == 0 && sign == (edges[i] < 0));
		CHECK(gd_put_big(&out, sign, magnitude, size) == 0);
		in = what_was_put();
		CHECK(in.at[0] == forms[i] && gd_get_i64(&in, &value) == 0 && value == edges[i]);
	}
	CHECK(gd_put_u64(&out, UINT64_MAX) == 0);
	gd_in in = what_was_put();
	CHECK(gd_peek(&in) == GD_INT && gd_get_i64(&in, &value) == GD_ERANGE);
	CHECK(gd_get_u64(&in, &natural) == 0 && natural == UINT64_MAX);
	in = cursor("62ffffffff");
	CHECK(gd_get_u64(&in, &natural) == GD_ERANGE && gd_get_i64(&in, &value) == 0 && value == -1);
	in = cursor("6e0900000000000000000001");
	size = 8;
	CHECK(gd_peek(&in) == GD_BIG && gd_get_big(&in, &sign, magnitude, &size) == GD_ERANGE && size == 8);
}

/* 2^64 + 2^11 is half-way between two doubles; a bit far below decides. */
static void
check_rounding(void)
{
	unsigned char magnitude[129] = { 0 };
	double value;
	gd_in in;

	about = "rounding";
	magnitude[8] = 1, magnitude[1] = 8;
	gd_put_big(&out, 0, magnitude, 9);
	in = what_was_put();
	CHECK(gd_get_number(&in, &value) == 0 && value == 0x1p64);
	magnitude[0] = 1;
	gd_put_big(&out, 1, magnitude, 9);
	in = what_was_put();
	CHECK(gd_get_number(&in, &value) == 0 && value == -0x1.0000000000001p64);
	memset(magnitude, 0, sizeof(magnitude));
	magnitude[11] = 1, magnitude[4] = 8, magnitude[0] = 1;
	gd_put_big(&out, 0, magnitude, 12);
	in = what_was_put();
	CHECK(gd_get_number(&in, &value) == 0 && value == 0x1.0000000000001p88);
	memset(magnitude, 0, sizeof(magnitude));
	magnitude[127] = 0x80;
	gd_put_big(&out, 0, magnitude, 128);
	in = what_was_put();
	CHECK(gd_get_number(&in, &value) == 0 && value == 0x1p1023);
	memset(magnitude, 0xff, sizeof(magnitude));
	for (size_t size = 128; size <= 129; size++) {
		gd_put_big(&out, 0, magnitude, size);
		in = what_was_put();
		CHECK(gd_get_number(&in, &value) == GD_ERANGE && gd_peek(&in) == GD_BIG);
	}
}

static void
check_floats(void)
{
	double value = 7;
	gd_in in = cursor("467ff8000000000000");

	about = "floats";
	CHECK(gd_get_f64(&in, &value) == GD_ERANGE && value == 7 && in.at == in.whole);
	CHECK(gd_put_f64(&out, -0.0) == 0);
	in = what_was_put();
	CHECK(gd_get_f64(&in, &value) == 0 && value == 0 && signbit(value));
	in = cursor("63312e353030303030303030303030303030303030303065" "2b30300000000000");
	CHECK(gd_get_number(&in, &value) == 0 && value == 1.5 && in.at == in.end);
	in = cursor("6103");
	CHECK(gd_get_f64(&in, &value) == GD_ETYPE && gd_get_number(&in, &value) == 0 && value == 3);
}

/* [1,2] as STRING_EXT and as LIST_EXT, and [], read the same. */
static void
check_lists(void)
{
	static const char *const forms[] = { "6b00020102" "6107", "6c000000026101" "61026a6107" };
	const void *data;
	int64_t value;
	size_t n;

	about = "lists";
	for (size_t i = 0; i < 2; i++) {
		gd_in in = cursor(forms[i]);
		CHECK(gd_get_list(&in, &n) == 0 && n == 2);
		CHECK(gd_get_end(&in) == GD_ETYPE && gd_get_tuple(&in, &n) == GD_ETYPE);
		CHECK(gd_get_i64(&in, &value) == 0 && value == 1 && gd_skip(&in) == 0);
		CHECK(gd_get_i64(&in, &value) < 0 && gd_get_end(&in) == 0);
		CHECK(gd_get_i64(&in, &value) == 0 && value == 7);
		CHECK(gd_get_end(&in) == GD_EEND);
	}
	gd_in in = cursor("6a6b000105");
	CHECK(gd_get_list(&in, &n) == 0 && n == 0 && gd_peek(&in) == GD_END);
	CHECK(gd_get_i64(&in, &value) == GD_EEND && gd_get_end(&in) == 0);
	CHECK(gd_get_list(&in, &n) == 0 && n == 1 && gd_get_raw(&in, &data, &n) == GD_ETYPE);
	in = cursor("6c0000000161016102");
	CHECK(gd_get_list(&in, &n) == 0 && gd_skip(&in) == 0 && gd_get_end(&in) == GD_ETYPE);
}

static void
check_text(void)
{
	static const char *const forms[] = { "6d00000003616263", "6b0003616263", "6c000000036161616261636a" };
	static const struct { const char *hex; int code; } bad[] = {
		{ "6d00000003610063", GD_ERANGE }, { "6b0003610063", GD_ERANGE },
		{ "6c0000000161016102", GD_ETYPE }, { "6c0000000162000001006a", GD_ETYPE }, { "6101", GD_ETYPE },
	};
	char text[8];
	size_t size;
	gd_in in;

	about = "text";
	for (size_t i = 0; i < 3; i++) {
		in = cursor(forms[i]);
		CHECK(gd_get_text(&in, text, 3, &size) == GD_ERANGE && in.at == in.whole);
		CHECK(gd_get_text(&in, text, 4, &size) == 0 && size == 3 && strcmp(text, "abc") == 0);
		CHECK(in.at == in.end);
	}
	in = cursor("6a");
	CHECK(gd_get_text(&in, text, 1, NULL) == 0 && text[0] == '\0');
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		in = cursor(bad[i].hex);
		strcpy(text, "before");
		CHECK(gd_get_text(&in, text, sizeof(text), &size) == bad[i].code);
		CHECK(in.at == in.whole && strcmp(text, "before") == 0);
	}
}

static void
check_atoms(void)
{
	char name[4 * 256];
	const char *found;
	size_t size;
	gd_in in;
	int yes;

	about = "atoms";
	for (size_t i = 0; i < sizeof(name); i += 4)
		memcpy(name + i, "\xf0\x9f\x98\x80", 4);
	CHECK(gd_put_atom_n(&out, name, 4 * 255) == 0);
	in = what_was_put();
	CHECK(gd_get_atom(&in, &found, &size) == 0 && size == 4 * 255 && memcmp(found, name, size) == 0);
	CHECK(gd_put_atom_n(&out, name, 4 * 256) == GD_ERANGE && gd_out_done(&out) == GD_ERANGE);
	gd_out_reset(&out);
	CHECK(gd_put_atom_n(&out, "\xed\xa0\x80", 3) == GD_ERANGE);
	gd_out_reset(&out);
	CHECK(gd_put_bool(&out, 1) == 0);
	in = what_was_put();
	CHECK(gd_get_atom_is(&in, "tru") == GD_ETYPE && gd_get_bool(&in, &yes) == 0 && yes == 1);
	in = cursor("6400046e6f6e65");
	CHECK(gd_get_bool(&in, &yes) == GD_ETYPE && gd_get_atom_is(&in, "none") == 0);
}

static void
check_strings(void)
{
	static char long_text[65536];
	size_t n, size;
	gd_in in;

	about = "strings";
	memset(long_text, 'x', sizeof(long_text));
	for (size = 65535; size <= 65536; size++) {
		CHECK(gd_put_string(&out, long_text, size) == 0);
		in = what_was_put();
		CHECK(in.at[0] == (size == 65535 ? 107 : 108));
		CHECK(gd_get_list(&in, &n) == 0 && n == size);
		while (n-- > 0 && gd_skip(&in) == 0)
			continue;
		CHECK(gd_get_end(&in) == 0 && in.at == in.end);
	}
	CHECK(gd_put_string(&out, "", 0) == 0);
	in = what_was_put();
	CHECK(in.at[0] == 106);
}

static void
check_bits(void)
{
	const void *data;
	size_t size;
	int bits;
	gd_in in;

	about = "bits";
	CHECK(gd_put_bits(&out, "\xff\xff", 2, 3) == 0);
	in = what_was_put();
	CHECK(gd_peek(&in) == GD_BITS && gd_get_binary(&in, &data, &size) == GD_ETYPE);
	CHECK(gd_get_bits(&in, &data, &size, &bits) == 0 && size == 2 && bits == 3);
	CHECK(memcmp(data, "\xff\xe0", 2) == 0);
	CHECK(gd_put_bits(&out, "a", 1, 8) == 0);
	in = what_was_put();
	CHECK(gd_get_bits(&in, &data, &size, &bits) == 0 && size == 1 && bits == 8);
	CHECK(gd_put_bits(&out, "a", 1, 9) == GD_ERANGE);
	gd_out_reset(&out);
}

static void
check_space(void)
{
	const void *found;
	void *data;
	size_t size;
	gd_in in;

	about = "space";
	CHECK(gd_put_tuple(&out, 2) == 0);
	if (gd_put_space(&out, 100, &data) != 0)
		abort();
	memcpy(data, "abc", 3);
	CHECK(gd_trim_binary(&out, 100, 3) == 0 && gd_put_nil(&out) == 0);
	in = what_was_put();
	CHECK(gd_get_tuple(&in, &size) == 0 && gd_get_binary(&in, &found, &size) == 0);
	CHECK(size == 3 && memcmp(found, "abc", 3) == 0);
	CHECK(gd_put_space(&out, 4, &data) == 0 && gd_trim_binary(&out, 4, 5) == GD_ERANGE);
	gd_out_reset(&out);
	CHECK(gd_put_binary(&out, "abcd", 4) == 0 && gd_trim_binary(&out, 4, 2) == GD_ERANGE);
	gd_out_reset(&out);
	CHECK(gd_put_binary(&out, "abcd", 4) == 0 && gd_trim_binary(&out, out.len, 2) == GD_ERANGE);
	gd_out_reset(&out);
	CHECK(gd_put_tuple(&out, 2) == 0 && gd_put_space(&out, 4, &data) == 0 && gd_put_nil(&out) == 0);
	CHECK(gd_trim_binary(&out, 5, 2) == GD_ERANGE);	/* a put lies between */
	gd_out_reset(&out);
}

/* What is not exactly one whole term never looks done. */
static void
check_too_deep_and_too_much(void)
{
	about = "too deep, too much";
	for (int i = 0; i < GD_OPEN_LISTS; i++)
		CHECK(gd_open_list(&out) == 0);
	CHECK(gd_open_list(&out) == GD_ELIMIT);
	gd_out_reset(&out);
	for (int i = 0; i < GD_OPEN_LISTS; i++)
		gd_open_list(&out);
	for (int i = 0; i < GD_OPEN_LISTS; i++)
		CHECK(gd_out_done(&out) == GD_ETYPE && gd_close_list(&out) == 0);
	what_was_put();
	CHECK(gd_close_list(&out) == GD_EEND);
	gd_out_reset(&out);
	CHECK(gd_put_tuple(&out, 16777216) == GD_ERANGE);
	gd_out_reset(&out);
	CHECK(gd_put_map(&out, UINT32_MAX) == 0 && gd_out_done(&out) == GD_ETYPE);
	gd_out_reset(&out);
	CHECK(gd_put_nil(&out) == 0 && gd_put_nil(&out) == GD_EEND && gd_out_done(&out) == GD_EEND);
	gd_out_reset(&out);
}

int
main(void)
{
	CHECK(gd_out_init(&out, 1 << 20) == 0);
	check_integers();
	check_rounding();
	check_floats();
	check_lists();
	check_text();
	check_atoms();
	check_strings();
	check_bits();
	check_space();
	check_too_deep_and_too_much();
	gd_out_free(&out);
	return check_summary();
}
