/* SPDX-License-Identifier: MIT */
/* What drivers that mean harm say of their attempts: "what=ok", or the error's name. One thread at a time. */
#ifndef ATTEMPTS_H
#define ATTEMPTS_H

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "gen_driver.h"

static char said[8192];

static void
tried(const char *what, long result)
{
	size_t len = strlen(said);

	snprintf(said + len, sizeof(said) - len, "%s=%s ", what, result >= 0 ? "ok" : strerrorname_np(errno));
}

/* A setting, or what is nowhere. */
static const char *
named(const char *setting)
{
	const char *here = gd_config(setting);

	return here != NULL ? here : "/none";
}

#endif
