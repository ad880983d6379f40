/* SPDX-License-Identifier: MIT */
/*
 * Every way a driver ends its host or does not come back, and the means to test
 * that without sleeping: `block` and what begins so wait for a permit of `release`, `waiting` says
 * when as many requests as asked are inside a command that waits.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "entries.h"
#include "gen_driver.h"

#define UNCHECKED __attribute__((noinline, no_sanitize("undefined")))	/* it is meant */

enum {
	SEGV = 1, ABORT, EXIT, BUS, FPE, ILL, STACK, DOUBLE_FREE, SEGV_THREAD,
	HANG = 10, SLEEP_UNTIL_CANCELLED, BLOCK, RELEASE, ORDER, ORDER_GET,
	WAITING, PID, HANG_QUIET, KILL, CLOSE_FDS, LEAVE_CHILD, SPIN_UNTIL_CANCELLED, SEGV_SENT, EAT, HANG_DEAF,
	BLOCK_SEGV, BLOCK_SUM, LEAVE_DAEMON,
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;	/* guards what follows */
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static long waiting, permits;

/* --- ends ---------------------------------------------------------------- */

UNCHECKED static void
segv(void)
{
	volatile uintptr_t nowhere = 16;

	*(volatile int *)nowhere = 1;
}

static void *
segv_thread(void *unused)
{
	segv();
	return unused;
}

/* A page of a file that has none. */
static void
bus(void)
{
	int fd = memfd_create("empty", MFD_CLOEXEC);
	volatile char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	page[0] = 1;
}

UNCHECKED static int
fpe(void)
{
	volatile int one = 1, zero = 0, result;	/* or the compiler finds a way round */

	result = one / zero;
	return result;
}

UNCHECKED static long
deeper(volatile char *above, long depth)
{
	volatile char frame[1024];

	frame[depth % 1024] = above[0];
	return depth == 0 ? 0 : deeper(frame, depth - 1) + frame[0];
}

static void
double_free(void)
{
	void *volatile p = malloc(64);

	free(p);
	free(p);
}

static void
in_a_thread(void)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, segv_thread, NULL) == 0)
		pthread_join(thread, NULL);
}

static void
close_fds(void)
{
	for (int fd = 3; fd < 65536; fd++)
		close(fd);
}

/* --- waits --------------------------------------------------------------- */

static void
count_waiting(long change)
{
	pthread_mutex_lock(&lock);
	waiting += change;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
}

static void
hang(int quiet)
{
	volatile int forever = 1;

	count_waiting(1);
	while (forever)
		if (quiet)
			pause();
}

/* No signal that can be blocked gets through. */
static void
hang_deaf(void)
{
	sigset_t all;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, NULL);
	hang(1);
}

static void
until_cancelled(gd_res_t *res, int quiet)
{
	static const struct timespec nap = { .tv_nsec = 1000000 };

	count_waiting(1);
	while (!gd_cancelled())
		if (quiet)
			nanosleep(&nap, NULL);
	count_waiting(-1);
	gd_put_tuple(&res->out, 2);
	gd_put_atom(&res->out, "ok");
	gd_put_atom(&res->out, "cancelled");
}

static void
block(void)
{
	count_waiting(1);
	pthread_mutex_lock(&lock);
	while (permits == 0)
		pthread_cond_wait(&changed, &lock);
	permits--;
	pthread_mutex_unlock(&lock);
	count_waiting(-1);
}

/* N permits; [] is one. */
static void
release(gd_req_t *req)
{
	int64_t n = 1;

	gd_get_i64(&req->in, &n);
	pthread_mutex_lock(&lock);
	permits += n;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
}

/* Answers once N requests wait; [] is one. */
static void
await_waiting(gd_req_t *req)
{
	int64_t n = 1;

	gd_get_i64(&req->in, &n);
	pthread_mutex_lock(&lock);
	while (waiting < n)
		pthread_cond_wait(&changed, &lock);
	pthread_mutex_unlock(&lock);
}

/* --- the rest -------------------------------------------------------------- */

static void
put_ok(gd_res_t *res, int64_t number)
{
	gd_put_tuple(&res->out, 2);
	gd_put_atom(&res->out, "ok");
	gd_put_i64(&res->out, number);
}

