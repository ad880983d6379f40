/* SPDX-License-Identifier: MIT */
/*
 * What the daemon says, read: control_parse and control_parse_start of control.h. Bytes in, values out; the channel is
 * not touched.
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "control.h"
#include "fields.h"
#include "log.h"
#include "recorder.h"
#include "settings.h"
#include "term.h"

/* A cursor behind the tag of {Tag, ...}; false: no such thing. */
static bool
open_message(gd_in *in, const unsigned char *data, size_t len, size_t *arity)
{
	static const struct etf_limits any = { 64, 65536, 64 };

	if (etf_check_all(&any, data, len, 1) != 0)
		return false;
	gd_in_init(in, data + 1, len - 1);
	return gd_get_tuple(in, arity) == 0 && *arity > 0;
}

static int
get_level(gd_in *in, int *level)
{
	const char *name;
	size_t len;

	if (gd_get_atom(in, &name, &len) != 0)
		return -1;
	return (*level = log_level_of(name, len)) < 0 ? -1 : 0;
}

static int
get_conn(gd_in *in, struct control_message *m)
{
	const void *peer;
	size_t len;

	if (gd_get_u64(in, &m->number) != 0 || gd_get_binary(in, &peer, &len) != 0
	    || gd_get_binary(in, &m->welcome, &m->welcome_len) != 0
	    || allowed_read(in, &m->allowed) != 0)
		return -1;
	snprintf(m->peer, sizeof(m->peer), "%.*s", (int)len, (const char *)peer);
	return 0;
}

/* Cmd, Length, Hash, Ms. */
static int
get_quarantined(gd_in *in, struct quarantined *q)
{
	const void *digest;
	uint64_t ms;
	int64_t cmd;
	size_t len;

	if (gd_get_i64(in, &cmd) != 0 || cmd < INT_MIN || cmd > INT_MAX || gd_get_u64(in, &q->len) != 0
	    || gd_get_binary(in, &digest, &len) != 0 || len != SHA256_SIZE
	    || gd_get_u64(in, &ms) != 0 || ms > UINT32_MAX * 1000ull)
		return -1;
	q->cmd = (int)cmd;
	memcpy(q->digest, digest, SHA256_SIZE);
	q->until = now_ns() + ms * 1000000;
	return 0;
}

void
control_parse(const unsigned char *data, size_t len, struct control_message *m)
{
	size_t arity;
	gd_in in;

	*m = (struct control_message){ .kind = CONTROL_NONE, .fd = -1 };
	if (!open_message(&in, data, len, &arity))
		return;
	if (gd_get_atom_is(&in, "conn") == 0 && arity == 5 && get_conn(&in, m) == 0)
		m->kind = CONTROL_CONN;
	else if (gd_get_atom_is(&in, "drain") == 0 && arity == 2 && get_u32(&in, &m->ms) == 0)
		m->kind = CONTROL_DRAIN;
	else if (gd_get_atom_is(&in, "stop") == 0 && arity == 2 && get_u32(&in, &m->ms) == 0)
		m->kind = CONTROL_STOP;
	else if (gd_get_atom_is(&in, "level") == 0 && arity == 2 && get_level(&in, &m->level) == 0)
		m->kind = CONTROL_LEVEL;
	else if (gd_get_atom_is(&in, "ping") == 0 && arity == 2 && gd_get_u64(&in, &m->number) == 0)
		m->kind = CONTROL_PING;
	else if (gd_get_atom_is(&in, "quarantine") == 0 && arity == 5
	    && get_quarantined(&in, &m->quarantined) == 0)
		m->kind = CONTROL_QUARANTINE;
}

/* --- the start message ------------------------------------------------- */

static int
get_settings(gd_in *in)
{
	const void *key, *value;
	size_t pairs, key_len, value_len;

	if (gd_get_map(in, &pairs) != 0)
		return -1;
	while (pairs-- > 0)
		if (gd_get_binary(in, &key, &key_len) != 0
		    || gd_get_binary(in, &value, &value_len) != 0
		    || settings_add(key, key_len, value, value_len) != 0)
			return -1;
	return 0;
}

