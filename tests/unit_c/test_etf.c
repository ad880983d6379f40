/* SPDX-License-Identifier: MIT */
/* The validator: the shared vectors, cut off at every byte, damaged, and in turns. */
#include "check.h"
#include "faults.h"
#include "vectors.h"

#define CUT_BELOW 3000		/* bytes: longer vectors are not cut at every byte */

static const char *
verdict(const unsigned char *data, size_t len)
{
	int code = etf_check_all(&vector_limits, data, len, 1);

	return code == 0 ? "ok" : etf_reason(code);
}

static int
in_turns(const unsigned char *data, size_t len, uint32_t steps)
{
	struct etf_check c;
	int code;

	etf_check_begin(&c, &vector_limits, data, len, 1);
	while ((code = etf_check_run(&c, steps)) == ETF_AGAIN)
		;
	etf_check_end(&c);
	return code;
}

/* A copy of just this size, so that ASan sees a read beyond. */
static void
check_cut(const struct vector *v, size_t len)
{
	unsigned char *copy = malloc(len > 0 ? len : 1);

	memcpy(copy, v->data, len);
	CHECK(etf_check_all(&vector_limits, copy, len, 1) < 0);
	free(copy);
}

static void
check_damaged(const struct vector *v)
{
	unsigned char *copy = malloc(v->len);

	for (size_t i = 0; i < v->len; i++) {
		for (unsigned bit = 0; bit < 8; bit++) {
			memcpy(copy, v->data, v->len);
			copy[i] ^= (unsigned char)(1u << bit);
			int whole = etf_check_all(&vector_limits, copy, v->len, 1);
			CHECK(whole <= 0 && whole == in_turns(copy, v->len, 1));
		}
	}
	free(copy);
}

static void
check_vector(const struct vector *v)
{
	about = v->field[0];
	CHECK(strcmp(verdict(v->data, v->len), v->field[2]) == 0);
	CHECK(in_turns(v->data, v->len, 1) == etf_check_all(&vector_limits, v->data, v->len, 1));
	CHECK(in_turns(v->data, v->len, 7) == etf_check_all(&vector_limits, v->data, v->len, 1));
	if (v->len > CUT_BELOW || strcmp(v->field[2], "ok") != 0)
		return;
	for (size_t len = 0; len < v->len; len++)
		check_cut(v, len);
	if (v->len < 200)
		check_damaged(v);
}

/* Budgets are the caller's, and a count beyond the bytes that are there costs nothing. */
static void
check_budgets(void)
{
	static const unsigned char list[] = { 131, 108, 0, 0, 0, 2, 97, 1, 97, 2, 106 };
	static const unsigned char lie[] = { 131, 105, 0xff, 0xff, 0xff, 0xff };
	struct etf_limits terms = { 128, 3, 16 }, none = { 0, 100, 16 };

	about = "budgets";
	CHECK(etf_check_all(&vector_limits, list, sizeof(list), 1) == 0);
	CHECK(etf_check_all(&terms, list, sizeof(list), 1) == ETF_MANY);
	CHECK(etf_check_all(&none, list, sizeof(list), 1) == ETF_DEEP);
	CHECK(etf_check_all(&vector_limits, lie, sizeof(lie), 1) == ETF_BAD_TERM);
}

/* Deeper than the check's own stack. */
static void
check_no_memory(void)
{
	unsigned char nested[1 + 2 * 120 + 1];

	about = "no memory";
	for (size_t i = 0; i < 120; i++)
		memcpy(nested + 2 * i, (const unsigned char[]){ 104, 1 }, 2);
	nested[240] = 106;
	CHECK(etf_check_all(&vector_limits, nested, 241, 0) == 0);
	allocations = 0;
	CHECK(etf_check_all(&vector_limits, nested, 241, 0) == ETF_NOMEM);
	allocations = -1;
	CHECK(strcmp(etf_reason(ETF_NOMEM), "bad_term") == 0);
	CHECK(strcmp(etf_reason(ETF_MANY), "too_many_terms") == 0);
	CHECK(strcmp(etf_reason(ETF_BIGNUM), "bignum_too_large") == 0);
}

/* A driver may choose a locale, and terms remain what they are. */
static void
check_locale(void)
{
	static const unsigned char text[31] = "1.50000000000000000000e+00";
	double value = 0;

	about = "locale";
	point = ",";
	CHECK(etf_float_text(text, &value) == 0 && value == 1.5);
	point = ";";
	CHECK(etf_float_text(text, &value) == ETF_BAD_TERM);
	point = NULL;
	CHECK(etf_float_text(text, &value) == 0 && value == 1.5);
	CHECK(etf_float_text((const unsigned char *)"1.5e999\0.......................", &value) == ETF_BAD_TERM);
}

/* Longer than 4 GiB is refused before a byte is read. */
static void
check_too_long(void)
{
	static const unsigned char nil[] = { 106 };

	about = "too long";
	CHECK(etf_check_all(&vector_limits, nil, (size_t)UINT32_MAX + 2, 0) == ETF_BAD_TERM);
}

int
main(int argc, char **argv)
{
	const char *dir = argc > 1 ? argv[1] : "tests/vectors";

	CHECK(each_vector(dir, "terms.txt", check_vector) > 100);
	check_budgets();
	check_no_memory();
	check_locale();
	check_too_long();
	return check_summary();
}
