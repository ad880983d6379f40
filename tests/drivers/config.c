/* SPDX-License-Identifier: MIT */
/* Says what gd_config says: get Key -> {ok, Text} | {error, undefined}; int {Key, Missing} -> {ok, Integer}. */
#include "gen_driver.h"

enum { GET = 1, INT = 2 };

static void
get(gd_req_t *req, gd_res_t *res)
{
	char key[256];
	const char *value;

	if (gd_get_text(&req->in, key, sizeof(key), NULL) != 0) {
		error_set(res, "badarg");
		return;
	}
	if ((value = gd_config(key)) == NULL) {
		error_set(res, "undefined");
		return;
	}
	gd_put_tuple(&res->out, 2);
	gd_put_atom(&res->out, "ok");
	gd_put_text(&res->out, value);
}

static void
get_int(gd_req_t *req, gd_res_t *res)
{
	char key[256];
	int64_t missing;
	size_t arity;

	if (gd_get_tuple(&req->in, &arity) != 0 || arity != 2 ||
	    gd_get_text(&req->in, key, sizeof(key), NULL) != 0 || gd_get_i64(&req->in, &missing) != 0) {
		error_set(res, "badarg");
		return;
	}
	gd_put_tuple(&res->out, 2);
	gd_put_atom(&res->out, "ok");
	gd_put_i64(&res->out, gd_config_int(key, (long)missing));
}

static void
dispatch(gd_req_t *req, gd_res_t *res, void *drv_state, void *trd_state)
{
	(void)drv_state, (void)trd_state;
	switch (req->cmd) {
	case GET: get(req, res); break;
	case INT: get_int(req, res); break;
	default: error_set(res, "command");
	}
}

static const gd_command commands[] = { { "get", GET }, { "int", INT }, { NULL, 0 } };

GD_DRIVER(.dispatch = dispatch, .commands = commands)
