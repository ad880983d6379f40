/* SPDX-License-Identifier: MIT */
/* What the fields of the daemon's messages hold, beside what gd_term.h reads. Each: 0 or -1. */
#ifndef HOST_FIELDS_H
#define HOST_FIELDS_H

#include <stdint.h>
#include <string.h>

#include "gd_term.h"

static inline int
get_u32(gd_in *in, uint32_t *value)
{
	uint64_t n;

	if (gd_get_u64(in, &n) != 0 || n > UINT32_MAX)
		return -1;
	*value = (uint32_t)n;
	return 0;
}

/* A copy, malloc'ed. *text is NULL, or it was said before, which is wrong. */
static inline int
get_text(gd_in *in, char **text)
{
	const void *data;
	size_t len;

	if (*text != NULL || gd_get_binary(in, &data, &len) != 0 || (*text = strndup(data, len)) == NULL)
		return -1;
	return 0;
}

#endif
