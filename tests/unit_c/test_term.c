/* SPDX-License-Identifier: MIT */
/* Readers and writers of terms: every vector copied by reading it, and what must not look done. */
#include <math.h>

#include "check.h"
#include "term.h"
#include "vectors.h"

static const struct etf_limits any = { 100000, UINT32_MAX, UINT32_MAX };

static int copy_term(gd_in *in, gd_out *out);

static int
copy_integer(gd_in *in, gd_out *out)
{
	static unsigned char magnitude[8192];
	size_t size = sizeof(magnitude);
	uint64_t natural;
	int64_t number;
	int sign;

	if (gd_get_i64(in, &number) == 0)
		return gd_put_i64(out, number);
	if (gd_get_u64(in, &natural) == 0)
		return gd_put_u64(out, natural);
	if (gd_get_big(in, &sign, magnitude, &size) != 0)
		return -1;
	return gd_put_big(out, sign, magnitude, size);
}

static int
copy_series(gd_in *in, gd_out *out, size_t n)
{
	for (; n > 0; n--)
		if (copy_term(in, out) != 0)
			return -1;
	return 0;
}

static int
copy_list(gd_in *in, gd_out *out)
{
	size_t n;

	if (gd_get_list(in, &n) != 0 || gd_put_list(out, n) != 0 || copy_series(in, out, n) != 0)
		return -1;
	if (gd_get_end(in) == 0)
		return n > 0 ? gd_put_nil(out) : 0;
	return copy_term(in, out);	/* an improper tail */
}

static int
copy_leaf(gd_in *in, gd_out *out)
{
	const void *data;
	const char *name;
	double number;
	size_t size;
	int bits;

	switch (gd_peek(in)) {
	case GD_FLOAT:
		return gd_get_f64(in, &number) != 0 ? -1 : gd_put_f64(out, number);
	case GD_ATOM:
		return gd_get_atom(in, &name, &size) != 0 ? -1 : gd_put_atom_n(out, name, size);
	case GD_BINARY:
		return gd_get_binary(in, &data, &size) != 0 ? -1 : gd_put_binary(out, data, size);
	case GD_BITS:
		return gd_get_bits(in, &data, &size, &bits) != 0 ? -1 : gd_put_bits(out, data, size, bits);
	default:
		return gd_get_raw(in, &data, &size) != 0 ? -1 : gd_put_raw(out, data, size);
	}
}

static int
copy_term(gd_in *in, gd_out *out)
{
	size_t n;

	switch (gd_peek(in)) {
	case GD_INT:
	case GD_BIG:
		return copy_integer(in, out);
	case GD_TUPLE:
		return gd_get_tuple(in, &n) != 0 || gd_put_tuple(out, n) != 0 ? -1 : copy_series(in, out, n);
	case GD_MAP:
		return gd_get_map(in, &n) != 0 || gd_put_map(out, n) != 0 ? -1 : copy_series(in, out, 2 * n);
	case GD_LIST:
		return copy_list(in, out);
	default:
		return copy_leaf(in, out);
	}
}

/* Read and written again: whole, valid, and the same when done once more. */
static void
check_copy(const struct vector *v)
{
	gd_in in, again;
	gd_out out, twice;

	about = v->field[0];
	if (strcmp(v->field[2], "ok") != 0)
		return;
	CHECK(gd_out_init(&out, 64 << 20) == 0 && gd_out_init(&twice, 64 << 20) == 0);
	gd_in_init(&in, v->data + 1, v->len - 1);
	if (strstr(v->field[0], "Latin") == NULL && copy_term(&in, &out) == 0) {
		CHECK(in.at == in.end && gd_peek(&in) == GD_END);
		CHECK(gd_out_done(&out) == 1);
		CHECK(etf_check_all(&any, out.buf, out.len, 1) == 0);
		gd_in_init(&again, out.buf + 1, out.len - 1);
		CHECK(copy_term(&again, &twice) == 0 && twice.len == out.len);
		CHECK(memcmp(twice.buf, out.buf, out.len) == 0);
	} else {
		/* An atom that is no UTF-8 cannot be put; all else can. */
		CHECK(out.error == 0 || out.error == GD_ERANGE);
	}
	gd_in_init(&in, v->data + 1, v->len - 1);
	CHECK(gd_skip(&in) == 0 && in.at == in.end);
	gd_out_free(&out);
	gd_out_free(&twice);
}

