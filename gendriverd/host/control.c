/* SPDX-License-Identifier: MIT */
/* The control channel of control.h. */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"
#include "control.h"
#include "fields.h"
#include "log.h"
#include "recorder.h"
#include "settings.h"
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

/* A cursor behind the tag of {Tag, ...}; false: no such thing. */
static bool
open_message(gd_in *in, const unsigned char *data, size_t len, size_t *arity)
{
	static const struct etf_limits any = { 64, 65536, 64 };

	if (etf_check_all(&any, data, len, 1) != 0)
		return false;
	gd_in_init(in, data + 1, len - 1);
	return gd_get_tuple(in, arity) == 0 && *arity > 0;
}

static int
get_level(gd_in *in, int *level)
{
	const char *name;
	size_t len;

	if (gd_get_atom(in, &name, &len) != 0)
		return -1;
	return (*level = log_level_of(name, len)) < 0 ? -1 : 0;
}

static int
get_conn(gd_in *in, struct control_message *m)
{
	const void *peer;
	size_t len;

	if (gd_get_u64(in, &m->number) != 0 || gd_get_binary(in, &peer, &len) != 0
	    || gd_get_binary(in, &m->welcome, &m->welcome_len) != 0
	    || allowed_read(in, &m->allowed) != 0)
		return -1;
	snprintf(m->peer, sizeof(m->peer), "%.*s", (int)len, (const char *)peer);
	return 0;
}

/* Cmd, Length, Hash, Ms. */
static int
get_quarantined(gd_in *in, struct quarantined *q)
{
	const void *digest;
	uint64_t ms;
	int64_t cmd;
	size_t len;

	if (gd_get_i64(in, &cmd) != 0 || cmd < INT_MIN || cmd > INT_MAX || gd_get_u64(in, &q->len) != 0
	    || gd_get_binary(in, &digest, &len) != 0 || len != SHA256_SIZE
	    || gd_get_u64(in, &ms) != 0 || ms > UINT32_MAX * 1000ull)
		return -1;
	q->cmd = (int)cmd;
	memcpy(q->digest, digest, SHA256_SIZE);
	q->until = now_ns() + ms * 1000000;
	return 0;
}

