/* SPDX-License-Identifier: MIT */
/* The frames that a host writes by hand are what the writers of terms would make. */
#include "check.h"
#include "frame.h"
#include "term.h"
#include "vectors.h"

/* The frame is {tag, Id, ..}, or without an id (-1) {tag, ..}; `end` is what follows: an atom, or a term's bytes. */
static void
check_frame(const unsigned char *frame, size_t len, const char *tag, int64_t id, const char *atom, size_t term_len)
{
	size_t arity = (size_t)1 + (id >= 0) + (atom != NULL || term_len > 0);
	gd_out out;

	about = tag;
	CHECK(gd_out_init(&out, 1000) == 0);
	gd_put_tuple(&out, arity);
	gd_put_atom(&out, tag);
	if (id >= 0)
		gd_put_i64(&out, id);
	if (atom != NULL)
		gd_put_atom(&out, atom);
	CHECK(len == FRAME_HEAD + out.len && memcmp(frame + FRAME_HEAD, out.buf, out.len) == 0);
	CHECK(frame_length(frame) == out.len + term_len);
	CHECK(len <= FRAME_SMALL);
	gd_out_free(&out);
}

int
main(void)
{
	static const uint32_t ids[] = { 0, 255, 256, 0x7fffffff };
	unsigned char frame[FRAME_SMALL];

	for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
		check_frame(frame, frame_reply_head(frame, ids[i], 70000), "reply", ids[i], NULL, 70000);
		check_frame(frame, frame_part_head(frame, ids[i], 1), "part", ids[i], NULL, 1);
		check_frame(frame, frame_failed(frame, ids[i], "overloaded"), "failed", ids[i], "overloaded", 0);
		check_frame(frame, frame_pong(frame, ids[i]), "pong", ids[i], NULL, 0);
	}
	check_frame(frame, frame_note_head(frame, 300), "note", -1, NULL, 300);
	check_frame(frame, frame_goodbye(frame, "bignum_too_large"), "goodbye", -1, "bignum_too_large", 0);
	CHECK(frame_length((const unsigned char[]){ 0xff, 0, 0, 1 }) == 0xff000001u);
	return check_summary();
}
