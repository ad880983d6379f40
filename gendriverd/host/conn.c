/* SPDX-License-Identifier: MIT */
/*
 * The table of connections (conn.h), from adoption to the end of each. Loop thread.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "conn.h"

struct conns conns;

int
conns_init(const struct start *start, const struct driver *driver, struct pool *pool, int epoll,
    struct conns_hooks hooks)
{
	size_t n = start->limits.connections;

	conns.start = start;	/* one by one: a thread of the driver may already look how many are in use */
	conns.driver = driver;
	conns.pool = pool;
	conns.hooks = hooks;
	conns.epoll = epoll;
	conns.ready_end = &conns.ready;
	conns.starving_end = &conns.starving;
	conns.waiting_end = &conns.waiting;
	conns.read_size = READ_SIZE;
	conns.slots = calloc(n, sizeof(*conns.slots));
	conns.attention = calloc(n, sizeof(*conns.attention));
	if (conns.slots == NULL || conns.attention == NULL)
		return -1;
	pthread_mutex_init(&conns.attention_lock, NULL);
	return 0;
}

size_t
conns_count(void)
{
	return conns.open;
}

/* Deadlines are of the one clock. */
static void
init_turn(pthread_cond_t *turn)
{
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(turn, &attr);
	pthread_condattr_destroy(&attr);
}

/* Slots are touched when they are first used: an idle host stays small. */
static struct conn *
free_slot(void)
{
	struct conn *c = conns.free;

	if (c != NULL) {
		conns.free = c->next_free;
		return c;
	}
	if (conns.used == conns.start->limits.connections)
		return NULL;
	c = &conns.slots[conns.used];
	pthread_mutex_init(&c->lock, NULL);
	init_turn(&c->turn);
	c->slot = conns.used;
	c->record = recorder_conn(c->slot);
	c->fd = -1;
	conns.used++;		/* it may be looked at now */
	return c;
}

static void
give_slot_back(struct conn *c)
{
	c->next_free = conns.free;
	conns.free = c;
}

int
conn_hear(const struct conn *c, int fd, int operation)
{
	struct epoll_event event = {
		.events = EPOLLIN | EPOLLPRI | EPOLLRDHUP | EPOLLET | (c->hears_out ? EPOLLOUT : 0),
		.data.u64 = (uint64_t)c->generation << 32 | c->slot,
	};

	return epoll_ctl(conns.epoll, operation, fd, &event);
}

const char *
conn_adopt(int fd, uint64_t number, const char *peer, const void *welcome, size_t len,
    struct allowed *allowed)
{
	struct conn *c = conns.stopping ? NULL : free_slot();

	if (c == NULL) {
		close(fd);
		free(allowed);
		return conns.stopping ? "stopping" : "too_many";
	}
	if ((c->peer = strdup(peer)) == NULL || conn_hear(c, fd, EPOLL_CTL_ADD) != 0) {
		free(c->peer);
		c->peer = NULL;
		give_slot_back(c);
		close(fd);
		free(allowed);
		return "too_many";
	}
	c->state = CONN_OPEN;
	c->number = number;
	c->allowed = allowed;
	c->reason = "peer_closed";
	conns.open++;
	pthread_mutex_lock(&c->lock);
	c->fd = fd;
	atomic_store(&c->record->sent, SENT_WHOLE);
	atomic_store(&c->record->number, number);
	if (output_copy(&c->out, welcome, len) != 0)
		c->broken = true;
	conn_flush(c);
	if (c->out.unsent == 0)
		output_free(&c->out);	/* many never ask for anything */
	pthread_mutex_unlock(&c->lock);
	c->readable = true;
	conn_ready(c);
	return NULL;
}

/* Calls of c that nobody will hear of: those not begun are taken out. */
static void
abandon_calls(struct conn *c)
{
	for (size_t i = 0; i < c->calls.room; i++) {
		struct request *r = c->calls.at[i];
		if (r == NULL)
			continue;
		atomic_store(&r->cancelled, true);
		if (pool_withdraw(conns.pool, r)) {
			pool_give(conns.pool, r);
			conns.fed = true;
		}
	}
}

/* The end. Not while another thread is in sendmsg: it calls for attention. */
void
conn_free(struct conn *c)
{
	pthread_mutex_lock(&c->lock);
	c->broken = true;
	conn_stir(c);
	if (c->sending) {
		c->watched = true;
		shutdown(c->fd, SHUT_RDWR);
		pthread_mutex_unlock(&c->lock);
		return;
	}
	abandon_calls(c);
	ids_free(&c->calls);
	output_free(&c->out);
	atomic_store(&c->record->number, 0);
	conn_answered(&c->unsent);
	/* The daemon has a descriptor of this socket too: closing ours alone ends nothing. */
	epoll_ctl(conns.epoll, EPOLL_CTL_DEL, c->fd, NULL);
	shutdown(c->fd, SHUT_RDWR);
	close(c->fd);
	conns.hooks.closed(c);
	c->fd = -1;
	c->generation++;
	c->broken = c->blocked = c->hears_out = c->watched = c->last = false;
	c->notes = false;
	c->notes_lost = c->flight_bytes = c->bytes_out = c->progress_at = 0;
	c->casts = 0;
	c->astray = 0;
	pthread_mutex_unlock(&c->lock);
	conn_check_anew(c);
	conn_drop_stash(c);
	free(c->peer);
	free(c->allowed);
	c->peer = NULL;
	c->allowed = NULL;
	c->frame_since = 0;
	c->state = CONN_FREE;
	c->readable = c->ending = c->hup = c->eof = c->starved = c->held = false;
	c->calls_read = c->casts_read = c->bytes_in = 0;
	give_slot_back(c);
	conns.open--;
}
