/* SPDX-License-Identifier: MIT */
/*
 * The work that every peer does for a request, so that what is compared is the way to it and back.
 * Commands: SUM a list of integers -> {ok, Sum}; ECHO any term -> {ok, Term}; SPIN microseconds -> {ok, Microseconds};
 * MIXED {Short, Long, Every} -> {ok, Spent}, where one call in Every takes Long instead of Short; COUNT -> {ok, N}, the
 * SUMs so far; PARTS {Bytes, Count} -> ok, behind so many parts, in the driver alone.
 */
#ifndef BENCH_WORK_H
#define BENCH_WORK_H

#include <stdatomic.h>
#include <stdint.h>
#include <time.h>

enum { SUM = 1, ECHO, SPIN, MIXED, COUNT, PARTS };

/* CPU time of this thread: two threads on one CPU, or a thread that is pushed aside, must not do less for it. */
static inline int64_t
work_clock(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

/* Spend this much CPU. A turn is well below a microsecond, so that it does not end late. */
static inline void
work_spin(int64_t microseconds)
{
	int64_t end = work_clock() + microseconds * 1000;
	volatile uint64_t value = 88172645463325252;

	while (work_clock() < end)
		for (int turn = 0; turn < 100; turn++)
			value = value * 6364136223846793005 + 1442695040888963407;
}

/* Any thread. What was spent. */
static inline int64_t
work_mixed(int64_t brief, int64_t lengthy, int64_t every)
{
	static atomic_llong calls;
	int64_t number = atomic_fetch_add(&calls, 1) + 1;
	int64_t spend = every > 0 && number % every == 0 ? lengthy : brief;

	work_spin(spend);
	return spend;
}

#endif
