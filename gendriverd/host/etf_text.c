/* SPDX-License-Identifier: MIT */
/* Text in terms, of etf.h: UTF-8, and the numbers that a FLOAT_EXT spells out. */
#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "etf.h"
#include "etf_tags.h"

#define HIGH_BITS 0x8080808080808080u

/* Bytes of the UTF-8 character at p, which is none of ASCII, or 0. */
static size_t
utf8_char(const unsigned char *p, size_t left)
{
	size_t size = p[0] < 0xc2 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : p[0] < 0xf5 ? 4 : 0;

	if (size == 0 || left < size)
		return 0;
	for (size_t i = 1; i < size; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f)
	    || (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f))
		return 0;	/* overlong, a surrogate, beyond Unicode */
	return size;
}

int64_t
etf_utf8_length(const unsigned char *text, size_t len)
{
	int64_t chars = 0;
	uint64_t eight;
	size_t i = 0, n;

	while (i < len) {
		if (len - i >= sizeof(eight)) {
			memcpy(&eight, text + i, sizeof(eight));
			if ((eight & HIGH_BITS) == 0) {
				i += sizeof(eight);
				chars += sizeof(eight);
				continue;
			}
		}
		if ((n = text[i] < 0x80 ? 1 : utf8_char(text + i, len - i)) == 0)
			return -1;
		i += n;
		chars++;
	}
	return chars;
}

static const char *
digits(const char *s)
{
	const char *begin = s;

	while (*s >= '0' && *s <= '9')
		s++;
	return s > begin ? s : NULL;
}

static const char *
sign_and_digits(const char *s)
{
	return digits(*s == '+' || *s == '-' ? s + 1 : s);
}

/* As erl prints it: digits on both sides of the point. */
static int
is_float_text(const char *s)
{
	if ((s = sign_and_digits(s)) == NULL || *s != '.' || (s = digits(s + 1)) == NULL)
		return 0;
	if ((*s == 'e' || *s == 'E') && (s = sign_and_digits(s + 1)) == NULL)
		return 0;
	return *s == '\0';
}

int
etf_float_text(const unsigned char *text, double *value)
{
	char copy[ETF_FLOAT_TEXT], *end;
	double d;

	memcpy(copy, text, sizeof(copy));
	if (memchr(copy, '\0', sizeof(copy)) == NULL || !is_float_text(copy))
		return ETF_BAD_TERM;
	d = strtod(copy, &end);
	if (*end == '.') {	/* a driver has chosen a locale with a comma */
		*end = localeconv()->decimal_point[0];
		d = strtod(copy, &end);
	}
	if (*end != '\0' || !isfinite(d))
		return ETF_BAD_TERM;
	*value = d;
	return 0;
}
