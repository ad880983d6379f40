/* SPDX-License-Identifier: MIT */
/*
 * The loop of loop.h. Which thread it is changes when it is held up in the driver (pool.h): so all that
 * it knows is in `loop` and in `conns`, and only pool_run_short, between two turns, calls the driver.
 *
 * Leaving: drain waits until every connection is gone, at most its limit; stop
 * answers what has not begun, waits for what runs, at most its limit; then the
 * workers leave, destroy runs, and the process ends with 0. Threads that were written
 * off are not waited for.
 */
#include <errno.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "clock.h"
#include "conn.h"
#include "control.h"
#include "log.h"
#include "loop.h"
#include "pool.h"
#include "recorder.h"
#include "say.h"

#define MS 1000000ull		/* ns */
#define EVENTS 128
/* Tokens of what is no connection: slots never come so far. */
#define CONTROL_TOKEN 0xffffffffull
#define WAKE_TOKEN 0xfffffffeull

enum phase { SERVING, DRAINING, STOPPING, LEAVING };

static struct loop {
	const struct start *start;
	struct driver *driver;
	struct pool *pool;
	int epoll, wake;
	atomic_bool fed;	/* the pool has free requests again */
	enum phase phase;
	uint64_t phase_ends;	/* ns; SERVING, LEAVING: 0 */
	uint32_t stop_ms;	/* what stop may take after a drain that ran out */
	bool control_waits;	/* EPOLLOUT is asked for */
} loop;

/* Any thread. */
static void
wake_loop(void)
{
	uint64_t one = 1;

	/* EAGAIN: the counter is full, and the loop wakes anyway. Else a driver has
	 * closed what is ours. */
	if (write(loop.wake, &one, sizeof(one)) < 0 && errno != EAGAIN)
		abort();
}

/* Any thread: requests are free again, or the last worker has left. */
static void
wake_fed(void)
{
	atomic_store(&loop.fed, true);
	wake_loop();
}

static void
adopt(struct control_message *m)
{
	const char *refused = "no_descriptor";

	if (m->fd >= 0)
		refused = conn_adopt(m->fd, m->number, m->peer, m->welcome, m->welcome_len, m->allowed);
	else
		free(m->allowed);
	m->fd = -1;
	if (refused == NULL)
		say_number("adopted", m->number);
	else
		say_refused(m->number, refused);
}

static void
begin_stop(uint32_t ms)
{
	if (loop.phase >= STOPPING)
		return;
	loop.phase = STOPPING;
	loop.phase_ends = now_ns() + ms * MS;
	conns_stop();
}

static void
begin_drain(uint32_t ms)
{
	if (loop.phase != SERVING)
		return;
	loop.phase = DRAINING;
	loop.phase_ends = now_ns() + ms * MS;
	loop.stop_ms = ms;
	conns_drain();
}

static void
obey(struct control_message *m)
{
	switch (m->kind) {
	case CONTROL_CONN:
		adopt(m);
		break;
	case CONTROL_DRAIN:
		begin_drain(m->ms);
		break;
	case CONTROL_STOP:
		begin_stop(m->ms);
		break;
	case CONTROL_LEVEL:
		log_level_set(m->level);
		break;
	case CONTROL_PING:
		say_number("pong", m->number);
		break;
	case CONTROL_QUARANTINE:
		quarantine_add(&m->quarantined);
		break;
	case CONTROL_NONE:
		break;
	}
	if (m->fd >= 0)
		close(m->fd);
}

static void
on_control(uint32_t events)
{
	struct control_message m;

	if (events & EPOLLIN) {
		if (!control_receive(&m))
			control_abandoned();
		obey(&m);
	}
}

static void
on_wake(void)
{
	uint64_t count;

	if (read(loop.wake, &count, sizeof(count)) < 0)
		return;
	if (atomic_exchange(&loop.fed, false))
		conns_fed();
}

static void
watch_control(bool waits)
{
	struct epoll_event e = { .events = EPOLLIN | (waits ? EPOLLOUT : 0), .data.u64 = CONTROL_TOKEN };

	if (waits != loop.control_waits)
		epoll_ctl(loop.epoll, EPOLL_CTL_MOD, CONTROL_FD, &e);
	loop.control_waits = waits;
}

/* Milliseconds to sleep: until `when` (0: for ever), rounded up. */
static int
sleep_ms(uint64_t when, uint64_t now)
{
	uint64_t ms = when > now ? (when - now + MS - 1) / MS : 0;

	if (when == 0)
		return -1;
	return ms < INT_MAX ? (int)ms : INT_MAX;
}

