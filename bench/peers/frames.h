/* SPDX-License-Identifier: MIT */
/* Frames that the raw echo writes: bytes that grow, the two canned ones of the handshake, and the beginning of a reply. */
#ifndef BENCH_FRAMES_H
#define BENCH_FRAMES_H

#include <stdio.h>
#include <stdlib.h>

#include "etf.h"

struct bytes {
	unsigned char *data;
	size_t len, room, at;	/* at: how much of it is done with */
};

static inline void
die(const char *what)
{
	perror(what);
	exit(1);
}

/* So many more will fit. */
static inline void
make_room(struct bytes *b, size_t more)
{
	if (b->len + more <= b->room)
		return;
	b->room = b->len + more > 2 * b->room ? b->len + more : 2 * b->room;
	if ((b->data = realloc(b->data, b->room)) == NULL)
		die("realloc");
}

static inline void
put_bytes(struct bytes *b, const void *data, size_t size)
{
	make_room(b, size);
	memcpy(b->data + b->len, data, size);
	b->len += size;
}

/* A frame of `size` bytes, of which `given` are at hand. */
static inline void
put_frame(struct bytes *b, const unsigned char *data, size_t given, size_t size)
{
	unsigned char head[4] = {
		(unsigned char)(size >> 24), (unsigned char)(size >> 16), (unsigned char)(size >> 8), (unsigned char)size,
	};

	put_bytes(b, head, sizeof(head));
	put_bytes(b, data, given);
}

static inline size_t
put_atom(unsigned char *p, const char *name)
{
	size_t size = strlen(name);

	p[0] = 119;
	p[1] = (unsigned char)size;
	memcpy(p + 2, name, size);
	return size + 2;
}

static inline size_t
put_binary(unsigned char *p, const char *data, size_t size)
{
	p[0] = 109, p[1] = 0, p[2] = 0, p[3] = 0, p[4] = (unsigned char)size;
	memcpy(p + 5, data, size);
	return size + 5;
}

static inline size_t
put_pair(unsigned char *p, const char *key, int64_t value)
{
	size_t size = put_atom(p, key);

	return size + etf_put_int(p + size, value);
}

/* {gen_driver, 1, ..}: who we are. */
static inline void
greet(struct bytes *out)
{
	unsigned char f[256];
	size_t n = 0;

	f[n++] = 131, f[n++] = 104, f[n++] = 3;
	n += put_atom(f + n, "gen_driver");
	n += etf_put_int(f + n, 1);
	f[n++] = 116, f[n++] = 0, f[n++] = 0, f[n++] = 0, f[n++] = 3;
	n += put_atom(f + n, "server"), n += put_binary(f + n, "echo", 4);
	n += put_atom(f + n, "auth"), n += put_atom(f + n, "none");
	n += put_atom(f + n, "nonce"), n += put_binary(f + n, "00000000000000000000000000000000", 32);
	put_frame(out, f, n, n);
}

/* {welcome, 1, ..}: take all. */
static inline void
welcome(struct bytes *out)
{
	static const struct { const char *key; int value; } limits[] = {
		{ "frame", 1 << 30 }, { "depth", 256 }, { "terms", 1000000 }, { "bignum", 4096 },
		{ "in_flight", 4096 }, { "in_flight_bytes", 1 << 30 },
	};
	unsigned char f[512];
	size_t n = 0;

	f[n++] = 131, f[n++] = 104, f[n++] = 3;
	n += put_atom(f + n, "welcome");
	n += etf_put_int(f + n, 1);
	f[n++] = 116, f[n++] = 0, f[n++] = 0, f[n++] = 0, f[n++] = 7;
	n += put_atom(f + n, "instance"), n += put_binary(f + n, "work", 4);
	n += put_pair(f + n, "generation", 1);
	n += put_pair(f + n, "threads", 1);
	n += put_atom(f + n, "commands"), f[n++] = 116, memset(f + n, 0, 4), n += 4;
	n += put_atom(f + n, "atoms"), f[n++] = 106;
	n += put_atom(f + n, "limits"), f[n++] = 116, memset(f + n, 0, 3), n += 3, f[n++] = 6;
	for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++)
		n += put_pair(f + n, limits[i].key, limits[i].value);
	n += put_atom(f + n, "last_exit"), n += put_atom(f + n, "none");
	put_frame(out, f, n, n);
}

/* {reply, Id, {ok, ..}}, up to the last term. */
static inline size_t
reply_head(unsigned char *f, const unsigned char *id, size_t id_size)
{
	static const unsigned char before[] = { 131, 104, 3, 119, 5, 'r', 'e', 'p', 'l', 'y' };
	static const unsigned char after[] = { 104, 2, 119, 2, 'o', 'k' };

	memcpy(f, before, sizeof(before));
	memcpy(f + sizeof(before), id, id_size);
	memcpy(f + sizeof(before) + id_size, after, sizeof(after));
	return sizeof(before) + id_size + sizeof(after);
}

#endif
