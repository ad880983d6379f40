/* SPDX-License-Identifier: MIT */
/* The commands of a connection, as the daemon says them and as it never would. */
#include <stdlib.h>

#include "allowed.h"
#include "check.h"
#include "etf.h"
#include "gd_term.h"
#include "term.h"

static gd_out out;
static struct allowed *const untouched = (struct allowed *)&out;

/* What is read of the term that was put; the writer is ready for the next. */
static int
read_put(struct allowed **a)
{
	gd_in in;
	int code;

	CHECK(gd_out_done(&out) == 1);
	gd_in_init(&in, out.buf + 1, out.len - 1);
	*a = untouched;
	code = allowed_read(&in, a);
	gd_out_reset(&out);
	return code;
}

static void
put_commands(size_t n, int64_t first, int64_t step)
{
	gd_put_list(&out, n);
	for (size_t i = 0; i < n; i++)
		gd_put_i64(&out, first + step * (int64_t)i);
	if (n > 0)
		gd_put_nil(&out);
}

static void
check_all(void)
{
	struct allowed *a;

	about = "all";
	gd_put_atom(&out, "all");
	CHECK(read_put(&a) == 0 && a == NULL);
	CHECK(allowed_has(a, 0) && allowed_has(a, 0x3fffffff));
}

static void
check_some(void)
{
	struct allowed *a;

	about = "some, in any order";
	put_commands(ALLOWED_MOST, 5 * ALLOWED_MOST, -5);
	CHECK(read_put(&a) == 0 && a != untouched);
	for (int cmd = 0; cmd <= 5 * ALLOWED_MOST + 5; cmd++)
		CHECK(allowed_has(a, cmd) == (cmd % 5 == 0 && cmd > 0 && cmd <= 5 * ALLOWED_MOST));
	free(a);
	about = "none";
	put_commands(0, 0, 0);
	CHECK(read_put(&a) == 0 && a != NULL && a != untouched);
	CHECK(!allowed_has(a, 0) && !allowed_has(a, 1));
	free(a);
	about = "the largest, and one twice";
	put_commands(2, 0x3fffffff, 0);
	CHECK(read_put(&a) == 0);
	CHECK(allowed_has(a, 0x3fffffff) && !allowed_has(a, 0x3ffffffe));
	free(a);
}

static void
check_none_such(void)
{
	static const unsigned char bytes[] = { 107, 0, 2, 7, 9 };	/* STRING_EXT */
	static const unsigned char improper[] = { 108, 0, 0, 0, 1, 97, 7, 97, 9 };
	struct allowed *a;
	gd_in in;

	about = "a list that travelled as bytes";
	gd_in_init(&in, bytes, sizeof(bytes));
	CHECK(allowed_read(&in, &a) == 0);
	CHECK(allowed_has(a, 7) && allowed_has(a, 9) && !allowed_has(a, 8));
	free(a);
	about = "no such thing";
	put_commands(ALLOWED_MOST + 1, 0, 1);
	CHECK(read_put(&a) == -1 && a == untouched);
	put_commands(2, 1, -2);
	CHECK(read_put(&a) == -1 && a == untouched);
	put_commands(2, 1, 0x3fffffff);
	CHECK(read_put(&a) == -1 && a == untouched);
	gd_put_atom(&out, "none");
	CHECK(read_put(&a) == -1 && a == untouched);
	gd_put_i64(&out, 1);
	CHECK(read_put(&a) == -1 && a == untouched);
	gd_put_list(&out, 1);
	gd_put_atom(&out, "all");
	gd_put_nil(&out);
	CHECK(read_put(&a) == -1 && a == untouched);
	a = untouched;
	gd_in_init(&in, improper, sizeof(improper));
	CHECK(allowed_read(&in, &a) == -1 && a == untouched);
}

int
main(void)
{
	CHECK(gd_out_init(&out, 65536) == 0);
	check_all();
	check_some();
	check_none_such();
	gd_out_free(&out);
	return check_summary();
}
