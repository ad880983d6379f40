/* SPDX-License-Identifier: MIT */
/* A test is an expression; the last line says how many held. */
#ifndef CHECK_H
#define CHECK_H

#include <stdio.h>

static int passed, failed;

/* What is tested just now: part of every complaint. */
static const char *about = "";

#define CHECK(expression) do {						\
	if (expression) {						\
		passed++;						\
	} else {							\
		failed++;						\
		printf("%s:%d: %s: %s\n", __FILE__, __LINE__, about, #expression); \
	}								\
} while (0)

static inline int
check_summary(void)
{
	printf("%d passed, %d failed\n", passed, failed);
	return failed > 0 || passed == 0;
}

#endif
