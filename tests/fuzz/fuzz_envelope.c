/* SPDX-License-Identifier: MIT */
/* The envelope of any valid term: what it names lies within the frame and is valid itself. */
#include <stdlib.h>

#include "envelope.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void
within(const unsigned char *part, size_t part_len, const uint8_t *data, size_t len)
{
	if (part != NULL && (part < data || part_len > len || part + part_len > data + len))
		abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static const struct etf_limits limits = { 40, 5000, 64 };
	struct envelope e;
	struct etf_check c;
	int code;

	etf_check_begin(&c, &limits, data, len, 1);
	if (etf_check_run(&c, UINT32_MAX) == 0) {
		code = envelope_parse(&c, data, len, &e);
		if (code != 0 && code != ENV_BAD_ENVELOPE && code != ENV_BAD_REQUEST)
			abort();
		if (code == 0 && e.kind == ENV_CREDIT && e.parts == 0)
			abort();
		if (code == 0 && e.id > 0x7fffffff)
			abort();
		within(e.params, e.params_len, data, len);
		within(e.trace, e.trace_len, data, len);
		if (e.params != NULL && etf_check_all(&limits, e.params, e.params_len, 0) != 0)
			abort();
	}
	etf_check_end(&c);
	return 0;
}