/* A child that holds every descriptor and never leaves: {ok, Pid}. */
static void
leave_child(gd_res_t *res)
{
	pid_t child = fork();

	if (child == 0)
		for (;;)
			pause();
	put_ok(res, child);
}

/* One that has left the process group, as a daemon does: its parent is gone at once. Its number through a pipe. */
static void
leave_daemon(gd_res_t *res)
{
	int ends[2];
	pid_t child, number = 0;

	if (pipe(ends) != 0)
		abort();
	if ((child = fork()) == 0) {
		setsid();
		if (fork() != 0)
			_exit(0);
		number = getpid();
		if (write(ends[1], &number, sizeof(number)) != sizeof(number))
			_exit(1);
		for (;;)
			pause();
	}
	waitpid(child, NULL, 0);
	if (read(ends[0], &number, sizeof(number)) != sizeof(number))
		abort();
	close(ends[0]);
	close(ends[1]);
	put_ok(res, number);
}

/* N: take N bytes for good, every page touched. */
static void
eat(gd_req_t *req, gd_res_t *res)
{
	int64_t size = 0;
	char *volatile eaten;

	gd_get_i64(&req->in, &size);
	if ((eaten = malloc((size_t)size)) == NULL) {
		error_set(res, GD_ERR_MEMORY);
		return;
	}
	memset(eaten, 1, (size_t)size);
	put_ok(res, size);
}

static void
dispatch(gd_req_t *req, gd_res_t *res, void *drv_state, void *trd_state)
{
	volatile char top = 0;

	(void)drv_state, (void)trd_state;
	switch (req->cmd) {
	case SEGV: segv(); break;
	case ABORT: abort();
	case EXIT: exit(0);
	case BUS: bus(); break;
	case FPE: fpe(); break;
	case ILL: __builtin_trap();
	case STACK: deeper(&top, 1L << 40); break;
	case DOUBLE_FREE: double_free(); break;
	case SEGV_THREAD: in_a_thread(); break;
	case HANG: hang(0); break;
	case SLEEP_UNTIL_CANCELLED: until_cancelled(res, 1); break;
	case BLOCK: block(); break;
	case RELEASE: release(req); break;
	case ORDER: order(req, res); break;
	case ORDER_GET: order_get(req, res); break;
	case WAITING: await_waiting(req); break;
	case PID: put_ok(res, getpid()); break;
	case HANG_QUIET: hang(1); break;
	case KILL: kill(getpid(), SIGKILL); break;
	case CLOSE_FDS: close_fds(); break;
	case LEAVE_CHILD: leave_child(res); break;
	case LEAVE_DAEMON: leave_daemon(res); break;
	case SPIN_UNTIL_CANCELLED: until_cancelled(res, 0); break;
	case SEGV_SENT: kill(getpid(), SIGSEGV); break;
	case EAT: eat(req, res); break;
	case HANG_DEAF: hang_deaf(); break;
	case BLOCK_SEGV: block(); segv(); break;
	case BLOCK_SUM: block(); sum(req, res); break;
	default: error_set(res, "command");
	}
}

static const gd_command commands[] = {
	{ "segv", SEGV }, { "abort", ABORT }, { "exit", EXIT }, { "bus", BUS }, { "fpe", FPE }, { "ill", ILL },
	{ "stack", STACK }, { "double_free", DOUBLE_FREE }, { "segv_thread", SEGV_THREAD }, { "hang", HANG },
	{ "sleep_until_cancelled", SLEEP_UNTIL_CANCELLED }, { "block", BLOCK }, { "release", RELEASE },
	{ "order", ORDER }, { "order_get", ORDER_GET }, { "waiting", WAITING }, { "pid", PID },
	{ "hang_quiet", HANG_QUIET }, { "kill", KILL }, { "close_fds", CLOSE_FDS },
	{ "leave_child", LEAVE_CHILD }, { "spin_until_cancelled", SPIN_UNTIL_CANCELLED },
	{ "segv_sent", SEGV_SENT }, { "eat", EAT }, { "hang_deaf", HANG_DEAF },
	{ "block_segv", BLOCK_SEGV }, { "block_sum", BLOCK_SUM }, { "leave_daemon", LEAVE_DAEMON }, { NULL, 0 },
};
static const char *const atoms[] = { "ok", "error", "cancelled", "badarg", "command", GD_ERR_MEMORY, NULL };

GD_DRIVER(.dispatch = dispatch, .commands = commands, .atoms = atoms)
