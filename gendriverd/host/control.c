/* SPDX-License-Identifier: MIT */
/* The control channel of control.h: what is sent, what is received, and its end. control_parse.c reads what came. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "control.h"
#include "term.h"

#define EXIT_REFUSED 100

struct waiting {
	struct waiting *next;
	size_t len;
	unsigned char data[];
};

static struct waiting *waiting, **waiting_end = &waiting;	/* loop */
static unsigned char packet[CONTROL_MAX];			/* loop */

void
control_begin(gd_out *m, const char *tag, size_t arity)
{
	if (gd_out_init(m, CONTROL_MAX) != 0)
		m->error = GD_ENOMEM;
	gd_put_tuple(m, arity);
	gd_put_atom(m, tag);
}

static bool
send_now(const void *data, size_t len)
{
	ssize_t n;

	do
		n = send(CONTROL_FD, data, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	/* Any other failure means that the daemon is gone: the watch ends us. */
	return n >= 0 || (errno != EAGAIN && errno != EWOULDBLOCK && errno != ENOBUFS);
}

bool
control_try(gd_out *m)
{
	bool sent = gd_out_done(m) == 1 && send_now(m->buf, m->len);

	gd_out_free(m);
	return sent;
}

void
control_send(gd_out *m)
{
	struct waiting *w;

	if (gd_out_done(m) != 1)
		abort();	/* no memory: the daemon would wait for it for ever */
	if (waiting != NULL || !send_now(m->buf, m->len)) {
		if ((w = malloc(sizeof(*w) + m->len)) == NULL)
			abort();
		w->next = NULL;
		w->len = m->len;
		memcpy(w->data, m->buf, m->len);
		*waiting_end = w;
		waiting_end = &w->next;
	}
	gd_out_free(m);
}

bool
control_flush(void)
{
	struct waiting *w;

	while ((w = waiting) != NULL && send_now(w->data, w->len)) {
		if ((waiting = w->next) == NULL)
			waiting_end = &waiting;
		free(w);
	}
	return waiting != NULL;
}

void
control_drain(void)
{
	struct pollfd p = { .fd = CONTROL_FD, .events = POLLOUT };

	while (control_flush() && (poll(&p, 1, -1) >= 0 || errno == EINTR))
		continue;
}

int
control_refuse(const char *why)
{
	gd_out m;

	control_begin(&m, "refuse", 2);
	gd_put_text(&m, why);
	control_send(&m);
	control_drain();
	return EXIT_REFUSED;
}

/* A packet and the descriptor that came with it, or -1. Length; 0: the end. */
static ssize_t
receive(int flags, int *fd)
{
	union { struct cmsghdr align; char space[CMSG_LEN(sizeof(int))]; } control;	/* for one */
	struct iovec iov = { packet, sizeof(packet) };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = control.space, .msg_controllen = sizeof(control.space),
	};
	struct cmsghdr *c;
	ssize_t n;

	*fd = -1;
	do
		n = recvmsg(CONTROL_FD, &msg, flags | MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n <= 0)
		return n;
	c = CMSG_FIRSTHDR(&msg);
	if (c != NULL && c->cmsg_type == SCM_RIGHTS)	/* a unix socket's; there was room for one */
		memcpy(fd, CMSG_DATA(c), sizeof(int));
	return n;
}

bool
control_receive(struct control_message *m)
{
	int fd;
	ssize_t n = receive(MSG_DONTWAIT, &fd);

	control_parse(packet, n > 0 ? (size_t)n : 0, m);
	m->fd = fd;
	return n != 0;
}

int
control_start(struct start *s, char *why, size_t room)
{
	int fd, code;
	ssize_t n = receive(0, &fd);

	code = control_parse_start(packet, n > 0 ? (size_t)n : 0, s);
	s->recorder = fd;
	snprintf(why, room, "the first control message is not a complete {start, Map}");
	return code;
}

/* --- the end of the daemon --------------------------------------------- */

void
control_abandoned(void)
{
	if (getpgrp() == getpid())	/* what the driver has started goes along */
		kill(0, SIGKILL);
	_exit(1);
}

static void *
watch(void *arg)
{
	struct pollfd p = { .fd = CONTROL_FD, .events = POLLRDHUP };

	while (poll(&p, 1, -1) < 0 && errno == EINTR)
		;
	(void)arg;
	control_abandoned();
}

int
control_watch(void)
{
	pthread_t thread;
	pthread_attr_t attr;
	int result;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 65536);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	result = pthread_create(&thread, &attr, watch, NULL);
	pthread_attr_destroy(&attr);
	return result == 0 ? 0 : -1;
}
