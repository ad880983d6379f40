/* SPDX-License-Identifier: MIT */
/*
 * zlib: compresses and decompresses in zlib's own format (RFC 1950).
 *
 * Work of this kind would hold a scheduler of the VM for seconds. Here each seat
 * keeps its two streams (about 300 KiB) from request to request; between chunks
 * it looks whether the caller still wants the answer; and what decompression
 * may produce is bounded, since 1 KiB sent can become 1 MiB.
 *
 * Settings: max_output, bytes that decompress may produce (default 64 MiB).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "gen_driver.h"

enum { COMPRESS = 1, DECOMPRESS = 2, CRC32 = 3, ADLER32 = 4 };

#define CHUNK 262144u			/* bytes in or out between two looks at gd_cancelled */
#define MAX_OUTPUT (64L << 20)
#define NO_LEVEL (-2)			/* no deflate stream is open */

struct settings {
	size_t max_output;
};

struct seat {
	z_stream deflate, inflate;
	int level;			/* of the deflate stream */
};

struct output {
	unsigned char *data;
	size_t len, room;
	size_t limit;			/* more than this is refused */
};

static int
driver_open(void **drv_state, char *why, size_t room)
{
	static struct settings settings;
	long max = gd_config_int("max_output", MAX_OUTPUT);

	if (max < 1) {
		snprintf(why, room, "max_output is %ld: it must be 1 byte or more", max);
		return -1;
	}
	settings.max_output = (size_t)max;
	*drv_state = &settings;
	return 0;
}

static void *
seat_new(void)
{
	struct seat *seat = calloc(1, sizeof(*seat));

	if (seat == NULL)
		return NULL;
	seat->level = NO_LEVEL;
	if (inflateInit(&seat->inflate) == Z_OK)
		return seat;
	free(seat);
	return NULL;
}

static void
seat_free(void *trd_state)
{
	struct seat *seat = trd_state;

	if (seat == NULL)
		return;
	if (seat->level != NO_LEVEL)
		deflateEnd(&seat->deflate);
	inflateEnd(&seat->inflate);
	free(seat);
}

/* Room for one chunk more; one byte beyond the limit, to see it exceeded.
 * NULL, or the name of an error. */
static const char *
output_grow(struct output *o)
{
	size_t room = o->room * 2 > o->room + CHUNK ? o->room * 2 : o->room + CHUNK;
	unsigned char *data;

	if (o->len < o->room)
		return NULL;
	if (o->len > o->limit)
		return "too_large";
	if (room > o->limit)
		room = o->limit + 1;
	if ((data = realloc(o->data, room)) == NULL)
		return GD_ERR_MEMORY;
	o->data = data;
	o->room = room;
	return NULL;
}

static int
deflate_step(z_stream *z, int last)
{
	return deflate(z, last ? Z_FINISH : Z_NO_FLUSH);
}

/* Z_FINISH would ask for all output at once, which we do not have room for. */
static int
inflate_step(z_stream *z, int last)
{
	(void)last;
	return inflate(z, Z_NO_FLUSH);
}

static size_t
at_most(size_t size)
{
	return size < CHUNK ? size : CHUNK;
}

/* Drive z over data until its end, into o. NULL, or the name of an error. */
static const char *
pump(z_stream *z, int (*step)(z_stream *, int), const unsigned char *data, size_t size,
    struct output *o)
{
	const char *error;
	size_t chunk;
	int code = Z_OK;

	z->avail_in = 0;
	while (code != Z_STREAM_END) {
		if (gd_cancelled())
			return "cancelled";
		if (z->avail_in == 0) {
			z->next_in = (unsigned char *)(uintptr_t)data;	/* only read: zlib's const came late */
			z->avail_in = (uInt)at_most(size);
			data += z->avail_in;
			size -= z->avail_in;
		}
		if ((error = output_grow(o)) != NULL)
			return error;
		chunk = at_most(o->room - o->len);
		z->next_out = o->data + o->len;
		z->avail_out = (uInt)chunk;
		code = step(z, size == 0);
		o->len += chunk - z->avail_out;
		if (code == Z_MEM_ERROR)
			return GD_ERR_MEMORY;
		if (code != Z_OK && code != Z_STREAM_END)
			return "data";	/* corrupt; or Z_BUF_ERROR: it ends too early */
	}
	if (o->len > o->limit)
		return "too_large";
	return z->avail_in + size == 0 ? NULL : "data";	/* something follows the end */
}

