/* SPDX-License-Identifier: MIT */
/* Writers where there is no room for more: of memory, of the limit, of what the format can say. */
#include "check.h"
#include "faults.h"
#include "term.h"
#include "vectors.h"

#define LARGE (5u << 20)	/* bytes: large enough for huge pages */

static void
check_init(void)
{
	gd_out out;

	about = "init";
	CHECK(gd_out_init(&out, 0) == 0 && out.limit == 1);	/* room for the version byte alone */
	CHECK(gd_put_nil(&out) == GD_ELIMIT);
	gd_out_free(&out);
	CHECK(gd_put_nil(&out) == GD_ENOMEM && gd_out_done(&out) == GD_ENOMEM);
	allocations = 0;
	CHECK(gd_out_init(&out, 100) == GD_ENOMEM && gd_put_nil(&out) == GD_ENOMEM);
	allocations = -1;
	gd_out_reset(&out);
	CHECK(out.error == 0 && gd_put_nil(&out) == 0 && gd_out_done(&out) == 1);
	gd_out_free(&out);
}

static void
check_growth(void)
{
	char *bytes = calloc(1, LARGE);
	gd_out out;

	about = "growth";
	CHECK(gd_out_init(&out, 2 * LARGE) == 0);
	allocations = 0;
	CHECK(gd_put_binary(&out, bytes, LARGE) == GD_ENOMEM && out.len == 1);
	allocations = -1;
	gd_out_reset(&out);
	CHECK(gd_put_binary(&out, bytes, LARGE) == 0);
	CHECK(etf_check_all(&vector_limits, out.buf, out.len, 1) == 0);
	gd_out_reset(&out);	/* its buffer is given back, and the next is not to be had */
	CHECK(out.room < LARGE);
	CHECK(gd_put_binary(&out, bytes, LARGE) == 0);
	allocations = 0;
	gd_out_reset(&out);
	CHECK(out.error == GD_ENOMEM);
	allocations = -1;
	gd_out_free(&out);
	free(bytes);
}

/* A limit in the midst of what a put writes: nothing of it is there. */
static void
check_limit(void)
{
	static const char bytes[70000];
	gd_out out;

	about = "limit";
	CHECK(gd_out_init(&out, 70000) == 0);
	CHECK(gd_put_string(&out, bytes, sizeof(bytes)) == GD_ELIMIT && out.len == 1);
	gd_out_free(&out);
	CHECK(gd_out_init(&out, 1 + 5 + 1) == 0);
	CHECK(gd_open_list(&out) == 0 && gd_put_nil(&out) == 0);
	CHECK(gd_close_list(&out) == GD_ELIMIT);
	gd_out_free(&out);
}

static void
check_rest(void)
{
	gd_out out;

	about = "rest";
	CHECK(gd_out_init(&out, 100) == 0);
	CHECK(gd_put_text(&out, "text") == 0 && out.len == 1 + 5 + 4);
	gd_out_reset(&out);
	CHECK(gd_put_raw(&out, "", 0) == GD_ETYPE);
	gd_out_reset(&out);
	CHECK(gd_open_list(&out) == 0);
	out.level[1].count = (uint64_t)UINT32_MAX + 1;	/* as if it had so many elements */
	CHECK(gd_close_list(&out) == GD_ELIMIT);
	gd_out_free(&out);
}

int
main(void)
{
	check_init();
	check_growth();
	check_limit();
	check_rest();
	return check_summary();
}
