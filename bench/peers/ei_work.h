/* SPDX-License-Identifier: MIT */
/* The work of work.h on terms read and written by ei, for the C node and the port. */
#ifndef BENCH_EI_WORK_H
#define BENCH_EI_WORK_H

#include <ei.h>
#include <stdlib.h>

#include "../work.h"

static long long ei_sums;

static inline int
ei_sum(const char *buf, int *index, long long *sum)
{
	int type, size;
	long long number;

	*sum = 0;
	if (ei_get_type(buf, index, &type, &size) != 0)
		return -1;
	if (type == ERL_STRING_EXT) {		/* a list of bytes */
		char bytes[65536];

		if (ei_decode_string(buf, index, bytes) != 0)
			return -1;
		for (int i = 0; i < size; i++)
			*sum += (unsigned char)bytes[i];
		return 0;
	}
	if (ei_decode_list_header(buf, index, &size) != 0)
		return -1;
	for (; size > 0; size--) {
		if (ei_decode_longlong(buf, index, &number) != 0)
			return -1;
		*sum += number;
	}
	return 0;
}

static inline int
ei_spent(const char *buf, int *index, long long *spent)
{
	long long of[3];
	int arity;

	if (ei_decode_tuple_header(buf, index, &arity) != 0 || arity != 3)
		return -1;
	for (int i = 0; i < 3; i++)
		if (ei_decode_longlong(buf, index, &of[i]) != 0)
			return -1;
	*spent = work_mixed(of[0], of[1], of[2]);
	return 0;
}

/* The reply to `cmd` with the params at *index, appended to `out`. 0, or -1. */
static inline int
ei_work(long cmd, const char *buf, int *index, ei_x_buff *out)
{
	long long value = 0;
	int start = *index;

	if (ei_x_encode_tuple_header(out, 2) != 0 || ei_x_encode_atom(out, "ok") != 0)
		return -1;
	switch (cmd) {
	case SUM:
		ei_sums++;
		if (ei_sum(buf, index, &value) != 0)
			return -1;
		break;
	case ECHO:
		if (ei_skip_term(buf, index) != 0)
			return -1;
		return ei_x_append_buf(out, buf + start, *index - start);
	case SPIN:
		if (ei_decode_longlong(buf, index, &value) != 0)
			return -1;
		work_spin(value);
		break;
	case MIXED:
		if (ei_spent(buf, index, &value) != 0)
			return -1;
		break;
	case COUNT:
		value = ei_sums;
		break;
	default:
		return -1;
	}
	return ei_x_encode_longlong(out, value);
}

#endif
