/* SPDX-License-Identifier: MIT */
/*
 * The ceiling: gendriverd's protocol with the least that can stand behind it. One thread, one recv for all that is there,
 * one send for all answers to it; the handshake is canned, nothing is validated, and there is no driver, no bound, no
 * deadline. What the same client reaches with it is what a service on this machine could reach at most.
 *
 *	echo UNIX-PATH      prints its TCP port, serves until its standard input ends
 *
 * A frame is taken in whole before it is answered, as every service that looks at its requests must. Trusts its client.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "frames.h"
#include "../work.h"

#define READ_ROOM (256 * 1024)
#define LARGE (64 * 1024)	/* an echoed term of so many bytes is sent from where it was received */
#define EVENTS 64

struct conn {
	int fd;
	bool greeted;			/* hello was answered */
	bool waits;			/* for room in the socket */
	struct bytes in, out;		/* in.at: what was answered; out.at: what was sent */
	const unsigned char *raw;	/* within `in`: goes out behind `out`, before anything else is looked at */
	size_t raw_len;
};

static int poller;
static long long sums;

/* How long the term of an echo is: to the end, but for options behind it, where only a binary can be told. */
static size_t
term_size(int arity, const unsigned char *params, const unsigned char *end)
{
	if (arity == 5 && params[0] == 109)
		return 5 + etf_u32(params + 1);
	return (size_t)(end - params);
}

static int64_t
spent(const unsigned char *params, int64_t cmd)
{
	int64_t of[3] = { 0, 0, 0 };

	if (cmd == SPIN) {
		(void)etf_int(&params, &of[0]);
		work_spin(of[0]);
		return of[0];
	}
	params += 2;			/* a tuple of three */
	for (int i = 0; i < 3; i++)
		(void)etf_int(&params, &of[i]);
	return work_mixed(of[0], of[1], of[2]);
}

static void
answer(struct conn *c, int arity, const unsigned char *at, const unsigned char *end)
{
	unsigned char f[64];
	const unsigned char *id = at;
	int64_t cmd = 0, value = 0;

	(void)etf_int(&at, &value);
	size_t n = reply_head(f, id, (size_t)(at - id));
	(void)etf_int(&at, &cmd);
	if (cmd == ECHO) {
		size_t size = term_size(arity, at, end);

		put_frame(&c->out, f, n, n + size);
		if (size >= LARGE) {
			c->raw = at;
			c->raw_len = size;
		} else {
			put_bytes(&c->out, at, size);
		}
		return;
	}
	if (cmd == SUM)
		(void)etf_sum(at, &value), sums++;
	else if (cmd == COUNT)
		value = sums;
	else
		value = spent(at, cmd);
	n += etf_put_int(f + n, value);
	put_frame(&c->out, f, n, n);
}

static void
pong(struct conn *c, const unsigned char *id, const unsigned char *end)
{
	static const unsigned char head[] = { 131, 104, 2, 119, 4, 'p', 'o', 'n', 'g' };
	unsigned char f[32];
	size_t size = (size_t)(end - id);

	memcpy(f, head, sizeof(head));
	memcpy(f + sizeof(head), id, size);
	put_frame(&c->out, f, sizeof(head) + size, sizeof(head) + size);
}

/* One whole frame, its length and version byte cut off. */
static void
take(struct conn *c, const unsigned char *at, const unsigned char *end)
{
	int arity = at[1];
	const char *name;
	size_t size;

	at += 2;
	if (etf_atom(&at, &name, &size) != 0)
		die("echo: a frame that is no tuple of an atom");
	if (!c->greeted) {
		c->greeted = true;
		welcome(&c->out);
	} else if (size == 4 && memcmp(name, "call", 4) == 0) {
		answer(c, arity, at, end);
	} else if (size == 4 && memcmp(name, "cast", 4) == 0) {
		sums++;
	} else if (size == 4 && memcmp(name, "ping", 4) == 0) {
		pong(c, at, end);
	}
}

/* All whole frames that are there, or up to one whose answer must first be sent from where it lies. */
static void
take_all(struct conn *c)
{
	while (c->raw == NULL && c->in.len - c->in.at >= 4) {
		const unsigned char *p = c->in.data + c->in.at;
		size_t size = etf_u32(p);

		if (c->in.len - c->in.at - 4 < size)
			break;
		c->in.at += 4 + size;
		take(c, p + 5, p + 4 + size);
	}
}

static void
watch(struct conn *c, bool for_room)
{
	struct epoll_event event = { .events = for_room ? EPOLLOUT : EPOLLIN, .data.ptr = c };

	if (c->waits != for_room && epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &event) != 0)
		die("epoll_ctl");
	c->waits = for_room;
}

