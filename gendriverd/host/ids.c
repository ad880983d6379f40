/* SPDX-License-Identifier: MIT */
/* The id table of ids.h. */
#include <stdlib.h>
#include <sys/random.h>

#include "ids.h"
#include "request.h"

#define FIRST_ROOM 32
#define MULTIPLIER 0x9E3779B1u

static uint32_t seed;

void
ids_seed(void)
{
	uint32_t drawn;

	if (getrandom(&drawn, sizeof(drawn), GRND_NONBLOCK) == sizeof(drawn))
		seed = drawn;
}

static size_t
home(const struct ids *s, uint32_t id)
{
	/* Knuth's multiplicative hash: the product's high bits. Ids that follow each other still do so with the seed. */
	return ((uint64_t)((id ^ seed) * MULTIPLIER) * s->room) >> 32;
}

static size_t
place(const struct ids *s, uint32_t id)
{
	size_t i = home(s, id);

	while (s->at[i] != NULL && s->at[i]->id != id)
		i = (i + 1) & (s->room - 1);
	return i;
}

static int
grow(struct ids *s)
{
	struct ids larger = { .len = s->len, .room = s->room ? 2 * s->room : FIRST_ROOM };

	if ((larger.at = calloc(larger.room, sizeof(*larger.at))) == NULL)
		return IDS_NOMEM;
	for (size_t i = 0; i < s->room; i++)
		if (s->at[i] != NULL)
			larger.at[place(&larger, s->at[i]->id)] = s->at[i];
	free(s->at);
	*s = larger;
	return 0;
}

int
ids_add(struct ids *s, struct request *r)
{
	size_t i;

	if (2 * (s->len + 1) > s->room && grow(s) != 0)
		return IDS_NOMEM;
	i = place(s, r->id);
	if (s->at[i] != NULL)
		return IDS_TAKEN;
	s->at[i] = r;
	s->len++;
	return 0;
}

struct request *
ids_find(const struct ids *s, uint32_t id)
{
	return s->len > 0 ? s->at[place(s, id)] : NULL;
}

bool
ids_remove(struct ids *s, const struct request *r)
{
	size_t hole, i;

	if (s->len == 0 || s->at[hole = place(s, r->id)] != r)
		return false;
	for (i = (hole + 1) & (s->room - 1); s->at[i] != NULL; i = (i + 1) & (s->room - 1)) {
		size_t from_home = (i - home(s, s->at[i]->id)) & (s->room - 1);
		size_t from_hole = (i - hole) & (s->room - 1);
		if (from_home >= from_hole) {
			s->at[hole] = s->at[i];
			hole = i;
		}
	}
	s->at[hole] = NULL;
	s->len--;
	return true;
}

void
ids_free(struct ids *s)
{
	free(s->at);
	*s = (struct ids){ 0 };
}
