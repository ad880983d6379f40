/* SPDX-License-Identifier: MIT */
/* The commands of allowed.h. */
#include <stdlib.h>

#include "allowed.h"

#define COMMAND_MAX 0x3fffffff	/* docs/protocol.md */

static int
ascending(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static int
read_commands(gd_in *in, struct allowed *a)
{
	uint64_t command;

	for (uint32_t i = 0; i < a->n; i++) {
		if (gd_get_u64(in, &command) != 0 || command > COMMAND_MAX)
			return -1;
		a->commands[i] = (uint32_t)command;
	}
	return gd_get_end(in) == 0 ? 0 : -1;
}

int
allowed_read(gd_in *in, struct allowed **allowed)
{
	struct allowed *a;
	size_t n;

	if (gd_get_atom_is(in, "all") == 0) {
		*allowed = NULL;
		return 0;
	}
	if (gd_get_list(in, &n) != 0 || n > ALLOWED_MOST
	    || (a = malloc(sizeof(*a) + n * sizeof(a->commands[0]))) == NULL)
		return -1;
	a->n = (uint32_t)n;
	if (read_commands(in, a) != 0) {
		free(a);
		return -1;
	}
	qsort(a->commands, n, sizeof(a->commands[0]), ascending);
	*allowed = a;
	return 0;
}

bool
allowed_finds(const struct allowed *allowed, int cmd)
{
	uint32_t wanted = (uint32_t)cmd;

	return bsearch(&wanted, allowed->commands, allowed->n, sizeof(wanted), ascending) != NULL;
}
