/* SPDX-License-Identifier: MIT */
/* gd_config: a list that is written before there are threads, and then only read. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "gen_driver.h"
#include "settings.h"

struct setting {
	struct setting *next;
	char *key, *value;
};

static struct setting *settings;

int
settings_add(const void *key, size_t key_len, const void *value, size_t value_len)
{
	struct setting *s = calloc(1, sizeof(*s));

	if (s == NULL || (s->key = strndup(key, key_len)) == NULL
	    || (s->value = strndup(value, value_len)) == NULL) {
		if (s != NULL)
			free(s->key);
		free(s);
		return -1;
	}
	s->next = settings;
	settings = s;
	return 0;
}

const char *
gd_config(const char *key)
{
	for (struct setting *s = settings; s != NULL; s = s->next)
		if (strcmp(s->key, key) == 0)
			return s->value;
	return NULL;
}

long
gd_config_int(const char *key, long missing)
{
	const char *text = gd_config(key);
	char *end;
	long value;

	if (text == NULL || *text == '\0')
		return missing;
	errno = 0;
	value = strtol(text, &end, 10);
	return *end == '\0' && errno == 0 ? value : missing;
}
