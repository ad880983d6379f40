/* SPDX-License-Identifier: MIT */
/*
 * How the loop passes to another thread: what it runs itself was expected to be short, and was not.
 *
 * The worker whose seat it had borrowed waits for just that. The two change places: the worker becomes
 * the loop, and the loop's thread, when it comes back from the driver, the worker. No thread is made,
 * and none is lost. Who ends a call decides it, by a compare-and-swap on one word, its number: its thread, or the
 * one that watches.
 *
 * That one, the process's first thread, sleeps on a timer that ticks each millisecond, but only while
 * there are such calls, or answers that a worker keeps (keep.c): those arm it, a tick that finds nothing new disarms it. A call found
 * twice is overdue if its thread has used the time since, or sleeps: one that only waits for a core would
 * not go on sooner in another thread.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "clock.h"
#include "lengths.h"
#include "log.h"
#include "pool_parts.h"

#define TICK 1000000		/* ns */
#define USED (TICK / 2)		/* ns of a core, in a tick or more */

int
lead_open(struct lead *l)
{
	return (l->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC)) < 0 ? -1 : 0;
}

void
lead_tick(struct lead *l, bool on)
{
	struct timespec each = { 0, on ? TICK : 0 };
	struct itimerspec ticks = { each, each };

	/* A driver that has closed what is ours ends its host. */
	if (timerfd_settime(l->timer, 0, &ticks, NULL) != 0)
		abort();
}

void
pool_lead_done(struct pool *p)
{
	atomic_store(&p->lead.done, true);
	lead_tick(&p->lead, true);
}

/* Nothing new: no more ticks, but a call that begins just now, or an answer that is just kept, must not go unwatched. */
static void
disarm(struct pool *p, uint64_t seen)
{
	struct lead *l = &p->lead;
	bool armed = false;

	lead_tick(l, false);
	atomic_store(&l->armed, false);
	if ((atomic_load(&l->call) != seen || keep_any(p)) && atomic_compare_exchange_strong(&l->armed, &armed, true))
		lead_tick(l, true);
}

/* ns that the loop's thread has had of a core. */
static uint64_t
used_by(pthread_t thread)
{
	struct timespec t;
	clockid_t clock;

	if (pthread_getcpuclockid(thread, &clock) != 0 || clock_gettime(clock, &t) != 0)
		return 0;
	return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

/* Whether it waits for something else than a core: proc(5), the state behind the name. True where nobody says. */
static bool
sleeps(pid_t tid)
{
	char path[64], text[128];
	const char *state;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", (int)tid);
	if ((fd = open(path, O_RDONLY | O_CLOEXEC)) < 0)
		return true;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	text[n > 0 ? n : 0] = '\0';
	state = strrchr(text, ')');
	return state == NULL || strncmp(state, ") R", 3) != 0;
}

/* Lock held: the seat is the loop's thread's, and the loop its worker's. */
static void
change_places(struct pool *p, struct seat *s)
{
	struct lead *l = &p->lead;
	struct worker *w = s->holder;
	pthread_t next = w->thread;

	w->thread = l->thread;
	l->thread = next;
	l->seat = NULL;
	s->borrowed = false;
	s->running = l->request;
	s->until = worker_until(p, l->request);
	atomic_store(&w->stage, RUNS);
	pthread_cond_signal(&s->work);
}

static void
take_over(struct pool *p, uint64_t call)
{
	struct lead *l = &p->lead;
	struct log_number numbers[3];
	struct request *r;
	uint64_t bar;

	pthread_mutex_lock(&p->lock);
	if (!atomic_compare_exchange_strong(&l->call, &call, call - 1)) {
		pthread_mutex_unlock(&p->lock);
		return;
	}
	r = l->request;
	stats_taken_over(l->seat->number, r->entry);
	bar = lengths_bar(r->entry, now_ns());
	numbers[0] = (struct log_number){ "command", (uint64_t)r->cmd };
	numbers[1] = (struct log_number){ "request", r->number };
	numbers[2] = (struct log_number){ "barred_ms", bar / 1000000 };
	change_places(p, l->seat);
	pthread_mutex_unlock(&p->lock);
	log_numbers(GD_INFO, "loop_taken_over", numbers, 3);
}

void
pool_stand_by(struct pool *p)
{
	struct lead *l = &p->lead;
	uint64_t call, seen = 0, used = 0, ticks;

	while (!atomic_load(&l->done)) {
		if (read(l->timer, &ticks, sizeof(ticks)) < 0 && errno != EINTR)
			abort();
		keep_watch(p);
		call = atomic_load(&l->call);
		if (call != seen) {
			seen = call;
			used = call & 1 ? used_by(l->thread) : 0;
		} else if (!(call & 1)) {
			disarm(p, seen);
		} else if (used_by(l->thread) >= used + USED || sleeps(l->tid)) {
			take_over(p, call);
		}
	}
}
