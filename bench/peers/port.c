/* SPDX-License-Identifier: MIT */
/*
 * A program behind a port, as one writes it with care: {Id, Cmd, Params} in, {Id, Reply} out, each with four bytes of
 * length; all that one read brought is answered in one write. The three ways to be its client are in erlang/: one request
 * at a time, many in flight, and many in flight with framing of its own. A cast is a request whose Id is an atom.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ei_work.h"

#define READ_ROOM (256 * 1024)

static size_t
length_of(const char *at)
{
	const unsigned char *p = (const unsigned char *)at;

	return (size_t)p[0] << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3];
}

static void
put_length(char *at, size_t size)
{
	at[0] = (char)(size >> 24), at[1] = (char)(size >> 16), at[2] = (char)(size >> 8), at[3] = (char)size;
}

static int
answer(const char *buf, ei_x_buff *out)
{
	int index = 0, version, arity, type, size, start = out->index;
	long cmd;

	if (ei_decode_version(buf, &index, &version) != 0 || ei_decode_tuple_header(buf, &index, &arity) != 0)
		return -1;
	ei_get_type(buf, &index, &type, &size);
	if (ei_x_append_buf(out, "\0\0\0", 4) != 0 || ei_x_encode_version(out) != 0)
		return -1;
	int id = index;
	if (ei_x_encode_tuple_header(out, 2) != 0 || ei_skip_term(buf, &index) != 0)
		return -1;
	if (ei_x_append_buf(out, buf + id, index - id) != 0 || ei_decode_long(buf, &index, &cmd) != 0)
		return -1;
	if (ei_work(cmd, buf, &index, out) != 0)
		return -1;
	if (type == ERL_SMALL_INTEGER_EXT || type == ERL_INTEGER_EXT)
		put_length(out->buff + start, (size_t)(out->index - start - 4));
	else
		out->index = start;
	return 0;
}

static int
write_all(const char *at, size_t size)
{
	while (size > 0) {
		ssize_t done = write(STDOUT_FILENO, at, size);

		if (done < 0 && errno != EINTR)
			return -1;
		if (done > 0)
			at += done, size -= (size_t)done;
	}
	return 0;
}

int
main(void)
{
	size_t have = 0, room = READ_ROOM;
	char *in = malloc(room);
	ei_x_buff out;

	ei_init();
	ei_x_new(&out);
	while (in != NULL) {
		size_t at = 0;
		ssize_t got = read(STDIN_FILENO, in + have, room - have);

		if (got <= 0)
			return got == 0 ? 0 : 1;
		have += (size_t)got;
		for (out.index = 0; have - at >= 4 && have - at - 4 >= length_of(in + at); at += 4 + length_of(in + at))
			if (answer(in + at + 4, &out) != 0) {
				fprintf(stderr, "port: a request that it does not understand\n");
				return 1;
			}
		if (write_all(out.buff, (size_t)out.index) != 0)
			return 1;
		if (at > 0)
			memmove(in, in + at, have -= at);
		size_t need = have >= 4 ? 4 + length_of(in) : 0;
		if (need > room)
			in = realloc(in, room = need + READ_ROOM);
	}
	return 1;
}