/* What is in `out`, and behind it in the same send what is raw. 1: all is out. 0: no room. -1: the peer is gone. */
static int
flush(struct conn *c)
{
	while (c->out.at < c->out.len || c->raw_len > 0) {
		struct iovec both[2] = {
			{ c->out.data + c->out.at, c->out.len - c->out.at }, { (void *)(uintptr_t)c->raw, c->raw_len },
		};
		struct msghdr message = { .msg_iov = both, .msg_iovlen = 2 };
		ssize_t sent = sendmsg(c->fd, &message, MSG_NOSIGNAL);

		if (sent < 0)
			return errno == EAGAIN ? 0 : -1;
		size_t first = (size_t)sent < both[0].iov_len ? (size_t)sent : both[0].iov_len;
		c->out.at += first;
		if ((size_t)sent > first) {
			c->raw_len -= (size_t)sent - first;
			c->raw += (size_t)sent - first;
		}
	}
	c->out.at = c->out.len = 0;
	c->raw = NULL;
	return 1;
}

static void
drop(struct conn *c)
{
	close(c->fd);
	free(c->in.data);
	free(c->out.data);
	free(c);
}

/* Answers and sends until nothing whole is left. -1: the peer is gone. */
static int
go_on(struct conn *c)
{
	int done;

	do {
		take_all(c);
		if ((done = flush(c)) < 0)
			return -1;
	} while (done == 1 && c->in.len - c->in.at >= 4 && c->in.len - c->in.at - 4 >= etf_u32(c->in.data + c->in.at));
	watch(c, done == 0);
	if (done == 1 && c->in.at > 0) {
		memmove(c->in.data, c->in.data + c->in.at, c->in.len - c->in.at);
		c->in.len -= c->in.at;
		c->in.at = 0;
	}
	return 0;
}

static int
receive(struct conn *c)
{
	size_t want = READ_ROOM;

	if (c->in.len >= 4 && etf_u32(c->in.data) + 4 > c->in.len + want)
		want = etf_u32(c->in.data) + 4 - c->in.len;
	make_room(&c->in, want);
	ssize_t got = recv(c->fd, c->in.data + c->in.len, c->in.room - c->in.len, 0);
	if (got < 0)
		return errno == EAGAIN ? 0 : -1;
	if (got == 0)
		return -1;
	c->in.len += (size_t)got;
	return go_on(c);
}

static void
accept_one(int listener)
{
	struct conn *c = calloc(1, sizeof(*c));
	int one = 1;

	if (c == NULL || (c->fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) < 0)
		die("accept");
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));	/* no, on a unix socket: no harm */
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = c };
	if (epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &event) != 0)
		die("epoll_ctl");
	greet(&c->out);
	if (flush(c) < 0)
		drop(c);
}

static int
listening(int family, const struct sockaddr *address, socklen_t size)
{
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, address, size) != 0 || listen(fd, 4096) != 0)
		die("listen");
	return fd;
}

int
main(int argc, char **argv)
{
	struct sockaddr_in tcp = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct sockaddr_un local = { .sun_family = AF_UNIX };
	socklen_t size = sizeof(tcp);
	struct epoll_event events[EVENTS];
	int listeners[2], end = STDIN_FILENO;

	if (argc != 2 || strlen(argv[1]) >= sizeof(local.sun_path)) {
		fprintf(stderr, "usage: echo UNIX-PATH\n");
		return 2;
	}
	memcpy(local.sun_path, argv[1], strlen(argv[1]));
	poller = epoll_create1(EPOLL_CLOEXEC);
	listeners[0] = listening(AF_INET, (struct sockaddr *)&tcp, sizeof(tcp));
	listeners[1] = listening(AF_UNIX, (struct sockaddr *)&local, sizeof(local));
	int *special[] = { &listeners[0], &listeners[1], &end };
	for (int i = 0; i < 3; i++) {
		struct epoll_event event = { .events = EPOLLIN, .data.ptr = special[i] };

		if (epoll_ctl(poller, EPOLL_CTL_ADD, *special[i], &event) != 0)
			die("epoll_ctl");
	}
	getsockname(listeners[0], (struct sockaddr *)&tcp, &size);
	printf("%d\n", ntohs(tcp.sin_port));
	fflush(stdout);
	for (;;) {
		int count = epoll_wait(poller, events, EVENTS, -1);

		for (int i = 0; i < count; i++) {
			void *who = events[i].data.ptr;
			struct conn *c = who;

			if (who == &end)
				return 0;
			if (who == &listeners[0] || who == &listeners[1])
				accept_one(*(int *)who);
			else if ((c->waits ? go_on(c) : receive(c)) < 0)
				drop(c);
		}
	}
}
