/* SPDX-License-Identifier: MIT */
/*
 * Keeps the books on what was executed: each request's integer goes to the file
 * named by the setting `ledger`, 8 bytes, big-endian, in one write at the file's
 * end. What is in the file ran, whatever the caller was told; exactly once each
 * is for the test to check. Commands: record N -> {ok, N}; record_and_die N.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gen_driver.h"

enum { RECORD = 1, RECORD_AND_DIE = 2 };

static int ledger;

static int
driver_open(void **drv_state, char *why, size_t room)
{
	const char *path = gd_config("ledger");

	*drv_state = NULL;
	if (path == NULL) {
		snprintf(why, room, "the setting ledger names no file");
		return -1;
	}
	if ((ledger = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644)) >= 0)
		return 0;
	snprintf(why, room, "ledger %s: %s", path, strerror(errno));
	return -1;
}

static int
record(int64_t number)
{
	unsigned char entry[8];

	for (int i = 0; i < 8; i++)
		entry[i] = (unsigned char)((uint64_t)number >> (56 - 8 * i));
	return write(ledger, entry, sizeof(entry)) == (ssize_t)sizeof(entry) ? 0 : -1;
}

static void
dispatch(gd_req_t *req, gd_res_t *res, void *drv_state, void *trd_state)
{
	int64_t number;

	(void)drv_state, (void)trd_state;
	if (req->cmd != RECORD && req->cmd != RECORD_AND_DIE) {
		error_set(res, "command");
		return;
	}
	if (gd_get_i64(&req->in, &number) != 0) {
		error_set(res, "badarg");
		return;
	}
	if (record(number) != 0) {
		error_set(res, "io");
		return;
	}
	if (req->cmd == RECORD_AND_DIE)
		abort();
	gd_put_tuple(&res->out, 2);
	gd_put_atom(&res->out, "ok");
	gd_put_i64(&res->out, number);
}

static const gd_command commands[] = {
	{ "record", RECORD }, { "record_and_die", RECORD_AND_DIE }, { NULL, 0 },
};

GD_DRIVER(.open = driver_open, .dispatch = dispatch, .commands = commands)
