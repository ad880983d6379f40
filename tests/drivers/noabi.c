/* SPDX-License-Identifier: MIT */
/* Built for a driver interface of the future: refused, with a sentence that names both numbers. */
#include "gen_driver.h"

static void
dispatch(gd_req_t *req, gd_res_t *res, void *drv_state, void *trd_state)
{
	(void)req, (void)res, (void)drv_state, (void)trd_state;
}

extern const gd_driver gd_driver_table;
GD_EXPORT const gd_driver gd_driver_table = {
	.abi = 999, .size = sizeof(gd_driver), .dispatch = dispatch,
};
