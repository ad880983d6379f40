/* SPDX-License-Identifier: MIT */
/* Reading the files of tests/vectors: fields between tabs, bytes as hex, # comments. */
#ifndef VECTORS_H
#define VECTORS_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "etf.h"

#define VECTOR_FIELDS 5

/* The limits that the vectors are made for. */
static const struct etf_limits vector_limits = { 128, 1000000, 4096 };

struct vector {
	char *line;
	const char *field[VECTOR_FIELDS];	/* name, hex, verdict, more; missing: "" */
	unsigned char *data;	/* malloc'ed to size, so that ASan sees a read beyond */
	size_t len;
};

static inline int
hex_digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* malloc'ed; NULL: not hex. */
static inline unsigned char *
from_hex(const char *hex, size_t *len)
{
	unsigned char *data = malloc(strlen(hex) / 2 + 1);

	if (data == NULL)
		return NULL;
	for (*len = 0; hex_digit(hex[0]) >= 0 && hex_digit(hex[1]) >= 0; hex += 2)
		data[(*len)++] = (unsigned char)(hex_digit(hex[0]) << 4 | hex_digit(hex[1]));
	if (*hex != '\0') {
		free(data);
		return NULL;
	}
	return realloc(data, *len > 0 ? *len : 1);
}

static inline void
split(struct vector *v)
{
	char *rest = v->line;

	v->line[strcspn(v->line, "\n")] = '\0';
	for (int i = 0; i < VECTOR_FIELDS; i++)
		v->field[i] = rest != NULL ? strsep(&rest, "\t") : "";
	v->data = from_hex(v->field[1], &v->len);
}

/* Calls `test` with every vector of dir/name; how many, or -1: unreadable. */
static inline int
each_vector(const char *dir, const char *name, void (*test)(const struct vector *))
{
	struct vector v = { .line = NULL };
	char path[4096];
	size_t room = 0;
	int n = 0;
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	if ((f = fopen(path, "r")) == NULL)
		return -1;
	for (; getline(&v.line, &room, f) > 0; n++) {
		if (v.line[0] == '#' || v.line[0] == '\n')
			continue;
		split(&v);
		if (v.data == NULL) {
			n = -1;
			break;
		}
		test(&v);
		free(v.data);
	}
	free(v.line);
	fclose(f);
	return n;
}

#endif
