/* SPDX-License-Identifier: MIT */
/*
 * A driver for tests of the pool: calls that wait at a gate (a FIFO named by the
 * setting "gate", which the test opens), and notes of what ran, in which order.
 */
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gen_driver.h"

enum { WAIT = 1, NOTE, NOTES, SEAT, UNTIL_CANCELLED, HAS_DEADLINE, THREAD_CALLS, NOTE_WAIT, SAY_ERROR, LOOP_WAITS };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;	/* guards notes */
static int64_t *notes;
static size_t noted;

static void
note(gd_req_t *req, gd_res_t *res)
{
	int64_t n;

	if (gd_get_i64(&req->in, &n) != 0) {
		error_set(res, "badarg");
		return;
	}
	pthread_mutex_lock(&lock);
	notes = realloc(notes, (noted + 1) * sizeof(*notes));
	notes[noted++] = n;
	pthread_mutex_unlock(&lock);
}

static void
wait_at_gate(gd_res_t *res)	/* NULL: in the loop, and what happens is not said */
{
	int fd = open(gd_config("gate"), O_RDONLY);
	char byte;

	if ((fd < 0 || read(fd, &byte, 1) < 0) && res != NULL)
		error_set(res, "gate");
	if (fd >= 0)
		close(fd);
}

static void
give_notes(gd_res_t *res)
{
	pthread_mutex_lock(&lock);
	gd_put_list(&res->out, noted);
	for (size_t i = 0; i < noted; i++)
		gd_put_i64(&res->out, notes[i]);
	if (noted > 0)
		gd_put_nil(&res->out);
	pthread_mutex_unlock(&lock);
}

static void
say_error(gd_req_t *req, gd_res_t *res)
{
	const void *text;
	char copy[256] = "";
	size_t size;

	if (gd_get_binary(&req->in, &text, &size) == 0 && size < sizeof(copy))
		memcpy(copy, text, size);
	error_set(res, copy);
}

static void
dispatch(gd_req_t *req, gd_res_t *res, void *drv, void *trd)
{
	int *calls = trd;

	(void)drv;
	++*calls;
	switch (req->cmd) {
	case WAIT:
		wait_at_gate(res);
		break;
	case NOTE:
		note(req, res);
		break;
	case NOTES:
		give_notes(res);
		break;
	case SEAT:
		gd_put_i64(&res->out, req->seat);
		break;
	case UNTIL_CANCELLED:
		while (!gd_cancelled())
			sched_yield();
		break;
	case HAS_DEADLINE:
		gd_put_bool(&res->out, gd_deadline() != 0);
		break;
	case THREAD_CALLS:
		gd_put_i64(&res->out, *calls);
		break;
	case NOTE_WAIT:
		note(req, res);
		wait_at_gate(res);
		break;
	case SAY_ERROR:
		say_error(req, res);
		break;
	case LOOP_WAITS:
		break;
	default:
		error_set(res, "command");
	}
}

/* What balance must never do. */
static unsigned int *
balance(int cmd, unsigned char syn, unsigned int *key)
{
	(void)syn, (void)key;
	if (cmd == LOOP_WAITS)
		wait_at_gate(NULL);
	return NULL;
}

static void *
thread_init(void)
{
	return calloc(1, sizeof(int));
}

/* Both leave a mark where the setting "marks" says, so that a test sees them run. */
static void
mark(const char *text)
{
	const char *path = gd_config("marks");
	int fd = path != NULL ? open(path, O_WRONLY | O_CREAT | O_APPEND, 0600) : -1;

	if (fd >= 0) {
		if (write(fd, text, 1) < 0)
			abort();
		close(fd);
	}
}

static void
thread_destroy(void *trd)
{
	free(trd);
	mark("t");
}

static void
destroy(void *drv)
{
	(void)drv;
	free(notes);
	mark("d");
}

static const gd_command commands[] = { { "wait", WAIT }, { "note", NOTE }, { NULL, 0 } };

GD_DRIVER(.dispatch = dispatch, .balance = balance, .thread_init = thread_init,
    .thread_destroy = thread_destroy, .destroy = destroy, .commands = commands)
