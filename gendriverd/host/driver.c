/* SPDX-License-Identifier: MIT */
/* Loading a driver, and saying in one sentence why it cannot be used. */
#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "driver.h"

/* A table must reach at least to dispatch; what is behind it may be absent. */
#define LEAST_SIZE (offsetof(gd_driver, dispatch) + sizeof(void *))

static int
refuse(char *why, size_t room, const char *format, const char *a, const char *b)
{
	snprintf(why, room, format, a, b);
	return -1;
}

static int
check_file(const char *path, char *why, size_t room)
{
	struct stat st;

	if (stat(path, &st) != 0)
		return refuse(why, room, "%s: %s", path, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return refuse(why, room, "%s: not a file%s", path, "");
	if (access(path, R_OK) != 0)
		return refuse(why, room, "%s: %s", path, strerror(errno));
	return 0;
}

/* A symbol of the driver itself, not of a library it links. */
static void *
own_symbol(void *lib, const char *name)
{
	struct link_map *map;
	Dl_info theirs, self;
	void *found = dlsym(lib, name);

	if (found == NULL || dlinfo(lib, RTLD_DI_LINKMAP, &map) != 0)
		return NULL;
	if (dladdr(found, &theirs) == 0 || dladdr(map->l_ld, &self) == 0)
		return NULL;
	return theirs.dli_fbase == self.dli_fbase ? found : NULL;
}

static int
take_table(struct driver *d, const gd_driver *table, const char *path, char *why, size_t room)
{
	char built[32];

	snprintf(built, sizeof(built), "%u", table->abi);
	if (table->abi != GD_ABI_VERSION)
		return refuse(why, room, "%s: was built for driver interface %s, this host has 1;"
		    " compile it with this release's headers", path, built);
	if (table->size < LEAST_SIZE || table->dispatch == NULL)
		return refuse(why, room, "%s: its GD_DRIVER has no %s", path, "dispatch");
	memset(&d->table, 0, sizeof(d->table));
	memcpy(&d->table, table, table->size < sizeof(d->table) ? table->size : sizeof(d->table));
	d->legacy = false;
	return 0;
}

static int
take_callbacks(struct driver *d, void *lib, const char *path, char *why, size_t room)
{
	static const char *const names[] = {
		"init", "destroy", "thread_init", "thread_destroy", "balance", "dispatch",
	};
	void *found[6];
	char missing[128] = "";
	size_t lacking = 0;

	for (size_t i = 0; i < 6; i++) {
		if ((found[i] = own_symbol(lib, names[i])) != NULL)
			continue;
		if (lacking++ > 0)
			strcat(missing, ", ");
		strcat(missing, names[i]);
	}
	if (lacking == 6)
		return refuse(why, room, "%s: is no driver: it has neither a GD_DRIVER table nor"
		    " the callbacks %s", path, missing);
	if (lacking > 0)
		return refuse(why, room, "%s: lacks the callback %s", path, missing);
	memset(&d->table, 0, sizeof(d->table));
	/* POSIX: dlsym's object pointer converts to a function pointer. */
	memcpy(&d->table.init, &found[0], sizeof(void *));
	memcpy(&d->table.destroy, &found[1], sizeof(void *));
	memcpy(&d->table.thread_init, &found[2], sizeof(void *));
	memcpy(&d->table.thread_destroy, &found[3], sizeof(void *));
	memcpy(&d->table.balance, &found[4], sizeof(void *));
	memcpy(&d->table.dispatch, &found[5], sizeof(void *));
	d->legacy = true;
	return 0;
}

int
driver_load(struct driver *d, const char *path, char *why, size_t room)
{
	const gd_driver *table;
	void *lib;

	if (check_file(path, why, room) != 0)
		return -1;
	if ((lib = dlopen(path, RTLD_NOW | RTLD_LOCAL)) == NULL) {
		/* dlerror mostly begins with the path already. */
		snprintf(why, room, "cannot load the driver: %s", dlerror());
		return -1;
	}
	if ((table = own_symbol(lib, "gd_driver_table")) != NULL)
		return take_table(d, table, path, why, room);
	return take_callbacks(d, lib, path, why, room);
}

/* Whether that is the command's name, or its number. */
static bool
is_command(const struct driver *d, const char *text, int cmd)
{
	char number[16];

	snprintf(number, sizeof(number), "%d", cmd);
	if (strcmp(text, number) == 0)
		return true;
	for (const gd_command *c = d->table.commands; c != NULL && c->name != NULL; c++)
		if (c->cmd == cmd && strcmp(c->name, text) == 0)
			return true;
	return false;
}

uint64_t
driver_max_run(const struct driver *d, int cmd)
{
	for (size_t i = 0; i < d->start->run_limit_count; i++)
		if (is_command(d, d->start->run_limits[i].command, cmd))
			return d->start->run_limits[i].ms * 1000000ull;
	return d->start->max_run_ms * 1000000ull;
}

static uint64_t
shortest_run(const struct start *s)
{
	uint32_t ms = s->max_run_ms;

	for (size_t i = 0; i < s->run_limit_count; i++)
		if (s->run_limits[i].ms != 0 && (ms == 0 || s->run_limits[i].ms < ms))
			ms = s->run_limits[i].ms;
	return ms * 1000000ull;
}

int
driver_open(struct driver *d, char *why, size_t room)
{
	d->shortest_run = shortest_run(d->start);
	snprintf(why, room, "the driver's open refused and gave no reason");
	if (d->table.open != NULL)
		return d->table.open(&d->state, why, room) == 0 ? 0 : -1;
	d->state = d->table.init != NULL ? d->table.init() : NULL;
	return 0;
}

void
driver_close(struct driver *d)
{
	if (d->table.destroy != NULL)
		d->table.destroy(d->state);
}

bool
driver_balance(const struct driver *d, const struct request *r, unsigned *key)
{
	unsigned *chosen;

	if (d->table.balance == NULL)
		return r->keyed;
	chosen = d->table.balance(r->cmd, r->syn, key);
	if (chosen == NULL)
		return r->keyed;
	*key = *chosen;
	return true;
}