/* Answer {ok, what is in o}, or the error; frees o. */
static void
answer(gd_res_t *res, struct output *o, const char *error)
{
	gd_put_tuple(&res->out, 2);
	gd_put_atom(&res->out, "ok");
	if (error == NULL && gd_put_binary(&res->out, o->data, o->len) == GD_ELIMIT)
		error = "too_large";	/* for a reply of this instance */
	if (error != NULL)
		error_set(res, error);
	free(o->data);
}

/* A deflate stream of this level, at its beginning. 0, or zlib's code. */
static int
deflate_begin(struct seat *seat, int level)
{
	int code;

	if (seat->level == level)
		return deflateReset(&seat->deflate);
	if (seat->level != NO_LEVEL)
		deflateEnd(&seat->deflate);
	code = deflateInit(&seat->deflate, level);
	seat->level = code == Z_OK ? level : NO_LEVEL;
	return code;
}

/* Binary, or {Level, Binary} with a level of 0..9 or -1 (zlib's default). */
static int
get_compress_params(gd_in *in, int32_t *level, const void **data, size_t *size)
{
	size_t arity;

	*level = Z_DEFAULT_COMPRESSION;
	if (gd_get_binary(in, data, size) == 0)
		return 0;
	if (gd_get_tuple(in, &arity) != 0 || arity != 2)
		return GD_ETYPE;
	if (gd_get_i32(in, level) != 0 || *level < Z_DEFAULT_COMPRESSION || *level > Z_BEST_COMPRESSION)
		return GD_ETYPE;
	return gd_get_binary(in, data, size);
}

static void
compress_binary(gd_req_t *req, gd_res_t *res, struct seat *seat)
{
	struct output o = { .limit = SIZE_MAX - 1 };
	const void *data;
	int32_t level;
	size_t size;

	if (get_compress_params(&req->in, &level, &data, &size) != 0) {
		error_set(res, "badarg");
		return;
	}
	if (deflate_begin(seat, level) != Z_OK) {
		error_set(res, GD_ERR_MEMORY);
		return;
	}
	answer(res, &o, pump(&seat->deflate, deflate_step, data, size, &o));
}

static void
decompress_binary(gd_req_t *req, gd_res_t *res, struct seat *seat, const struct settings *settings)
{
	struct output o = { .limit = settings->max_output };
	const void *data;
	size_t size;

	if (gd_get_binary(&req->in, &data, &size) != 0) {
		error_set(res, "badarg");
		return;
	}
	inflateReset(&seat->inflate);
	answer(res, &o, pump(&seat->inflate, inflate_step, data, size, &o));
}

static void
checksum(gd_req_t *req, gd_res_t *res)
{
	const void *data;
	size_t size;

	if (gd_get_binary(&req->in, &data, &size) != 0) {
		error_set(res, "badarg");
		return;
	}
	gd_put_tuple(&res->out, 2);
	gd_put_atom(&res->out, "ok");
	gd_put_u64(&res->out, req->cmd == CRC32 ? crc32_z(0, data, size) : adler32_z(1, data, size));
}

static void
dispatch(gd_req_t *req, gd_res_t *res, void *drv_state, void *trd_state)
{
	if (trd_state == NULL) {
		error_set(res, GD_ERR_MEMORY);
		return;
	}
	switch (req->cmd) {
	case COMPRESS: compress_binary(req, res, trd_state); break;
	case DECOMPRESS: decompress_binary(req, res, trd_state, drv_state); break;
	case CRC32:
	case ADLER32: checksum(req, res); break;
	default: error_set(res, "command");
	}
}

static const gd_command commands[] = {
	{ "compress", COMPRESS }, { "decompress", DECOMPRESS },
	{ "crc32", CRC32 }, { "adler32", ADLER32 }, { NULL, 0 },
};
static const char *const atoms[] = {
	"ok", "error", "badarg", "cancelled", "command", "data", "too_large", GD_ERR_MEMORY, NULL,
};

GD_DRIVER(
	.open = driver_open, .thread_init = seat_new, .thread_destroy = seat_free,
	.dispatch = dispatch, .commands = commands, .atoms = atoms,
)
