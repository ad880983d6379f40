/* SPDX-License-Identifier: MIT */
/* The validator: the same verdict in turns as in one go, and what it takes can be skipped. */
#include <stdlib.h>

#include "etf.h"
#include "mutate_term.h"
#include "term.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static int
in_turns(const struct etf_limits *limits, const uint8_t *data, size_t len, uint32_t steps)
{
	struct etf_check c;
	int code;

	etf_check_begin(&c, limits, data, len, 0);
	while ((code = etf_check_run(&c, steps)) == ETF_AGAIN)
		continue;
	etf_check_end(&c);
	return code;
}

size_t
LLVMFuzzerCustomMutator(uint8_t *data, size_t len, size_t most, unsigned int seed)
{
	srand(seed);
	return seed % 2 == 0 ? LLVMFuzzerMutate(data, len, most) : mutate_term(data, len, most, 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static const struct etf_limits limits = { 300, 5000, 64 };
	int code = etf_check_all(&limits, data, len, 0);
	gd_in in;

	if (code > 0 || code != in_turns(&limits, data, len, 1) || code != in_turns(&limits, data, len, 3))
		abort();
	if (code != 0)
		return 0;
	gd_in_init(&in, data, len);
	in.whole = NULL;	/* so that it has to count */
	if (gd_skip(&in) != 0 || in.at != in.end)
		abort();
	return 0;
}
