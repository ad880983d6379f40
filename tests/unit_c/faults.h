/* SPDX-License-Identifier: MIT */
/* Memory that runs out, and a locale with a comma: scripts/native_checks.py links a test that includes this so
 * that both are asked here first. */
#ifndef FAULTS_H
#define FAULTS_H

#include <locale.h>
#include <stdlib.h>
#include <string.h>

static int allocations = -1;	/* that are had before the rest fail; -1: all are */
static const char *point;	/* of the locale; NULL: the process's own */

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *at, size_t size);
char *__real_strndup(const char *text, size_t most);
double __real_strtod(const char *text, char **end);
struct lconv *__real_localeconv(void);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *at, size_t size);
char *__wrap_strndup(const char *text, size_t most);
double __wrap_strtod(const char *text, char **end);
struct lconv *__wrap_localeconv(void);

static int
is_out(void)
{
	if (allocations < 0)
		return 0;
	return allocations == 0 || allocations-- == 0;
}

void *
__wrap_malloc(size_t size)
{
	return is_out() ? NULL : __real_malloc(size);
}

void *
__wrap_calloc(size_t n, size_t size)
{
	return is_out() ? NULL : __real_calloc(n, size);
}

void *
__wrap_realloc(void *at, size_t size)
{
	return is_out() ? NULL : __real_realloc(at, size);
}

char *
__wrap_strndup(const char *text, size_t most)
{
	return is_out() ? NULL : __real_strndup(text, most);
}

/* In a locale with a comma a point ends the number. */
double
__wrap_strtod(const char *text, char **end)
{
	char copy[64], *at;
	double value;

	if (point == NULL)
		return __real_strtod(text, end);
	strncpy(copy, text, sizeof(copy) - 1);
	copy[sizeof(copy) - 1] = '\0';
	if ((at = strchr(copy, '.')) != NULL)
		*at = '\0';
	else if ((at = strchr(copy, ',')) != NULL)
		*at = '.';
	value = __real_strtod(copy, &at);
	*end = (char *)text + (at - copy);
	return value;
}

struct lconv *
__wrap_localeconv(void)
{
	static struct lconv with_comma;

	if (point == NULL)
		return __real_localeconv();
	with_comma.decimal_point = (char *)point;
	return &with_comma;
}

#endif
