/* SPDX-License-Identifier: MIT */
/* The envelope of any valid term: what it names lies within the frame, is valid itself, and is what a walk from the
 * frame's first byte finds there. */
#include <stdlib.h>

#include "envelope.h"
#include "mutate_term.h"
#include "term.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void
within(const unsigned char *part, size_t part_len, const uint8_t *data, size_t len)
{
	if (part != NULL && (part < data || part_len > len || part + part_len > data + len))
		abort();
}

static void
expect_number(gd_in *in, uint64_t value)
{
	uint64_t found;

	if (gd_get_u64(in, &found) != 0 || found != value)
		abort();
}

/* {call, Id, Cmd, Params, Opts}, {cast, Cmd, ..}, {credit, Id, N}, .. without the validator's notes. */
static void
walk(const struct envelope *e, const uint8_t *data, size_t len)
{
	const void *params;
	size_t arity, size;
	gd_in in;

	gd_in_init(&in, data + 1, len - 1);
	if (gd_get_tuple(&in, &arity) != 0 || gd_skip(&in) != 0)
		abort();
	if (e->kind != ENV_CAST && e->kind != ENV_GOODBYE && e->kind != ENV_NOTES)
		expect_number(&in, e->id);
	if (e->kind == ENV_CREDIT)
		expect_number(&in, e->parts);
	if (e->kind == ENV_CALL || e->kind == ENV_CAST)
		expect_number(&in, (uint64_t)e->cmd);
	if (e->params != NULL && (gd_get_raw(&in, &params, &size) != 0 || params != e->params || size != e->params_len))
		abort();
}

size_t
LLVMFuzzerCustomMutator(uint8_t *data, size_t len, size_t most, unsigned int seed)
{
	srand(seed);
	return seed % 2 == 0 ? LLVMFuzzerMutate(data, len, most) : mutate_term(data, len, most, 1);
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
		if (code != ENV_BAD_ENVELOPE && (e.id > 0x7fffffff || e.cmd < 0 || e.cmd > 0x3fffffff))
			abort();
		if (code == 0)
			walk(&e, data, len);
		within(e.params, e.params_len, data, len);
		within(e.trace, e.trace_len, data, len);
		if (e.params != NULL && etf_check_all(&limits, e.params, e.params_len, 0) != 0)
			abort();
	}
	etf_check_end(&c);
	return 0;
}
