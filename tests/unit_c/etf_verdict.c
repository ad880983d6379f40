/* SPDX-License-Identifier: MIT */
/* Verdicts on the terms that standard input has as lines of hex: for crosscheck.escript. */
#include "vectors.h"

int
main(void)
{
	char *line = NULL;
	size_t room = 0, len;

	while (getline(&line, &room, stdin) > 0) {
		line[strcspn(line, "\n")] = '\0';
		unsigned char *data = from_hex(line, &len);
		int code = data != NULL ? etf_check_all(&vector_limits, data, len, 1) : ETF_BAD_TERM;
		puts(code == 0 ? "ok" : etf_reason(code));
		free(data);
	}
	free(line);
	return 0;
}
