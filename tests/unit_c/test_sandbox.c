/* SPDX-License-Identifier: MIT */
/* The map of `sandbox` in the start message: each of its fields, right and wrong, and all of it freed. */
#include <string.h>

#include "check.h"
#include "sandbox.h"
#include "term.h"

static gd_out map;
static struct sandbox read_one;

static void
begin(size_t pairs)
{
	about = "sandbox";
	gd_out_init(&map, 4096);
	gd_put_map(&map, pairs);
}

/* Whether it is taken; what was read is in read_one, until `done`. */
static int
taken(void)
{
	gd_in in;

	CHECK(gd_out_done(&map) == 1);
	read_one = (struct sandbox){ 0 };
	gd_in_init(&in, map.buf + 1, map.len - 1);
	return sandbox_read(&in, &read_one);
}

static void
done(void)
{
	sandbox_forget(&read_one);
	gd_out_free(&map);
}

static void
put_paths(const char *key, size_t n)
{
	gd_put_atom(&map, key);
	gd_put_list(&map, n);
	for (size_t i = 0; i < n; i++)
		gd_put_text(&map, "/p");
	if (n > 0)
		gd_put_nil(&map);
}

static void
put_groups(size_t n, uint64_t group)
{
	gd_put_atom(&map, "groups");
	gd_put_list(&map, n);
	for (size_t i = 0; i < n; i++)
		gd_put_u64(&map, group);
	if (n > 0)
		gd_put_nil(&map);
}

/* One pair, with this number, or a list in its place. */
static int
numbered(const char *key, bool number, uint64_t value)
{
	int code;

	begin(1);
	gd_put_atom(&map, key);
	if (number)
		gd_put_u64(&map, value);
	else
		gd_put_nil(&map);
	code = taken();
	gd_out_free(&map);
	return code;
}

static int
profiled(const char *profile)
{
	int code;

	begin(1);
	gd_put_atom(&map, "profile");
	gd_put_atom(&map, profile);
	code = taken();
	gd_out_free(&map);
	return code;
}

static void
check_numbers(void)
{
	static const char *const small[] = { "uid", "gid", "nofile", "tasks" };

	for (size_t i = 0; i < sizeof(small) / sizeof(small[0]); i++) {
		CHECK(numbered(small[i], true, UINT32_MAX) == 0 && numbered(small[i], true, UINT32_MAX + 1ull) == -1);
		CHECK(numbered(small[i], false, 0) == -1);
	}
	CHECK(numbered("memory", true, UINT64_MAX) == 0 && read_one.memory == UINT64_MAX);
	CHECK(numbered("memory", false, 0) == -1 && numbered("what comes later", true, 1) == 0);
	CHECK(numbered("uid", true, 7) == 0 && read_one.other_user && read_one.uid == 7);
	CHECK(numbered("gid", true, 7) == 0 && !read_one.other_user);
}

static void
check_profiles(void)
{
	CHECK(profiled("none") == 0 && read_one.profile == SANDBOX_NONE);
	CHECK(profiled("default") == 0 && read_one.profile == SANDBOX_DEFAULT);
	CHECK(profiled("strict") == 0 && read_one.profile == SANDBOX_STRICT);
	CHECK(profiled("lax") == -1 && numbered("profile", true, 1) == -1);
}

static void
check_lists(void)
{
	begin(4);
	put_paths("read", 2);
	put_paths("write", 0);
	put_groups(SANDBOX_GROUPS, 5);
	gd_put_atom(&map, "beside");
	gd_put_text(&map, "/b");
	CHECK(taken() == 0 && read_one.read.len == 2 && strcmp(read_one.read.at[1], "/p") == 0);
	CHECK(read_one.write.len == 0 && read_one.group_count == SANDBOX_GROUPS && read_one.groups[63] == 5);
	CHECK(read_one.beside != NULL && strcmp(read_one.beside, "/b") == 0);
	done();
	begin(1);
	put_groups(SANDBOX_GROUPS + 1, 5);
	CHECK(taken() == -1);
	done();
	begin(1);
	put_groups(1, UINT32_MAX + 1ull);
	CHECK(taken() == -1);
	done();
	begin(2);
	put_paths("read", 1);
	put_paths("read", 1);
	CHECK(taken() == -1);
	done();
	begin(1);
	gd_put_atom(&map, "write");
	gd_put_list(&map, 2);
	gd_put_text(&map, "/p");
	gd_put_u64(&map, 1);
	gd_put_nil(&map);
	CHECK(taken() == -1 && read_one.write.len == 1);
	done();
	CHECK(numbered("read", true, 1) == -1 && numbered("beside", true, 1) == -1);
}

static void
check_shape(void)
{
	gd_in in;

	begin(0);
	CHECK(taken() == 0 && read_one.profile == SANDBOX_NONE && !read_one.other_user);
	gd_in_init(&in, "j", 1);
	CHECK(sandbox_read(&in, &read_one) == -1);
	done();
}

int
main(void)
{
	check_numbers();
	check_profiles();
	check_lists();
	check_shape();
	return check_summary();
}
