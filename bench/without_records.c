/* SPDX-License-Identifier: MIT */
/*
 * Recorder and statistics that note nothing: the linker leads a host's calls here
 * (--wrap, compiled.py), so that what noting costs is the difference of two hosts. Such
 * a host serves; nobody could say what became of its calls when it died.
 */
#include <stdint.h>

struct sample;
struct slot;

void __wrap_stats_add(unsigned seat, const struct sample *s);
void __wrap_slot_set(struct slot *s, unsigned state, unsigned seat);
void __wrap_slot_done(struct slot *s);
uint32_t __wrap_slot_check(const struct slot *s);
void __wrap_recorder_loop(uint64_t now, uint64_t waits);

void
__wrap_stats_add(unsigned seat, const struct sample *s)
{
	(void)seat;
	(void)s;
}

void
__wrap_slot_set(struct slot *s, unsigned state, unsigned seat)
{
	(void)s;
	(void)state;
	(void)seat;
}

void
__wrap_slot_done(struct slot *s)
{
	(void)s;
}

uint32_t
__wrap_slot_check(const struct slot *s)
{
	(void)s;
	return 0;
}

void
__wrap_recorder_loop(uint64_t now, uint64_t waits)
{
	(void)now;
	(void)waits;
}
