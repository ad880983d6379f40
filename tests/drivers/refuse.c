/* SPDX-License-Identifier: MIT */
/* Its open refuses with a sentence; with `refuse = "silently"` without one. The instance is FATAL. */
#include <stdio.h>
#include <string.h>

#include "gen_driver.h"

static int
driver_open(void **drv_state, char *why, size_t room)
{
	const char *how = gd_config("refuse");

	*drv_state = NULL;
	if (how == NULL || strcmp(how, "silently") != 0)
		snprintf(why, room, "the licence file expired in 1999");
	return -1;
}

static void
dispatch(gd_req_t *req, gd_res_t *res, void *drv_state, void *trd_state)
{
	(void)req, (void)res, (void)drv_state, (void)trd_state;
}

GD_DRIVER(.open = driver_open, .dispatch = dispatch)
