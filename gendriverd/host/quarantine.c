/* SPDX-License-Identifier: MIT */
/* The table of quarantine.h. */
#include <string.h>

#include "clock.h"
#include "quarantine.h"

static struct quarantined entries[QUARANTINE_MOST];
static size_t used;	/* entries from here on were never in use */

static bool
same(const struct quarantined *a, const struct quarantined *b)
{
	return a->cmd == b->cmd && a->len == b->len && memcmp(a->digest, b->digest, SHA256_SIZE) == 0;
}

void
quarantine_add(const struct quarantined *entry)
{
	struct quarantined *place = &entries[0];

	for (size_t i = 0; i < used; i++) {
		if (same(&entries[i], entry)) {
			place = &entries[i];
			break;
		}
		if (entries[i].until < place->until)
			place = &entries[i];
	}
	if (used < QUARANTINE_MOST && !same(place, entry))
		place = &entries[used++];
	*place = *entry;
}

static __attribute__((noinline)) bool
is_held(int cmd, const unsigned char *params, size_t len)
{
	struct quarantined wanted = { .cmd = cmd, .len = len };
	bool hashed = false;
	uint64_t now = now_ns();

	for (size_t i = 0; i < used; i++) {
		if (entries[i].cmd != cmd || entries[i].len != len || entries[i].until <= now)
			continue;
		if (!hashed)
			sha256(params, len, wanted.digest);
		hashed = true;
		if (same(&entries[i], &wanted))
			return true;
	}
	return false;
}

bool
quarantine_holds(int cmd, const unsigned char *params, size_t len)
{
	return used > 0 && params != NULL && is_held(cmd, params, len);
}
