/* SPDX-License-Identifier: MIT */
/*
 * A C node as the documentation of ei shows it: one thread that receives a message, answers it, and receives the next.
 *
 *	cnode NAME COOKIE      as NAME@127.0.0.1, known to the epmd of $ERL_EPMD_PORT; until its standard input ends
 *
 * Takes {call, {Pid, Ref}, Cmd, Params}, answers {Ref, Reply}; and {cast, Cmd, Params}.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ei_work.h"

static void
die(const char *what)
{
	perror(what);
	exit(1);
}

static int
listening(int *port)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t size = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&address, size) != 0 || listen(fd, 16) != 0)
		die("listen");
	getsockname(fd, (struct sockaddr *)&address, &size);
	*port = ntohs(address.sin_port);
	return fd;
}

static int
call(int fd, const char *buf, int *index, ei_x_buff *out)
{
	erlang_pid pid;
	erlang_ref ref;
	int arity;
	long cmd;

	if (ei_decode_tuple_header(buf, index, &arity) != 0 || arity != 2)
		return -1;
	if (ei_decode_pid(buf, index, &pid) != 0 || ei_decode_ref(buf, index, &ref) != 0)
		return -1;
	if (ei_decode_long(buf, index, &cmd) != 0)
		return -1;
	out->index = 0;
	if (ei_x_encode_version(out) != 0 || ei_x_encode_tuple_header(out, 2) != 0 || ei_x_encode_ref(out, &ref) != 0)
		return -1;
	if (ei_work(cmd, buf, index, out) != 0)
		return -1;
	return ei_send(fd, &pid, out->buff, out->index);
}

static int
cast(const char *buf, int *index, ei_x_buff *out)
{
	long cmd;

	out->index = 0;
	if (ei_decode_long(buf, index, &cmd) != 0)
		return -1;
	return ei_work(cmd, buf, index, out);
}

static int
handle(int fd, const char *buf, ei_x_buff *out)
{
	char kind[MAXATOMLEN];
	int index = 0, version, arity;

	if (ei_decode_version(buf, &index, &version) != 0)
		return -1;
	if (ei_decode_tuple_header(buf, &index, &arity) != 0 || ei_decode_atom(buf, &index, kind) != 0)
		return -1;
	if (strcmp(kind, "call") == 0)
		return call(fd, buf, &index, out);
	return cast(buf, &index, out);
}

static void
serve(int fd)
{
	erlang_msg message;
	ei_x_buff in, out;

	ei_x_new(&in);
	ei_x_new(&out);
	for (;;) {
		int got = ei_xreceive_msg(fd, &message, &in);

		if (got == ERL_TICK)
			continue;
		if (got == ERL_ERROR)
			break;
		if ((message.msgtype == ERL_SEND || message.msgtype == ERL_REG_SEND) && handle(fd, in.buff, &out) != 0)
			fprintf(stderr, "cnode: a message that it does not understand\n");
	}
	ei_x_free(&in);
	ei_x_free(&out);
	close(fd);
}

int
main(int argc, char **argv)
{
	struct in_addr address = { .s_addr = htonl(INADDR_LOOPBACK) };
	char full[256];
	ei_cnode node;
	ErlConnect peer;
	int port, listener = listening(&port);

	if (argc != 3) {
		fprintf(stderr, "usage: cnode NAME COOKIE\n");
		return 2;
	}
	snprintf(full, sizeof(full), "%s@127.0.0.1", argv[1]);
	if (ei_init() != 0 || ei_connect_xinit(&node, "127.0.0.1", argv[1], full, &address, argv[2], 0) < 0)
		die("ei_connect_xinit");
	if (ei_publish(&node, port) < 0)
		die("ei_publish: no epmd");
	printf("%s\n", full);
	fflush(stdout);
	for (;;) {
		struct pollfd ends[2] = { { .fd = STDIN_FILENO, .events = POLLIN }, { .fd = listener, .events = POLLIN } };

		if (poll(ends, 2, -1) < 0 || ends[0].revents != 0)
			return 0;
		int fd = ei_accept(&node, listener, &peer);
		if (fd >= 0)
			serve(fd);
	}
}
