/* SPDX-License-Identifier: MIT */
/*
 * Verdicts for crosscheck.erl, which is at the other end of standard input and output. A packet, its length in
 * four bytes first, is terms, each behind its own length; the answer's, a byte for each: 0, or the negative code.
 * Arguments: depth, terms, bignum.
 */
#include <unistd.h>

#include "etf_tags.h"
#include "vectors.h"

/* False: there is no more. */
static int
read_all(unsigned char *at, size_t len)
{
	ssize_t n;

	for (; len > 0; at += n, len -= (size_t)n)
		if ((n = read(STDIN_FILENO, at, len)) <= 0)
			return 0;
	return 1;
}

static struct etf_limits limits;

/* Of a copy of just its size, so that ASan sees a read beyond. */
static unsigned char
verdict(const unsigned char *term, size_t len)
{
	unsigned char *copy = malloc(len > 0 ? len : 1);
	int code;

	memcpy(copy, term, len);
	code = etf_check_all(&limits, copy, len, 1);
	free(copy);
	return (unsigned char)-code;
}

/* Of all terms in the packet, in its place: how many. */
static size_t
verdicts(unsigned char *packet, size_t len)
{
	size_t n = 0, size;

	for (size_t at = 0; len - at >= 4; at += 4 + size) {
		if ((size = etf_u32(packet + at)) > len - at - 4)
			abort();
		packet[n++] = verdict(packet + at + 4, size);
	}
	return n;
}

int
main(int argc, char **argv)
{
	unsigned char head[4], *packet;
	size_t len;

	limits = vector_limits;
	if (argc == 4)
		limits = (struct etf_limits){ (uint32_t)atol(argv[1]), (uint32_t)atol(argv[2]), (uint32_t)atol(argv[3]) };
	while (read_all(head, sizeof(head))) {
		len = etf_u32(head);
		packet = malloc(len + 1);
		if (packet == NULL || !read_all(packet, len))
			return 1;
		len = verdicts(packet, len);
		for (int i = 0; i < 4; i++)
			head[i] = (unsigned char)(len >> 8 * (3 - i));
		if (write(STDOUT_FILENO, head, 4) != 4 || write(STDOUT_FILENO, packet, len) != (ssize_t)len)
			return 1;
		free(packet);
	}
	return 0;
}