/* Move through the phases; true: all is done. */
static bool
advance(uint64_t now)
{
	bool late = loop.phase_ends != 0 && now >= loop.phase_ends;

	if (loop.phase == DRAINING && (conns_count() == 0 || late)) {
		if (conns_count() == 0)
			say("drained");
		begin_stop(loop.stop_ms);
		late = false;
	}
	if (loop.phase == STOPPING && conns_count() == 0) {
		loop.phase = LEAVING;	/* casts still run; the limit still holds */
		pool_leave(loop.pool);
	}
	if (loop.phase >= STOPPING && late) {
		conns_give_up();
		log_event(GD_WARNING, "stop_limit", NULL, NULL);
		control_flush();
		_exit(0);	/* a worker is still in the driver: nothing can be destroyed */
	}
	return loop.phase == LEAVING && pool_left(loop.pool);
}

/* Of two times, 0: none. */
static uint64_t
sooner(uint64_t a, uint64_t b)
{
	return a == 0 || (b != 0 && b < a) ? b : a;
}

/* Until all is done (NULL), or this thread has become a worker. Begins with what its predecessor left. */
static struct worker *
serve(void)
{
	struct epoll_event events[EVENTS];
	bool more = true;
	struct worker *become = pool_run_short(loop.pool, &more);
	uint64_t now = now_ns(), when = 0;

	while (become == NULL && !advance(now)) {
		int n, ms = more ? 0 : sleep_ms(when, now);
		if (loop.phase_ends != 0) {
			int left = sleep_ms(loop.phase_ends, now);
			ms = ms < 0 || left < ms ? left : ms;
		}
		watch_control(control_flush());
		recorder_loop(now, LOOP_WAITS);
		n = epoll_wait(loop.epoll, events, EVENTS, ms);
		if (n < 0 && errno != EINTR)
			abort();	/* a driver has closed what is ours */
		recorder_loop(now_ns(), 0);
		for (int i = 0; i < n; i++) {
			if (events[i].data.u64 == CONTROL_TOKEN)
				on_control(events[i].events);
			else if (events[i].data.u64 == WAKE_TOKEN)
				on_wake();
			else
				conn_event(events[i].data.u64, events[i].events);
		}
		more = conns_attend();
		if ((become = pool_run_short(loop.pool, &more)) != NULL)
			break;
		now = now_ns();
		when = sooner(conns_tick(now), pool_watch(loop.pool, now));
	}
	return become;
}

static int
set_up(void)
{
	struct epoll_event control = { .events = EPOLLIN, .data.u64 = CONTROL_TOKEN };
	struct epoll_event wake = { .events = EPOLLIN, .data.u64 = WAKE_TOKEN };
	struct pool_hooks pool_hooks = {
		.done = conn_done, .back = conn_back, .flush = conns_flush, .flush_one = conns_flush_one, .lead = serve, .wake = wake_fed,
	};
	struct conns_hooks conns_hooks = { .notify = wake_loop, .closed = say_closed };

	if ((loop.epoll = epoll_create1(EPOLL_CLOEXEC)) < 0
	    || (loop.wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0
	    || epoll_ctl(loop.epoll, EPOLL_CTL_ADD, CONTROL_FD, &control) != 0
	    || epoll_ctl(loop.epoll, EPOLL_CTL_ADD, loop.wake, &wake) != 0)
		return -1;
	loop.pool = pool_new(loop.driver, loop.start, pool_hooks);
	if (loop.pool == NULL)
		return -1;
	return conns_init(loop.start, loop.driver, loop.pool, loop.epoll, conns_hooks);
}

/* Threads that were written off are still in the driver: nothing can be destroyed. */
static _Noreturn void
leave_them(void)
{
	log_event(GD_WARNING, "workers_left_behind", NULL, NULL);
	control_drain();
	_exit(0);
}

int
loop_run(const struct start *start, struct driver *driver)
{
	loop.start = start;
	loop.driver = driver;
	if (set_up() != 0) {
		fprintf(stderr, "gendriver-host: cannot start the workers: %s\n", strerror(errno));
		return 111;
	}
	if (!say_ready(driver))
		return control_refuse("the names of the driver's commands and atoms take more than 64 KiB");
	if (pool_serve(loop.pool) != 0) {
		fprintf(stderr, "gendriver-host: cannot start the loop: %s\n", strerror(errno));
		return 111;
	}
	if (!pool_free(loop.pool))
		leave_them();
	driver_close(driver);
	control_drain();
	return 0;
}
