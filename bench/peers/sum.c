/* SPDX-License-Identifier: MIT */
/* The sum of integers, for peers in Python: through ctypes, as who has C and no driver would. */
#include <stddef.h>
#include <stdint.h>

int64_t bench_sum(const int64_t *numbers, size_t count);

int64_t
bench_sum(const int64_t *numbers, size_t count)
{
	int64_t total = 0;

	for (size_t i = 0; i < count; i++)
		total += numbers[i];
	return total;
}
