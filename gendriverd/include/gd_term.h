/* SPDX-License-Identifier: MIT */
/*
 * Terms: bounds-checked reading and growing writing of the Erlang External
 * Term Format, for drivers that want nothing but a C compiler.
 *
 * Reading. A gd_in is a cursor over one whole, already validated term. A get
 * returns 0 and moves on, or returns a negative code and changes nothing: not
 * the cursor, not the results. Pointers that a get hands out point into the
 * request: they live until dispatch returns and are not NUL-terminated.
 *
 * Writing. A gd_out grows as needed. A put returns 0, or a negative code that
 * is also kept: every later put returns it, and the reply becomes
 * {failed, Id, bad_reply}. So a driver may ignore what puts return. A reply is
 * exactly one term; tuple, list and map headers are followed by the terms they
 * announce, a list of N > 0 elements then by its tail (gd_put_nil).
 *
 * Threads: a cursor, and a reply's writer, belongs to the thread inside dispatch.
 * Format: https://www.erlang.org/doc/apps/erts/erl_ext_dist.html
 */
#ifndef GD_TERM_H
#define GD_TERM_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What a get or put returns when it cannot. */
enum {
	GD_ETYPE  = -1,	/* the next term is of another type */
	GD_ERANGE = -2,	/* right type, but the value does not fit (or NaN, Inf) */
	GD_EEND   = -3,	/* no further term here */
	GD_ENOMEM = -4,	/* out of memory */
	GD_ELIMIT = -5	/* reply too large, or gd_open_list nested too deep */
};

/* What gd_peek says of the next term. */
typedef enum gd_type {
	GD_END,		/* nothing left (here: also the end of a byte list) */
	GD_INT,		/* fits int64_t or uint64_t: gd_get_i64, gd_get_u64 */
	GD_BIG,		/* a larger integer: gd_get_big */
	GD_FLOAT, GD_ATOM, GD_BINARY, GD_BITS,
	GD_TUPLE, GD_LIST,	/* [] is a GD_LIST of no elements */
	GD_MAP, GD_PID, GD_REF, GD_PORT, GD_FUN	/* the last four: gd_get_raw */
} gd_type;

/* A cursor. The fields are the host's. */
typedef struct gd_in {
	const unsigned char *at, *end;
	const unsigned char *whole;	/* where the whole term begins */
	size_t bytes_left;	/* of a list sent as STRING_EXT, or of [] */
	int in_bytes;		/* inside such a list */
} gd_in;

gd_type gd_peek(const gd_in *in);

int gd_get_i64(gd_in *in, int64_t *value);
int gd_get_u64(gd_in *in, uint64_t *value);
int gd_get_i32(gd_in *in, int32_t *value);
int gd_get_f64(gd_in *in, double *value);	/* a float, not an integer */
int gd_get_number(gd_in *in, double *value);	/* float or integer; a big one is rounded */

/* Any integer as sign (0 or 1) and magnitude, least significant byte first, no
 * zeros at its end (0 has no bytes at all). Room for *size bytes is given in
 * *size, the length comes back in it; GD_ERANGE when there is not room enough. */
int gd_get_big(gd_in *in, int *sign, unsigned char *magnitude, size_t *size);

/* An atom's name, UTF-8 (Latin-1 of ATOM_EXT as it came: ASCII in practice). */
int gd_get_atom(gd_in *in, const char **name, size_t *size);
/* 0 when the next term is just this atom, and moves past it; else GD_ETYPE, or
 * GD_EEND where nothing follows. */
int gd_get_atom_is(gd_in *in, const char *name);
int gd_get_bool(gd_in *in, int *value);

int gd_get_binary(gd_in *in, const void **data, size_t *size);
/* The last byte holds `bits` (1..8) used bits, the high ones. Binaries pass too. */
int gd_get_bits(gd_in *in, const void **data, size_t *size, int *bits);
/* Text given as a binary, or as a list of bytes, copied and NUL-terminated.
 * Needs room for its length and 1; GD_ERANGE when `room` is less, or when the
 * text has a NUL inside. *size (may be NULL) is the length without the NUL. */
int gd_get_text(gd_in *in, char *buf, size_t room, size_t *size);

int gd_get_tuple(gd_in *in, size_t *arity);
/* A list's length; then get its elements, then gd_get_end. A list of bytes that
 * travelled as STRING_EXT reads the same. */
int gd_get_list(gd_in *in, size_t *length);
/* The end of a list: GD_ETYPE if its tail is not [] (an improper list). */
int gd_get_end(gd_in *in);
int gd_get_map(gd_in *in, size_t *pairs);	/* then key, value, key, value .. */

/* Any term, unread: its bytes (without version byte), to keep or to send back
 * with gd_put_raw. GD_ETYPE inside a byte list. */
int gd_get_raw(gd_in *in, const void **data, size_t *size);
int gd_skip(gd_in *in);

/* A writer. The fields are the host's. */
#define GD_OPEN_LISTS 16
typedef struct gd_out {
	unsigned char *buf;
	size_t len, room;
	size_t limit;		/* no reply grows beyond it */
	int error;		/* 0, or the first put's code */
	int depth;		/* lists open */
	struct {
		size_t at;	/* where the length goes */
		uint64_t owed;	/* terms still announced at this level */
		uint64_t count;	/* elements begun */
	} level[GD_OPEN_LISTS + 1];
	size_t space;		/* where gd_put_space's bytes begin, until the next put */
} gd_out;

/* A writer of your own, empty; limit: of all its bytes, a version byte in front included. 0, or
 * GD_ENOMEM. gd_out_free gives back its buffer. It belongs to one thread at a time. */
int gd_out_init(gd_out *out, size_t limit);
void gd_out_free(gd_out *out);
/* Empty again, without an error, for the next term; a buffer of over 64 KiB is given back. */
void gd_out_reset(gd_out *out);

int gd_put_i64(gd_out *out, int64_t value);
int gd_put_u64(gd_out *out, uint64_t value);
int gd_put_f64(gd_out *out, double value);	/* GD_ERANGE: NaN, infinity */
int gd_put_big(gd_out *out, int sign, const unsigned char *magnitude, size_t size);
int gd_put_atom(gd_out *out, const char *name);	/* UTF-8, at most 255 characters */
int gd_put_atom_n(gd_out *out, const char *name, size_t size);
int gd_put_bool(gd_out *out, int value);
int gd_put_binary(gd_out *out, const void *data, size_t size);
int gd_put_text(gd_out *out, const char *text);	/* a binary of strlen(text) bytes */
int gd_put_bits(gd_out *out, const void *data, size_t size, int bits);
/* A list of bytes ("abc" in Erlang); any length. */
int gd_put_string(gd_out *out, const char *bytes, size_t size);
int gd_put_tuple(gd_out *out, size_t arity);
int gd_put_list(gd_out *out, size_t length);	/* 0: that is [] already, no tail */
int gd_put_nil(gd_out *out);			/* [], also a list's tail */
int gd_put_map(gd_out *out, size_t pairs);
/* Exactly one term that gd_get_raw gave. Anything else is undefined. */
int gd_put_raw(gd_out *out, const void *data, size_t size);

/* A list whose length is not known yet: its elements go between the two. */
int gd_open_list(gd_out *out);
int gd_close_list(gd_out *out);

/* Room for a binary of `size` zeros, to be written in place: *data is where.
 * Valid until the next put. gd_trim_binary shortens the one just made. */
int gd_put_space(gd_out *out, size_t size, void **data);
int gd_trim_binary(gd_out *out, size_t room, size_t size);

#ifdef __cplusplus
}
#endif
#endif
