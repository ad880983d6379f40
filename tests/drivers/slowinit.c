/* SPDX-License-Identifier: MIT */
/*
 * Its init does not come back until the test opens the FIFO named by the setting
 * `fifo` for writing: so a test holds an instance in STARTING for as long as it
 * wants. Every request is answered `ok`.
 */
#include <fcntl.h>
#include <unistd.h>

#include "gen_driver.h"

static void *
driver_init(void)
{
	const char *path = gd_config("fifo");
	int fd = path != NULL ? open(path, O_RDONLY | O_CLOEXEC) : -1;

	if (fd >= 0)
		close(fd);
	return NULL;
}

static void
dispatch(gd_req_t *req, gd_res_t *res, void *drv_state, void *trd_state)
{
	(void)req, (void)res, (void)drv_state, (void)trd_state;
}

GD_DRIVER(.init = driver_init, .dispatch = dispatch)
