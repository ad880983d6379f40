/* SPDX-License-Identifier: MIT */
/* Dies in an ELF constructor: inside dlopen, before any callback is known. */
#include <stdlib.h>

#include "gen_driver.h"

__attribute__((constructor)) static void
die(void)
{
	abort();
}

static void
dispatch(gd_req_t *req, gd_res_t *res, void *drv_state, void *trd_state)
{
	(void)req, (void)res, (void)drv_state, (void)trd_state;
}

GD_DRIVER(.dispatch = dispatch)
