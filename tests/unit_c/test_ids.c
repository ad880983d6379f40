/* SPDX-License-Identifier: MIT */
/* The table of calls in flight: who is in it is found, and ids made to collide do so for one seed alone. */
#include "../../gendriverd/host/ids.c"
#include "check.h"

#define MANY 2000u

static struct request requests[MANY];

/* What times m is 1, modulo 2^32; m is odd. */
static uint32_t
inverse(uint32_t m)
{
	uint32_t x = m;

	for (int i = 0; i < 5; i++)
		x *= 2 - m * x;
	return x;
}

/* Steps from its home to its place, of all. */
static size_t
steps(const struct ids *s)
{
	size_t sum = 0;

	for (size_t i = 0; i < s->room; i++)
		if (s->at[i] != NULL)
			sum += (i - home(s, s->at[i]->id)) & (s->room - 1);
	return sum;
}

/* All ids in it, found, and out again; how far they were from home. */
static size_t
fill(void)
{
	struct ids s = { 0 };
	size_t far, found = 0;

	for (size_t i = 0; i < MANY; i++)
		CHECK(ids_add(&s, &requests[i]) == 0);
	far = steps(&s);
	CHECK(ids_add(&s, &(struct request){ .id = requests[7].id }) == IDS_TAKEN);
	for (size_t i = 0; i < MANY; i += 2)
		CHECK(ids_remove(&s, &requests[i]) && !ids_remove(&s, &requests[i]));
	for (size_t i = 0; i < MANY; i++)
		found += ids_find(&s, requests[i].id) == (i % 2 == 0 ? NULL : &requests[i]);
	CHECK(found == MANY && s.len == MANY / 2);
	ids_free(&s);
	return far;
}

static void
check_collisions(void)
{
	static const uint32_t seeds[] = { 0x85EBCA6B, 0xC2B2AE35, 0x27D4EB2F };
	uint32_t back = inverse(MULTIPLIER);

	about = "collisions";
	for (uint32_t i = 0; i < MANY; i++)
		requests[i].id = i * back;	/* so all have the same home */
	CHECK(fill() == MANY * (MANY - 1) / 2);
	for (size_t i = 0; i < sizeof(seeds) / sizeof(seeds[0]); i++) {
		seed = seeds[i];
		CHECK(fill() < 4 * MANY);
	}
	about = "one after the other";
	for (uint32_t i = 0; i < MANY; i++)
		requests[i].id = 123456 + i;
	CHECK(fill() < MANY / 2);
}

static void
check_seed(void)
{
	uint32_t before = seed;

	about = "seed";
	ids_seed();
	CHECK(seed != before);	/* the same once in 4,294,967,296 times */
}

int
main(void)
{
	check_collisions();
	check_seed();
	return check_summary();
}
