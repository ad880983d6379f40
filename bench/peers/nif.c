/* SPDX-License-Identifier: MIT */
/* The work of work.h as a NIF on dirty schedulers: the fastest way into C, and the one whose crash is the node's. */
#include <erl_nif.h>

#include "../work.h"

static ERL_NIF_TERM
ok(ErlNifEnv *env, ERL_NIF_TERM term)
{
	return enif_make_tuple2(env, enif_make_atom(env, "ok"), term);
}

static ERL_NIF_TERM
sum(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
	ERL_NIF_TERM list = argv[0], head;
	ErlNifSInt64 total = 0, number;

	(void)argc;
	while (enif_get_list_cell(env, list, &head, &list)) {
		if (!enif_get_int64(env, head, &number))
			return enif_make_badarg(env);
		total += number;
	}
	return ok(env, enif_make_int64(env, total));
}

/* A copy of a binary, as a driver makes one; any other term as it is. */
static ERL_NIF_TERM
echo(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
	ErlNifBinary given;
	ERL_NIF_TERM copy;
	unsigned char *data;

	(void)argc;
	if (!enif_inspect_binary(env, argv[0], &given))
		return ok(env, argv[0]);
	if ((data = enif_make_new_binary(env, given.size, &copy)) == NULL)
		return enif_make_badarg(env);
	for (size_t i = 0; i < given.size; i++)
		data[i] = given.data[i];
	return ok(env, copy);
}

static ERL_NIF_TERM
spin(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
	ErlNifSInt64 microseconds;

	(void)argc;
	if (!enif_get_int64(env, argv[0], &microseconds))
		return enif_make_badarg(env);
	work_spin(microseconds);
	return ok(env, argv[0]);
}

static ERL_NIF_TERM
mixed(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
	const ERL_NIF_TERM *of;
	ErlNifSInt64 brief, lengthy, every;
	int arity;

	(void)argc;
	if (!enif_get_tuple(env, argv[0], &arity, &of) || arity != 3 || !enif_get_int64(env, of[0], &brief)
	    || !enif_get_int64(env, of[1], &lengthy) || !enif_get_int64(env, of[2], &every))
		return enif_make_badarg(env);
	return ok(env, enif_make_int64(env, work_mixed(brief, lengthy, every)));
}

static ErlNifFunc functions[] = {
	{ "sum", 1, sum, ERL_NIF_DIRTY_JOB_CPU_BOUND }, { "echo", 1, echo, ERL_NIF_DIRTY_JOB_CPU_BOUND },
	{ "spin", 1, spin, ERL_NIF_DIRTY_JOB_CPU_BOUND }, { "mixed", 1, mixed, ERL_NIF_DIRTY_JOB_CPU_BOUND },
};

ERL_NIF_INIT(bench_nif, functions, NULL, NULL, NULL, NULL)
