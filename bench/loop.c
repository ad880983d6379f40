/* SPDX-License-Identifier: MIT */
/*
 * The same loop with no pool: what a host could do at best. It reads, cuts, checks and
 * answers with the host's own sources (etf, envelope, frame, terms), and adds up the
 * numbers where they are: no pool, no recorder, no statistics, no locks, no bounds.
 *
 *   loop unix:PATH|tcp:PORT [bare]
 *
 * bare: it believes its client, and looks for id and numbers where they always are.
 * Prints its address once it listens (port 0: a free one); ends with its parent.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "envelope.h"
#include "frame.h"
#include "term.h"

#define READ_SIZE (256u * 1024)
#define LARGEST (64u * 1024)	/* frame */
#define REPLY_MOST 64

struct conn {
	int fd;
	size_t len;			/* of the frame that has begun */
	unsigned char stash[LARGEST];
};

static unsigned char shared[LARGEST + READ_SIZE];
static unsigned char out[(READ_SIZE + LARGEST) / 8 * REPLY_MOST];
static size_t out_len;
static bool bare;
static gd_out reply;

static void
give_up(const char *what)
{
	perror(what);
	exit(1);
}

/* {reply, Id, {ok, Sum}} */
static void
answer(uint32_t id, double sum)
{
	gd_out_reset(&reply);
	gd_put_tuple(&reply, 2);
	gd_put_atom(&reply, "ok");
	gd_put_f64(&reply, sum);
	out_len += frame_reply_head(out + out_len, id, reply.len - 1);
	memcpy(out + out_len, reply.buf + 1, reply.len - 1);
	out_len += reply.len - 1;
}

static bool
checked(const unsigned char *frame, size_t len)
{
	static const struct etf_limits limits = { 256, 1000000, 4096 };
	struct etf_check check;
	struct envelope e;
	double sum = 0, number;
	size_t count;
	gd_in in;

	etf_check_begin(&check, &limits, frame, len, 1);
	if (etf_check_run(&check, UINT32_MAX) != 0 || envelope_parse(&check, frame, len, &e) != 0)
		return false;
	etf_check_end(&check);
	gd_in_init(&in, e.params, e.params_len);
	if (gd_get_list(&in, &count) != 0)
		return false;
	for (; count > 0; count--, sum += number)
		if (gd_get_number(&in, &number) != 0)
			return false;
	answer(e.id, sum);
	return true;
}

/* {call, Id, 1, [A, B, C, D]} as load.c writes it. */
static bool
believed(const unsigned char *frame, size_t len)
{
	const unsigned char *n = frame + len - 4;

	answer(frame_length(frame + 10), n[0] + n[1] + n[2] + n[3]);
	return true;
}

/* How many of these bytes were whole frames, or -1. */
static ssize_t
take(const unsigned char *data, size_t len)
{
	size_t at = 0, size;

	while (len - at >= FRAME_HEAD && len - at - FRAME_HEAD >= (size = frame_length(data + at))) {
		const unsigned char *frame = data + at + FRAME_HEAD;
		if (size < 20 || !(bare ? believed(frame, size) : checked(frame, size)))
			return -1;
		at += FRAME_HEAD + size;
	}
	return (ssize_t)at;
}

/* The client reads while it writes: this does not wait for ever. */
static bool
send_all(int fd)
{
	size_t at = 0;
	ssize_t n;

	for (; at < out_len; at += (size_t)n)
		if ((n = send(fd, out + at, out_len - at, MSG_NOSIGNAL)) < 0)
			return false;
	out_len = 0;
	return true;
}

static void
end(struct conn *c)
{
	out_len = 0;
	close(c->fd);
	free(c);
}

static void
serve(struct conn *c)
{
	ssize_t n, taken;
	size_t len;

	do {
		memcpy(shared, c->stash, c->len);
		n = recv(c->fd, shared + c->len, READ_SIZE, MSG_DONTWAIT);
		if (n < 0 && errno == EAGAIN)
			return;
		len = c->len + (size_t)(n > 0 ? n : 0);
		if (n <= 0 || (taken = take(shared, len)) < 0 || len - (size_t)taken > LARGEST || !send_all(c->fd)) {
			end(c);
			return;
		}
		c->len = len - (size_t)taken;
		memcpy(c->stash, shared + taken, c->len);
	} while (n == READ_SIZE);	/* else the socket is empty, and what comes is a new edge */
}

static void
add(int epoll, int listener)
{
	struct conn *c = calloc(1, sizeof(*c));
	struct epoll_event e = { .events = EPOLLIN | EPOLLET, .data.ptr = c };
	int yes = 1;

	if (c == NULL || (c->fd = accept(listener, NULL, NULL)) < 0)
		give_up("loop: accept");
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
	if (epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &e) != 0)
		give_up("loop: epoll_ctl");
}

static int
listen_on(const char *address)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(in);
	bool tcp = strncmp(address, "tcp:", 4) == 0;
	int fd = socket(tcp ? AF_INET : AF_UNIX, SOCK_STREAM, 0);

	if (tcp)
		in.sin_port = htons((uint16_t)atoi(address + 4));
	else
		snprintf(un.sun_path, sizeof(un.sun_path), "%s", address + 5);
	if (bind(fd, tcp ? (struct sockaddr *)&in : (struct sockaddr *)&un, tcp ? sizeof(in) : sizeof(un)) != 0
	    || listen(fd, 1024) != 0)
		give_up(address);
	if (tcp && getsockname(fd, (struct sockaddr *)&in, &len) == 0)
		printf("tcp:%d\n", ntohs(in.sin_port));
	else
		printf("%s\n", address);
	fflush(stdout);
	return fd;
}

int
main(int argc, char **argv)
{
	struct epoll_event events[128], e = { .events = EPOLLIN };
	int epoll = epoll_create1(0), listener, n;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (argc < 2 || (strncmp(argv[1], "tcp:", 4) != 0 && strncmp(argv[1], "unix:", 5) != 0)) {
		fprintf(stderr, "loop: wants unix:PATH or tcp:PORT\n");
		return 2;
	}
	bare = argc > 2 && strcmp(argv[2], "bare") == 0;
	if (gd_out_init(&reply, 1 << 20) != 0)
		give_up("loop");
	listener = listen_on(argv[1]);
	if (epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &e) != 0)
		give_up("loop: epoll_ctl");
	while ((n = epoll_wait(epoll, events, 128, -1)) > 0 || errno == EINTR) {
		for (int i = 0; i < n; i++) {
			if (events[i].data.ptr == NULL)
				add(epoll, listener);
			else
				serve(events[i].data.ptr);
		}
	}
	return 1;
}