static int
get_limits(gd_in *in, struct limits *l)
{
	const struct { const char *name; uint32_t *small; uint64_t *large; } field[] = {
		{ "frame", &l->frame, NULL }, { "frame_ms", &l->frame_ms, NULL },
		{ "frames_bytes", NULL, &l->frames_bytes },
		{ "depth", &l->term.depth, NULL },
		{ "terms", &l->term.terms, NULL }, { "bignum", &l->term.bignum, NULL },
		{ "queue", &l->queue, NULL }, { "connections", &l->connections, NULL },
		{ "in_flight", &l->in_flight, NULL }, { "in_flight_bytes", NULL, &l->in_flight_bytes },
		{ "unsent_bytes", NULL, &l->unsent_bytes }, { "unsent_ms", &l->unsent_ms, NULL },
		{ "linger_ms", &l->linger_ms, NULL }, { "reply", NULL, &l->reply },
	};
	const size_t fields = sizeof(field) / sizeof(field[0]);
	size_t pairs, i, found = 0;

	if (gd_get_map(in, &pairs) != 0)
		return -1;
	for (; pairs > 0; pairs--) {
		for (i = 0; i < fields && gd_get_atom_is(in, field[i].name) != 0; i++)
			;
		if (i == fields) {
			gd_skip(in), gd_skip(in);	/* the whole message is valid: there are two */
			continue;
		}
		if (field[i].small != NULL ? get_u32(in, field[i].small) : gd_get_u64(in, field[i].large))
			return -1;
		found |= (size_t)1 << i;
	}
	return found == ((size_t)1 << fields) - 1 ? 0 : -1;
}

static int
get_run_limits(gd_in *in, struct start *s)
{
	size_t pairs;

	if (s->run_limits != NULL || gd_get_map(in, &pairs) != 0
	    || (s->run_limits = calloc(pairs + 1, sizeof(*s->run_limits))) == NULL)
		return -1;
	for (; pairs > 0; pairs--) {
		struct run_limit *l = &s->run_limits[s->run_limit_count++];
		if (get_text(in, &l->command) != 0 || get_u32(in, &l->ms) != 0)
			return -1;
	}
	return 0;
}

static int
get_start_field(gd_in *in, struct start *s)
{
	if (gd_get_atom_is(in, "name") == 0)
		return get_text(in, &s->name);
	if (gd_get_atom_is(in, "driver") == 0)
		return get_text(in, &s->driver);
	if (gd_get_atom_is(in, "generation") == 0)
		return get_u32(in, &s->generation);
	if (gd_get_atom_is(in, "threads") == 0)
		return get_u32(in, &s->threads);
	if (gd_get_atom_is(in, "short") == 0)
		return get_u32(in, &s->short_ns);
	if (gd_get_atom_is(in, "max_run") == 0)
		return get_u32(in, &s->max_run_ms);
	if (gd_get_atom_is(in, "max_run_of") == 0)
		return get_run_limits(in, s);
	if (gd_get_atom_is(in, "max_abandoned") == 0)
		return get_u32(in, &s->max_abandoned);
	if (gd_get_atom_is(in, "cores") == 0)
		return get_u32(in, &s->cores);
	if (gd_get_atom_is(in, "log_level") == 0)
		return get_level(in, &s->log_level);
	if (gd_get_atom_is(in, "settings") == 0)
		return get_settings(in);
	if (gd_get_atom_is(in, "limits") == 0)
		return get_limits(in, &s->limits);
	if (gd_get_atom_is(in, "sandbox") == 0)
		return sandbox_read(in, &s->sandbox);
	gd_skip(in), gd_skip(in);
	return 0;
}

int
control_parse_start(const unsigned char *data, size_t len, struct start *s)
{
	size_t arity, pairs;
	gd_in in;

	*s = (struct start){ .recorder = -1 };
	if (!open_message(&in, data, len, &arity) || arity != 2
	    || gd_get_atom_is(&in, "start") != 0 || gd_get_map(&in, &pairs) != 0)
		return -1;
	while (pairs-- > 0)
		if (get_start_field(&in, s) != 0)
			return -1;
	if (s->name == NULL || s->driver == NULL || s->limits.frame == 0
	    || s->limits.connections == 0 || s->threads == 0 || s->threads > 1024
	    || s->max_abandoned > RECORDER_ABANDONED)
		return -1;
	return 0;
}