void
control_parse(const unsigned char *data, size_t len, struct control_message *m)
{
	size_t arity;
	gd_in in;

	*m = (struct control_message){ .kind = CONTROL_NONE, .fd = -1 };
	if (!open_message(&in, data, len, &arity))
		return;
	if (gd_get_atom_is(&in, "conn") == 0 && arity == 5 && get_conn(&in, m) == 0)
		m->kind = CONTROL_CONN;
	else if (gd_get_atom_is(&in, "drain") == 0 && arity == 2 && get_u32(&in, &m->ms) == 0)
		m->kind = CONTROL_DRAIN;
	else if (gd_get_atom_is(&in, "stop") == 0 && arity == 2 && get_u32(&in, &m->ms) == 0)
		m->kind = CONTROL_STOP;
	else if (gd_get_atom_is(&in, "level") == 0 && arity == 2 && get_level(&in, &m->level) == 0)
		m->kind = CONTROL_LEVEL;
	else if (gd_get_atom_is(&in, "ping") == 0 && arity == 2 && gd_get_u64(&in, &m->number) == 0)
		m->kind = CONTROL_PING;
	else if (gd_get_atom_is(&in, "quarantine") == 0 && arity == 5
	    && get_quarantined(&in, &m->quarantined) == 0)
		m->kind = CONTROL_QUARANTINE;
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

/* --- the start message ------------------------------------------------- */

static int
get_settings(gd_in *in)
{
	const void *key, *value;
	size_t pairs, key_len, value_len;

	if (gd_get_map(in, &pairs) != 0)
		return -1;
	while (pairs-- > 0)
		if (gd_get_binary(in, &key, &key_len) != 0
		    || gd_get_binary(in, &value, &value_len) != 0
		    || settings_add(key, key_len, value, value_len) != 0)
			return -1;
	return 0;
}

static int
get_limits(gd_in *in, struct limits *l)
{
	const struct { const char *name; uint32_t *small; uint64_t *large; } field[] = {
		{ "frame", &l->frame, NULL }, { "frame_ms", &l->frame_ms, NULL },
		{ "frames_bytes", NULL, &l->frames_bytes },
		{ "depth", &l->term.depth, NULL },
		{ "terms", &l->term.terms, NULL }, { "bignum", &l->term.bignum, NULL },
		{ "queue", &l->queue, NULL }, { "connections", &l->connections, NULL },
		{ "in_flight", &l->in_flight, NULL }, { "in_flight_bytes", NULL, &l->in_flight_bytes },
		{ "unsent_bytes", NULL, &l->unsent_bytes }, { "unsent_ms", &l->unsent_ms, NULL },
		{ "linger_ms", &l->linger_ms, NULL }, { "reply", NULL, &l->reply },
	};
	const size_t fields = sizeof(field) / sizeof(field[0]);
	size_t pairs, i, found = 0;

	if (gd_get_map(in, &pairs) != 0)
		return -1;
	for (; pairs > 0; pairs--) {
		for (i = 0; i < fields && gd_get_atom_is(in, field[i].name) != 0; i++)
			;
		if (i == fields) {
			gd_skip(in), gd_skip(in);	/* the whole message is valid: there are two */
			continue;
		}
		if (field[i].small != NULL ? get_u32(in, field[i].small) : gd_get_u64(in, field[i].large))
			return -1;
		found |= (size_t)1 << i;
	}
	return found == ((size_t)1 << fields) - 1 ? 0 : -1;
}

static int
get_run_limits(gd_in *in, struct start *s)
{
	size_t pairs;

	if (s->run_limits != NULL || gd_get_map(in, &pairs) != 0
	    || (s->run_limits = calloc(pairs + 1, sizeof(*s->run_limits))) == NULL)
		return -1;
	for (; pairs > 0; pairs--) {
		struct run_limit *l = &s->run_limits[s->run_limit_count++];
		if (get_text(in, &l->command) != 0 || get_u32(in, &l->ms) != 0)
			return -1;
	}
	return 0;
}

static int
get_start_field(gd_in *in, struct start *s)
{
	if (gd_get_atom_is(in, "name") == 0)
		return get_text(in, &s->name);
	if (gd_get_atom_is(in, "driver") == 0)
		return get_text(in, &s->driver);
	if (gd_get_atom_is(in, "generation") == 0)
		return get_u32(in, &s->generation);
	if (gd_get_atom_is(in, "threads") == 0)
		return get_u32(in, &s->threads);
	if (gd_get_atom_is(in, "short") == 0)
		return get_u32(in, &s->short_ns);
	if (gd_get_atom_is(in, "max_run") == 0)
		return get_u32(in, &s->max_run_ms);
	if (gd_get_atom_is(in, "max_run_of") == 0)
		return get_run_limits(in, s);
	if (gd_get_atom_is(in, "max_abandoned") == 0)
		return get_u32(in, &s->max_abandoned);
	if (gd_get_atom_is(in, "cores") == 0)
		return get_u32(in, &s->cores);
	if (gd_get_atom_is(in, "log_level") == 0)
		return get_level(in, &s->log_level);
	if (gd_get_atom_is(in, "settings") == 0)
		return get_settings(in);
	if (gd_get_atom_is(in, "limits") == 0)
		return get_limits(in, &s->limits);
	if (gd_get_atom_is(in, "sandbox") == 0)
		return sandbox_read(in, &s->sandbox);
	gd_skip(in), gd_skip(in);
	return 0;
}

int
control_parse_start(const unsigned char *data, size_t len, struct start *s)
{
	size_t arity, pairs;
	gd_in in;

	*s = (struct start){ .recorder = -1 };
	if (!open_message(&in, data, len, &arity) || arity != 2
	    || gd_get_atom_is(&in, "start") != 0 || gd_get_map(&in, &pairs) != 0)
		return -1;
	while (pairs-- > 0)
		if (get_start_field(&in, s) != 0)
			return -1;
	if (s->name == NULL || s->driver == NULL || s->limits.frame == 0
	    || s->limits.connections == 0 || s->threads == 0 || s->threads > 1024
	    || s->max_abandoned > RECORDER_ABANDONED)
		return -1;
	return 0;
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
