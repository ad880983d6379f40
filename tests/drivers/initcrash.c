/* SPDX-License-Identifier: MIT */
/* Dies in init: before ready, at every start. The daemon backs off. */
#include <stdlib.h>

#include "gen_driver.h"

static void *
driver_init(void)
{
	abort();
}

static void
dispatch(gd_req_t *req, gd_res_t *res, void *drv_state, void *trd_state)
{
	(void)req, (void)res, (void)drv_state, (void)trd_state;
}

GD_DRIVER(.init = driver_init, .dispatch = dispatch)
