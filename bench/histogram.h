/* SPDX-License-Identifier: MIT */
/* Times in buckets: sixteen for each power of two, so that a quantile is within 7 % of the truth. One thread. */
#ifndef BENCH_HISTOGRAM_H
#define BENCH_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_BUCKETS (16 * 61)

struct histogram {
	uint64_t count, buckets[HISTOGRAM_BUCKETS];
};

static inline void
histogram_add(struct histogram *h, uint64_t ns)
{
	unsigned power = ns < 16 ? 4 : 63 - (unsigned)__builtin_clzll(ns);

	h->count++;
	h->buckets[ns < 16 ? ns : 16 * (power - 3) + (ns >> (power - 4) & 15)]++;
}

/* ns: the middle of the bucket in which the quantile lies; 0 when nothing was added. */
static inline double
histogram_at(const struct histogram *h, double quantile)
{
	uint64_t before = 0, wanted = (uint64_t)(quantile * (double)h->count);

	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
		if ((before += h->buckets[i]) <= wanted)
			continue;
		return i < 16 ? i : (double)((16 + i % 16) * 2 + 1) * (double)(1ull << (i / 16 - 1)) / 2;
	}
	return 0;
}

#endif
