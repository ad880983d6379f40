/* SPDX-License-Identifier: MIT */
/* Writes to stdout and stderr, as C libraries do: without newline, very long lines, many, and bytes that are no text. */
#include <stdio.h>
#include <string.h>

#include "gen_driver.h"

enum { PARTIAL = 1, STDERR = 2, LONG = 3, LINES = 4, BINARY = 5, UNFLUSHED = 6 };

static void
long_line(void)
{
	static char line[100000];

	memset(line, 'x', sizeof(line));
	fwrite(line, 1, sizeof(line), stdout);
	fputc('\n', stdout);
}

/* N lines; [] is 1000. */
static void
lines(gd_req_t *req)
{
	int32_t count = 1000;

	gd_get_i32(&req->in, &count);
	for (int32_t i = 0; i < count; i++)
		printf("line %d\n", i);
}

static void
dispatch(gd_req_t *req, gd_res_t *res, void *drv_state, void *trd_state)
{
	static const char binary[] = "nul \0 esc \x1b[2J latin \xe9\n";

	(void)drv_state, (void)trd_state;
	switch (req->cmd) {
	case PARTIAL: printf("no newline here"); break;
	case STDERR: fprintf(stderr, "a word on stderr"); break;
	case LONG: long_line(); break;
	case LINES: lines(req); break;
	case BINARY: fwrite(binary, 1, sizeof(binary) - 1, stdout); break;
	case UNFLUSHED: printf("left in the buffer"); return;
	default: error_set(res, "command");
	}
	fflush(stdout);
}

static const gd_command commands[] = {
	{ "partial", PARTIAL }, { "stderr", STDERR }, { "long", LONG }, { "lines", LINES }, { "binary", BINARY },
	{ "unflushed", UNFLUSHED }, { NULL, 0 },
};

GD_DRIVER(.dispatch = dispatch, .commands = commands)
