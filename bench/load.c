/* SPDX-License-Identifier: MIT */
/*
 * The load generator in C, which shows a host alone: connections that each keep so
 * many calls in flight, one thread, one recv for many replies and one send for all
 * that take their places. Every reply is checked. It prints one line of JSON.
 *
 *   load -a unix:PATH|tcp:PORT [-i INSTANCE] [-c CONNECTIONS] [-d CALLS] [-s SECONDS | -n CALLS]
 *        [-k COMMAND] [-e BYTES]
 *
 * -i shakes hands and asks for an instance; without it the peer starts with the first
 * request. -e echoes a binary of so many bytes instead of adding up four integers.
 * Nothing on the path allocates, and time is looked at once a recv: it must never be
 * what limits.
 */
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "dial.h"
#include "histogram.h"

#define READ_SIZE (256u * 1024)
#define HEAD 25			/* of a call: up to its params */
#define REPLY_HEAD 10		/* of a reply, behind its length: up to the id */

struct call {
	uint64_t sent_at;	/* ns; 0: not in flight */
	uint32_t expected;	/* the sum */
};

struct conn {
	int fd;
	unsigned char *in, *out;
	size_t in_len, out_at, out_len;
	struct call *calls;	/* `depth` of them: the id is the index */
};

static struct {
	const char *address, *instance;
	unsigned conns, depth;
	double seconds;
	uint64_t count;
	size_t echo;		/* bytes; 0: sums */
	unsigned char cmd;
} options = { .conns = 1, .depth = 1, .seconds = 1, .cmd = 1 };

static unsigned char *frame;	/* a call; id and numbers are written into a copy */
static size_t frame_len, in_room;
static uint64_t in_flight, to_send, done, now, until;
static uint32_t seed = 1;
static struct histogram times;

static uint64_t
now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* {call, Id, Cmd, Params}: Id always of four bytes, so that every call has the same length. */
static void
make_frame(void)
{
	static const unsigned char head[] = { 0, 0, 0, 0, 131, 104, 4, 119, 4, 'c', 'a', 'l', 'l', 98, 0, 0, 0, 0, 97 };
	size_t at = sizeof(head);

	if ((frame = calloc(1, HEAD + options.echo + 4)) == NULL)
		die("no memory");
	memcpy(frame, head, sizeof(head));
	frame[at++] = options.cmd;
	if (options.echo > 0) {
		frame[at++] = 109;
		put_u32(frame + at, (uint32_t)options.echo);
		at += 4;
		for (size_t i = 0; i < options.echo; i++)
			frame[at++] = (unsigned char)(i * 31);
	} else {
		memcpy(frame + at, (unsigned char[]){ 107, 0, 4 }, 3);
		at += 3 + 4;
	}
	frame_len = at;
	put_u32(frame, (uint32_t)(at - 4));
}

/* There is room for twice what can be in flight, so that this comes seldom. */
static void
move_to_front(struct conn *c)
{
	memmove(c->out, c->out + c->out_at, c->out_len - c->out_at);
	c->out_len -= c->out_at;
	c->out_at = 0;
}

static void
queue_call(struct conn *c, uint32_t id)
{
	unsigned char *at;

	if (c->out_len + frame_len > 2 * frame_len * options.depth)
		move_to_front(c);
	at = c->out + c->out_len;
	memcpy(at, frame, frame_len);
	put_u32(at + 14, id);
	if (options.echo == 0) {
		seed = seed * 1664525u + 1013904223u;
		put_u32(at + frame_len - 4, seed);
		c->calls[id].expected = (seed >> 24) + (seed >> 16 & 255) + (seed >> 8 & 255) + (seed & 255);
	}
	c->calls[id].sent_at = now;
	c->out_len += frame_len;
	in_flight++;
	to_send--;
}

