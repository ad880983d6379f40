/* SPDX-License-Identifier: MIT */
/* Writing terms: their buffer, and terms with terms inside, of gd_term.h. */
#include <stdlib.h>
#include <sys/mman.h>

#include "term_out.h"

#define FIRST_ROOM 256
#define KEEP_ROOM (64u * 1024)
#define HUGE_PAGE (2u * 1024 * 1024)

int
gd_out_init(gd_out *out, size_t limit)
{
	out->limit = limit > 0 ? limit : 1;	/* the version byte */
	out->room = 0;
	out->buf = NULL;
	gd_out_reset(out);
	return out->error;
}

void
gd_out_free(gd_out *out)
{
	free(out->buf);
	out->buf = NULL;
	out->len = out->room = 0;
	out->error = GD_ENOMEM;		/* a put now would have nowhere to go */
}

void
gd_out_reset(gd_out *out)
{
	if (out->room > KEEP_ROOM)
		gd_out_free(out);
	if (out->buf == NULL && (out->buf = malloc(FIRST_ROOM)) != NULL)
		out->room = out->limit < FIRST_ROOM ? out->limit : FIRST_ROOM;
	out->len = 0;
	out->error = out->buf != NULL ? 0 : GD_ENOMEM;
	out->depth = 0;
	out->level[0].owed = 1;
	out->space = 0;
	if (out->error == 0)
		out->buf[out->len++] = ETF_VERSION;
}

int
gd_out_done(const gd_out *out)
{
	if (out->error != 0)
		return out->error;
	if (out->depth == 0 && out->level[0].owed == 0)
		return 1;
	return out->len == 1 ? 0 : GD_ETYPE;
}

/* Else there is a page fault for each 4 KiB, and all of them cost as much as the copy. Where the kernel gives none, no
 * harm is done. */
static void
ask_for_huge_pages(unsigned char *buf, size_t room)
{
	uintptr_t from = ((uintptr_t)buf + HUGE_PAGE - 1) & ~(uintptr_t)(HUGE_PAGE - 1);
	uintptr_t end = ((uintptr_t)buf + room) & ~(uintptr_t)(HUGE_PAGE - 1);

	(void)madvise((void *)from, end - from, MADV_HUGEPAGE);
}

static int
grow(gd_out *out, size_t more)
{
	size_t room = out->room;
	unsigned char *larger;

	if (more > out->limit - out->len)
		return fail(out, GD_ELIMIT);
	while (room - out->len < more)
		room = room > out->limit / 2 ? out->limit : 2 * room;
	if ((larger = realloc(out->buf, room)) == NULL)
		return fail(out, GD_ENOMEM);
	out->buf = larger;
	out->room = room;
	if (room >= 2 * HUGE_PAGE)
		ask_for_huge_pages(larger, room);
	return 0;
}

/* Room for `more` bytes behind len. */
static inline int
reserve(gd_out *out, uint64_t more)
{
#if SIZE_MAX < UINT64_MAX
	if (more > SIZE_MAX)
		return fail(out, GD_ELIMIT);
#endif
	return more > out->room - out->len ? grow(out, (size_t)more) : 0;
}

unsigned char *
term_begin(gd_out *out, uint64_t size, uint64_t children)
{
	uint64_t owed = out->level[out->depth].owed;

	if (out->error == 0 && owed == 0 && out->depth == 0)
		fail(out, GD_EEND);
	if (out->error != 0 || reserve(out, size) != 0)
		return NULL;
	if (owed == 0) {	/* an open list takes another element */
		owed = 1;
		out->level[out->depth].count++;
	}
	out->level[out->depth].owed = owed - 1 + children;
	out->space = 0;
	out->len += (size_t)size;
	return out->buf + out->len - size;
}

unsigned char *
term_begin_long(gd_out *out, int tag, uint64_t n, uint64_t size, uint64_t children)
{
	unsigned char *at;

	if (n > UINT32_MAX)
		fail(out, GD_ELIMIT);
	if ((at = term_begin(out, 5 + size, children)) == NULL)
		return NULL;
	*at++ = (unsigned char)tag;
	return put_u32(at, (uint32_t)n);
}

/* --- terms with terms inside --------------------------------------------- */

int
gd_put_tuple(gd_out *out, size_t arity)
{
	unsigned char *at;

	if (arity > ETF_MAX_ARITY)
		return fail(out, GD_ERANGE);
	if (arity > 255)
		return term_begin_long(out, TAG_LARGE_TUPLE, arity, 0, arity) != NULL ? 0 : out->error;
	if ((at = term_begin(out, 2, arity)) == NULL)
		return out->error;
	at[0] = TAG_SMALL_TUPLE;
	at[1] = (unsigned char)arity;
	return 0;
}

int
gd_put_list(gd_out *out, size_t length)
{
	if (length == 0)
		return gd_put_nil(out);
	return term_begin_long(out, TAG_LIST, length, 0, (uint64_t)length + 1) != NULL ? 0 : out->error;
}

int
gd_put_nil(gd_out *out)
{
	unsigned char *at;

	if ((at = term_begin(out, 1, 0)) == NULL)
		return out->error;
	*at = TAG_NIL;
	return 0;
}

int
gd_put_map(gd_out *out, size_t pairs)
{
	return term_begin_long(out, TAG_MAP, pairs, 0, 2 * (uint64_t)pairs) != NULL ? 0 : out->error;
}

int
gd_put_raw(gd_out *out, const void *data, size_t size)
{
	unsigned char *at;

	if (size == 0)
		return fail(out, GD_ETYPE);
	if ((at = term_begin(out, size, 0)) == NULL)
		return out->error;
	copy(at, data, size);
	return 0;
}

int
gd_open_list(gd_out *out)
{
	unsigned char *at;

	if (out->error == 0 && out->depth == GD_OPEN_LISTS)
		return fail(out, GD_ELIMIT);
	if ((at = term_begin_long(out, TAG_LIST, 0, 0, 0)) == NULL)
		return out->error;
	out->depth++;
	out->level[out->depth].at = (size_t)(at - out->buf);
	out->level[out->depth].owed = 0;
	out->level[out->depth].count = 0;
	return 0;
}

int
gd_close_list(gd_out *out)
{
	size_t at = out->level[out->depth].at;
	uint64_t count = out->level[out->depth].count;

	if (out->error != 0)
		return out->error;
	if (out->depth == 0)
		return fail(out, GD_EEND);
	if (out->level[out->depth].owed > 0)
		return fail(out, GD_ETYPE);
	if (count > UINT32_MAX)
		return fail(out, GD_ELIMIT);
	out->space = 0;
	if (count == 0)
		out->len = at - 5;	/* [] has no length */
	else if (reserve(out, 1) != 0)
		return out->error;
	else
		put_u32(out->buf + at - 4, (uint32_t)count);
	out->buf[out->len++] = TAG_NIL;
	out->depth--;
	return 0;
}
