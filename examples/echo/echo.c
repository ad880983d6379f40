/* SPDX-License-Identifier: MIT */
/* echo: three commands that show how a driver reads its params and writes a reply. Copy it, rename it, go on from there. */
#include "gen_driver.h"

enum { ECHO = 1, SIZE = 2, REVERSE = 3 };

/* echo: any term -> {ok, Term}. gd_get_raw takes a term unread. */
static void
echo(gd_req_t *req, gd_res_t *res)
{
	const void *term;
	size_t size;

	if (gd_get_raw(&req->in, &term, &size) != 0) {
		error_set(res, GD_ERR_DECODE);
		return;
	}
	gd_put_tuple(&res->out, 2);
	gd_put_atom(&res->out, "ok");
	gd_put_raw(&res->out, term, size);
}

/* size: a binary -> {ok, Bytes} */
static void
size_of(gd_req_t *req, gd_res_t *res)
{
	const void *data;
	size_t size;

	if (gd_get_binary(&req->in, &data, &size) != 0) {
		error_set(res, "badarg");
		return;
	}
	gd_put_tuple(&res->out, 2);
	gd_put_atom(&res->out, "ok");
	gd_put_u64(&res->out, size);
}

/* reverse: a binary -> {ok, Binary}, made in place in the reply. */
static void
reverse(gd_req_t *req, gd_res_t *res)
{
	const void *data;
	void *space;
	size_t size;

	if (gd_get_binary(&req->in, &data, &size) != 0) {
		error_set(res, "badarg");
		return;
	}
	gd_put_tuple(&res->out, 2);
	gd_put_atom(&res->out, "ok");
	if (gd_put_space(&res->out, size, &space) != 0)
		return;		/* too large for a reply: the host says so */
	for (size_t i = 0; i < size; i++)
		((unsigned char *)space)[i] = ((const unsigned char *)data)[size - 1 - i];
}

static void
dispatch(gd_req_t *req, gd_res_t *res, void *drv_state, void *trd_state)
{
	(void)drv_state, (void)trd_state;
	switch (req->cmd) {
	case ECHO: echo(req, res); break;
	case SIZE: size_of(req, res); break;
	case REVERSE: reverse(req, res); break;
	default: error_set(res, "command");
	}
}

static const gd_command commands[] = {
	{ "echo", ECHO }, { "size", SIZE }, { "reverse", REVERSE }, { NULL, 0 },
};
static const char *const atoms[] = { "ok", "error", "badarg", "command", GD_ERR_DECODE, NULL };

GD_DRIVER(.dispatch = dispatch, .commands = commands, .atoms = atoms)
