/* SPDX-License-Identifier: MIT */
/* gd_log and the host's own lines. */
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "control.h"
#include "log.h"
#include "running.h"

#define TEXT_MAX 1000

static const char *const names[] = { "debug", "info", "warning", "error" };
static _Atomic int least = GD_INFO;
static _Atomic uint64_t dropped;

void
log_level_set(int level)
{
	atomic_store(&least, level);
}

int
log_level_of(const char *name, size_t len)
{
	for (int i = 0; i < 4; i++)
		if (strlen(names[i]) == len && memcmp(names[i], name, len) == 0)
			return i;
	return -1;
}

static void
put_number(gd_out *m, const char *key, uint64_t n)
{
	gd_put_atom(m, key);
	gd_put_u64(m, n);
}

static void
write_line(enum gd_level level, const char *event, const char *key, const char *text)
{
	struct running here = running_here();
	uint64_t lost = atomic_exchange(&dropped, 0);
	gd_out m;

	control_begin(&m, "log", 4);
	gd_put_atom(&m, names[level]);
	gd_put_text(&m, event);
	gd_put_map(&m, (text != NULL) + (lost > 0) + (here.request != NULL ? 3 : 0));
	if (text != NULL) {
		gd_put_atom(&m, key);
		gd_put_text(&m, text);
	}
	if (lost > 0)
		put_number(&m, "dropped", lost);
	if (here.request != NULL) {
		put_number(&m, "worker", here.seat);
		put_number(&m, "command", (uint64_t)here.request->cmd);
		put_number(&m, "request", here.request->number);
	}
	if (!control_try(&m))
		atomic_fetch_add(&dropped, lost + 1);
}

void
log_numbers(enum gd_level level, const char *event, const struct log_number *numbers, size_t n)
{
	gd_out m;

	if ((int)level < atomic_load(&least))
		return;
	control_begin(&m, "log", 4);
	gd_put_atom(&m, names[level]);
	gd_put_text(&m, event);
	gd_put_map(&m, n);
	for (size_t i = 0; i < n; i++)
		put_number(&m, numbers[i].key, numbers[i].n);
	if (!control_try(&m))
		atomic_fetch_add(&dropped, 1);
}

void
log_event(enum gd_level level, const char *event, const char *key, const char *text)
{
	if ((int)level >= atomic_load(&least))
		write_line(level, event, key, text);
}

void
gd_log(enum gd_level level, const char *format, ...)
{
	char text[TEXT_MAX + 1];
	va_list arguments;

	if ((int)level < atomic_load(&least) || level > GD_ERROR)
		return;
	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	write_line(level, "driver_log", "message", text);
}