/* Readers stay within bytes that nobody has validated. */
static void
check_garbage(const struct vector *v)
{
	for (size_t len = 1; len <= v->len && len < 300; len++) {
		unsigned char *cut = malloc(len);
		gd_out out;
		gd_in in;
		memcpy(cut, v->data, len);
		gd_in_init(&in, cut + 1, len - 1);
		CHECK(gd_out_init(&out, 1 << 20) == 0);
		(void)copy_term(&in, &out);
		CHECK(in.at <= in.end);
		gd_out_free(&out);
		free(cut);
	}
}

static void
check_incomplete(void)
{
	gd_out out;

	about = "what must not look done";
	CHECK(gd_out_init(&out, 1 << 20) == 0);
	CHECK(gd_out_done(&out) == 0);
	gd_put_tuple(&out, 2), gd_put_i64(&out, 1);
	CHECK(gd_out_done(&out) < 0);
	gd_out_reset(&out);
	gd_put_i64(&out, 1), gd_put_i64(&out, 2);
	CHECK(gd_out_done(&out) < 0);
	gd_out_reset(&out);
	gd_put_list(&out, 1), gd_put_i64(&out, 1);	/* no tail */
	CHECK(gd_out_done(&out) < 0);
	gd_out_reset(&out);
	gd_open_list(&out), gd_put_tuple(&out, 2), gd_put_i64(&out, 1);
	CHECK(gd_close_list(&out) < 0 && gd_out_done(&out) < 0);
	gd_out_reset(&out);
	gd_open_list(&out), gd_put_i64(&out, 1);
	CHECK(gd_out_done(&out) < 0);
	gd_out_reset(&out);
	CHECK(gd_put_f64(&out, NAN) == GD_ERANGE && gd_put_i64(&out, 1) == GD_ERANGE);
	CHECK(gd_out_done(&out) < 0);
	gd_out_reset(&out);
	CHECK(gd_put_f64(&out, -INFINITY) == GD_ERANGE);
	gd_out_free(&out);
}

static void
check_open_lists(void)
{
	gd_out out;
	size_t n;
	gd_in in;

	about = "open lists";
	CHECK(gd_out_init(&out, 1 << 20) == 0);
	gd_open_list(&out);
	gd_put_i64(&out, 300);
	gd_open_list(&out), gd_close_list(&out);
	gd_put_tuple(&out, 1), gd_put_nil(&out);
	CHECK(gd_close_list(&out) == 0 && gd_out_done(&out) == 1);
	CHECK(etf_check_all(&any, out.buf, out.len, 1) == 0);
	gd_in_init(&in, out.buf + 1, out.len - 1);
	CHECK(gd_get_list(&in, &n) == 0 && n == 3);
	gd_out_free(&out);
}

static void
check_limit(void)
{
	unsigned char data[1000] = { 0 };
	gd_out out;

	about = "the limit";
	CHECK(gd_out_init(&out, 500) == 0);
	CHECK(gd_put_binary(&out, data, 1000) == GD_ELIMIT);
	CHECK(gd_put_nil(&out) == GD_ELIMIT && out.len <= 500);
	gd_out_free(&out);
}

static void
check_failed_gets_change_nothing(void)
{
	static const unsigned char number[] = { 110, 8, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };
	int64_t i64 = 7;
	int32_t i32 = 7;
	double f = 7;
	size_t n = 7;
	gd_in in;

	about = "failed gets";
	gd_in_init(&in, number, sizeof(number));
	CHECK(gd_get_i64(&in, &i64) == GD_ERANGE && i64 == 7);
	CHECK(gd_get_i32(&in, &i32) == GD_ERANGE && i32 == 7);
	CHECK(gd_get_f64(&in, &f) == GD_ETYPE && f == 7);
	CHECK(gd_get_list(&in, &n) == GD_ETYPE && n == 7);
	CHECK(in.at == number);
	CHECK(gd_get_number(&in, &f) == 0 && f == 18446744073709551615.0);
	CHECK(gd_get_i64(&in, &i64) == GD_EEND);
}

int
main(int argc, char **argv)
{
	const char *dir = argc > 1 ? argv[1] : "tests/vectors";

	CHECK(each_vector(dir, "terms.txt", check_copy) > 100);
	CHECK(each_vector(dir, "terms.txt", check_garbage) > 100);
	check_incomplete();
	check_open_lists();
	check_limit();
	check_failed_gets_change_nothing();
	return check_summary();
}
