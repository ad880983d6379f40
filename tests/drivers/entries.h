/* SPDX-License-Identifier: MIT */
/* What requests of a key ran, in the order of their execution: numbers that they say, or sums of their bytes. */
#ifndef ENTRIES_H
#define ENTRIES_H

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>

#include "gen_driver.h"

static pthread_mutex_t entries_lock = PTHREAD_MUTEX_INITIALIZER;	/* guards what follows */
static struct { int64_t key, number; } *entries;
static size_t entry_count;

static void
add_entry(int64_t key, int64_t number)
{
	void *more;

	pthread_mutex_lock(&entries_lock);
	if ((more = realloc(entries, (entry_count + 1) * sizeof(*entries))) == NULL)
		abort();
	entries = more;
	entries[entry_count].key = key;
	entries[entry_count++].number = number;
	pthread_mutex_unlock(&entries_lock);
}

/* {Key, N}: remember N. The driver is not told the request's own key. */
static void
order(gd_req_t *req, gd_res_t *res)
{
	int64_t key, number;
	size_t arity;

	if (gd_get_tuple(&req->in, &arity) != 0 || arity != 2 || gd_get_i64(&req->in, &key) != 0 ||
	    gd_get_i64(&req->in, &number) != 0) {
		error_set(res, "badarg");
		return;
	}
	add_entry(key, number);
}

/* Bytes: their sum, as the last of key 0 in the order of execution. */
static void
sum(gd_req_t *req, gd_res_t *res)
{
	const void *data;
	int64_t total = 0;
	size_t size;

	if (gd_get_binary(&req->in, &data, &size) != 0) {
		error_set(res, "badarg");
		return;
	}
	for (size_t i = 0; i < size; i++)
		total += ((const unsigned char *)data)[i];
	add_entry(0, total);
}

/* Key -> {ok, [N]} in the order of their execution. */
static void
order_get(gd_req_t *req, gd_res_t *res)
{
	int64_t key = 0;

	gd_get_i64(&req->in, &key);
	gd_put_tuple(&res->out, 2);
	gd_put_atom(&res->out, "ok");
	gd_open_list(&res->out);
	pthread_mutex_lock(&entries_lock);
	for (size_t i = 0; i < entry_count; i++)
		if (entries[i].key == key)
			gd_put_i64(&res->out, entries[i].number);
	pthread_mutex_unlock(&entries_lock);
	gd_close_list(&res->out);
}

#endif