/* What the socket does not take at once is left for later. */
static void
flush(struct conn *c)
{
	ssize_t n;

	while (c->out_at < c->out_len) {
		n = send(c->fd, c->out + c->out_at, c->out_len - c->out_at, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return;
		if (n < 0)
			die("cannot send");
		c->out_at += (size_t)n;
	}
	c->out_at = c->out_len = 0;
}

static bool
right_sum(const unsigned char *term, size_t len, uint32_t expected)
{
	uint64_t bits;
	double sum;

	if (len < 8 || memcmp(term, "\x68\x02\x77\x02ok", 6) != 0)
		return false;
	if (term[6] == 97)
		return term[7] == expected;
	if (term[6] == 98 && len == 11)
		return get_u32(term + 7) == expected;
	if (term[6] != 70 || len != 15)
		return false;
	bits = (uint64_t)get_u32(term + 7) << 32 | get_u32(term + 11);
	memcpy(&sum, &bits, 8);
	return sum == (double)expected;
}

/* The payload, or {ok, Payload}. */
static bool
right_echo(const unsigned char *term, size_t len)
{
	size_t size = 5 + options.echo;

	if (len == size + 6 && memcmp(term, "\x68\x02\x77\x02ok", 6) == 0)
		term += 6;
	else if (len != size)
		return false;
	return memcmp(term, frame + frame_len - size, size) == 0;
}

/* One reply, without its length: a call that is through makes room for the next. */
static void
take_reply(struct conn *c, const unsigned char *at, size_t len)
{
	size_t id_len = len > REPLY_HEAD + 5 && at[REPLY_HEAD] == 97 ? 2 : 5;
	uint32_t id;

	errno = 0;
	if (len < REPLY_HEAD + 5 || memcmp(at, "\x83\x68\x03\x77\x05reply", REPLY_HEAD) != 0)
		die(len > 12 && memcmp(at + 5, "failed", 6) == 0 ? "a call failed" : "no reply came");
	id = id_len == 2 ? at[REPLY_HEAD + 1] : get_u32(at + REPLY_HEAD + 1);
	if (id >= options.depth || c->calls[id].sent_at == 0)
		die("a reply to no call");
	at += REPLY_HEAD + id_len;
	len -= REPLY_HEAD + id_len;
	if (options.echo > 0 ? !right_echo(at, len) : !right_sum(at, len, c->calls[id].expected))
		die("a wrong answer");
	histogram_add(&times, now - c->calls[id].sent_at);
	c->calls[id].sent_at = 0;
	in_flight--;
	done++;
	if (to_send > 0)
		queue_call(c, id);
}

static void
receive(struct conn *c, int flags)
{
	ssize_t n = recv(c->fd, c->in + c->in_len, in_room - c->in_len, flags);
	size_t at = 0, len;

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n <= 0)
		die("the peer is gone");
	c->in_len += (size_t)n;
	if ((now = now_ns()) >= until)
		to_send = 0;
	while (c->in_len - at >= 4 && c->in_len - at - 4 >= (len = get_u32(c->in + at))) {
		take_reply(c, c->in + at + 4, len);
		at += 4 + len;
	}
	c->in_len -= at;
	memmove(c->in, c->in + at, c->in_len);
	flush(c);
}

static void
open_conn(struct conn *c)
{
	c->fd = dial(options.address);
	c->in = malloc(in_room);
	c->out = malloc(2 * frame_len * options.depth);
	c->calls = calloc(options.depth, sizeof(*c->calls));
	if (c->in == NULL || c->out == NULL || c->calls == NULL)
		die("no memory");
	if (options.instance != NULL)
		shake_hands(c->fd, options.instance);
}

static void
wait_for_any(struct conn *conns, struct pollfd *polls)
{
	for (unsigned i = 0; i < options.conns; i++)
		polls[i] = (struct pollfd){ conns[i].fd, (short)(POLLIN | (conns[i].out_len > 0 ? POLLOUT : 0)), 0 };
	if (poll(polls, options.conns, 30000) == 0) {
		errno = 0;
		die("30 s without a reply");
	}
	for (unsigned i = 0; i < options.conns; i++) {
		if (polls[i].revents & POLLOUT)
			flush(&conns[i]);
		if (polls[i].revents & ~POLLOUT)
			receive(&conns[i], MSG_DONTWAIT);
	}
}

static void
options_from(int argc, char **argv)
{
	int option;

	while ((option = getopt(argc, argv, "a:i:c:d:s:n:k:e:")) != -1) {
		switch (option) {
		case 'a': options.address = optarg; break;
		case 'i': options.instance = optarg; break;
		case 'c': options.conns = (unsigned)atoi(optarg); break;
		case 'd': options.depth = (unsigned)atoi(optarg); break;
		case 's': options.seconds = atof(optarg); break;
		case 'n': options.count = strtoull(optarg, NULL, 10); break;
		case 'k': options.cmd = (unsigned char)atoi(optarg); break;
		case 'e': options.echo = strtoul(optarg, NULL, 10); break;
		default: exit(2);
		}
	}
	if (options.address == NULL || options.conns == 0 || options.depth == 0) {
		fprintf(stderr, "load: -a, and at least one connection with one call\n");
		exit(2);
	}
}

int
main(int argc, char **argv)
{
	struct conn *conns;
	struct pollfd *polls;
	uint64_t began;

	options_from(argc, argv);
	make_frame();
	in_room = READ_SIZE + 2 * frame_len;
	conns = calloc(options.conns, sizeof(*conns));
	polls = calloc(options.conns, sizeof(*polls));
	if (conns == NULL || polls == NULL)
		die("no memory");
	for (unsigned i = 0; i < options.conns; i++)
		open_conn(&conns[i]);
	began = now = now_ns();
	to_send = options.count > 0 ? options.count : UINT64_MAX;
	until = options.count > 0 ? UINT64_MAX : began + (uint64_t)(options.seconds * 1e9);
	for (unsigned i = 0; i < options.conns; i++) {
		for (uint32_t id = 0; id < options.depth && to_send > 0; id++)
			queue_call(&conns[i], id);
		flush(&conns[i]);
	}
	while (in_flight > 0) {
		if (options.conns == 1 && conns[0].out_len == 0)
			receive(&conns[0], 0);
		else
			wait_for_any(conns, polls);
	}
	printf("{\"calls\": %llu, \"seconds\": %.6f, \"rate\": %.1f, \"p50\": %.2f, \"p99\": %.2f, \"p999\": %.2f}\n",
	    (unsigned long long)done, (double)(now - began) / 1e9, (double)done * 1e9 / (double)(now - began),
	    histogram_at(&times, 0.5) / 1e3, histogram_at(&times, 0.99) / 1e3, histogram_at(&times, 0.999) / 1e3);
	return 0;
}
