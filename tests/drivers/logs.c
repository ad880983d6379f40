/* SPDX-License-Identifier: MIT */
/* Logs in every way a log has to survive: all levels, a thread of its own, too long, control bytes, a flood. */
#include <pthread.h>
#include <string.h>

#include "gen_driver.h"

enum { LEVELS = 1, THREAD = 2, LONG = 3, UGLY = 4, FLOOD = 5, TEXT = 6 };

static void *
from_a_thread(void *unused)
{
	gd_log(GD_INFO, "from a thread of the driver");
	return unused;
}

static void
levels(void)
{
	gd_log(GD_DEBUG, "a debug line");
	gd_log(GD_INFO, "an info line");
	gd_log(GD_WARNING, "a warning line, %d%%", 50);
	gd_log(GD_ERROR, "an error line");
}

static void
thread(void)
{
	pthread_t id;

	if (pthread_create(&id, NULL, from_a_thread, NULL) == 0)
		pthread_join(id, NULL);
}

/* 5,000 bytes; the 1,000th lies inside a two-byte character. */
static void
long_line(void)
{
	char text[5001];

	for (size_t i = 0; i < 5000; i++)
		text[i] = i % 2 == 0 ? 'l' : 'o';
	text[999] = '\xc3';
	text[1000] = '\xa9';
	text[5000] = '\0';
	gd_log(GD_INFO, "%s", text);
}

static void
ugly(void)
{
	gd_log(GD_INFO, "one\ntwo\r\nthree");
	gd_log(GD_INFO, "\x1b[31mred\x1b[0m");
	gd_log(GD_INFO, "latin caf\xe9, and \x01\x7f");
	gd_log(GD_INFO, "%s", "");
	gd_log((enum gd_level)99, "of no level");
}

static void
flood(void)
{
	for (int i = 0; i < 100000; i++)
		gd_log(GD_INFO, "flood %d", i);
}

/* The given text at level info. */
static void
text(gd_req_t *req, gd_res_t *res)
{
	char line[2000];

	if (gd_get_text(&req->in, line, sizeof(line), NULL) != 0)
		error_set(res, "badarg");
	else
		gd_log(GD_INFO, "%s", line);
}

static void
dispatch(gd_req_t *req, gd_res_t *res, void *drv_state, void *trd_state)
{
	(void)drv_state, (void)trd_state;
	switch (req->cmd) {
	case LEVELS: levels(); break;
	case THREAD: thread(); break;
	case LONG: long_line(); break;
	case UGLY: ugly(); break;
	case FLOOD: flood(); break;
	case TEXT: text(req, res); break;
	default: error_set(res, "command");
	}
}

static const gd_command commands[] = {
	{ "levels", LEVELS }, { "thread", THREAD }, { "long", LONG }, { "ugly", UGLY }, { "flood", FLOOD },
	{ "text", TEXT }, { NULL, 0 },
};

GD_DRIVER(.dispatch = dispatch, .commands = commands)
