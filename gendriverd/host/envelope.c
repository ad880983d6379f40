/* SPDX-License-Identifier: MIT */
/*
 * The messages of envelope.h. The validator has noted where the outermost tuple's
 * elements begin, so the frame is not walked a second time; only Opts are.
 */
#include <string.h>

#include "envelope.h"
#include "etf_tags.h"
#include "term.h"

#define MAX_ID 0x7fffffffu
#define MAX_CMD 0x3fffffffu
#define MAX_OPTIONS 64		/* pairs: they are read in one go */

/* A validated frame: a tuple of c->elems elements, or more. */
struct frame {
	const struct etf_check *check;
	const unsigned char *data;
	size_t len;
};

/* A cursor over element i and nothing else. */
static gd_in
element(const struct frame *f, uint32_t i)
{
	const uint32_t *at = f->check->elem + i;
	size_t end = i + 1 < f->check->elems ? at[1] : f->len;
	gd_in in;

	gd_in_init(&in, f->data + at[0], end - at[0]);
	return in;
}

static bool
get_u32(gd_in *in, uint32_t max, uint32_t *value)
{
	uint64_t wide;

	if (gd_get_u64(in, &wide) != 0 || wide > max)
		return false;
	*value = (uint32_t)wide;
	return true;
}

static __attribute__((noinline)) bool
any_number(const struct frame *f, uint32_t i, uint32_t max, uint32_t *value)
{
	gd_in in = element(f, i);

	return get_u32(&in, max, value);
}

/* Element i, a whole number of at most max, which is less than 2^31. */
static bool
number(const struct frame *f, uint32_t i, uint32_t max, uint32_t *value)
{
	const unsigned char *p = f->data + f->check->elem[i];

	if (p[0] == TAG_SMALL_INTEGER)
		*value = p[1];
	else if (p[0] == TAG_INTEGER)
		*value = etf_u32(p + 1);
	else
		return any_number(f, i, max, value);
	return *value <= max;
}

/* One option; true when it can be taken, or is none of ours. */
static bool
option(gd_in *in, struct envelope *e)
{
	const void *data;

	if (gd_get_atom_is(in, "timeout") == 0)
		return e->has_timeout = get_u32(in, UINT32_MAX, &e->timeout_ms);
	if (gd_get_atom_is(in, "key") == 0)
		return e->has_key = get_u32(in, UINT32_MAX, &e->key);
	if (gd_get_atom_is(in, "parts") == 0)
		return get_u32(in, UINT32_MAX, &e->parts) && e->parts > 0;
	if (gd_get_atom_is(in, "trace") == 0) {
		if (gd_get_binary(in, &data, &e->trace_len) != 0)
			return false;
		e->trace = data;
		return true;
	}
	return gd_skip(in) == 0 && gd_skip(in) == 0;
}

static bool
options(gd_in in, struct envelope *e)
{
	size_t pairs;

	if (gd_get_map(&in, &pairs) != 0 || pairs > MAX_OPTIONS)
		return false;
	while (pairs-- > 0)
		if (!option(&in, e))
			return false;
	return true;
}

/* Cmd is element i; Params and Opts may follow. */
static int
request(const struct frame *f, uint32_t i, struct envelope *e)
{
	uint32_t cmd, n = f->check->elems;
	gd_in params;

	if (n <= i || n > i + 3)
		return ENV_BAD_ENVELOPE;
	if (!number(f, i, MAX_CMD, &cmd))
		return ENV_BAD_REQUEST;
	e->cmd = (int)cmd;
	if (n > i + 1) {
		params = element(f, i + 1);
		e->params = params.at;
		e->params_len = (size_t)(params.end - params.at);
	}
	return n > i + 2 && !options(element(f, i + 2), e) ? ENV_BAD_REQUEST : 0;
}

/* {credit, Id, N} */
static int
credit(const struct frame *f, struct envelope *e)
{
	gd_in n;

	if (f->check->elems != 3 || !number(f, 1, MAX_ID, &e->id))
		return ENV_BAD_ENVELOPE;
	n = element(f, 2);
	return get_u32(&n, UINT32_MAX, &e->parts) && e->parts > 0 ? 0 : ENV_BAD_ENVELOPE;
}

/* {notes, true | false} */
static int
notes(const struct frame *f, struct envelope *e)
{
	gd_in wanted = element(f, 1);
	int on;

	if (f->check->elems != 2 || gd_get_bool(&wanted, &on) != 0)
		return ENV_BAD_ENVELOPE;
	e->notes = on != 0;
	return 0;
}

/* The tag's kind; -1: none. */
static int
kind_of(const unsigned char *atom)
{
	bool wide = atom[0] == TAG_ATOM || atom[0] == TAG_ATOM_UTF8;
	size_t len = wide ? etf_u16(atom + 1) : atom[1];
	const unsigned char *name = atom + (wide ? 3 : 2);

	if (!wide && atom[0] != TAG_SMALL_ATOM_UTF8 && atom[0] != TAG_SMALL_ATOM)
		return -1;
	switch (len) {
	case 4:
		if (memcmp(name, "call", 4) == 0)
			return ENV_CALL;
		if (memcmp(name, "cast", 4) == 0)
			return ENV_CAST;
		return memcmp(name, "ping", 4) == 0 ? ENV_PING : -1;
	case 5:
		return memcmp(name, "notes", 5) == 0 ? ENV_NOTES : -1;
	case 6:
		if (memcmp(name, "cancel", 6) == 0)
			return ENV_CANCEL;
		return memcmp(name, "credit", 6) == 0 ? ENV_CREDIT : -1;
	case 7:
		return memcmp(name, "goodbye", 7) == 0 ? ENV_GOODBYE : -1;
	default:
		return -1;
	}
}

int
envelope_parse(const struct etf_check *c, const unsigned char *data, size_t len,
    struct envelope *e)
{
	const struct frame f = { c, data, len };
	gd_in reason;
	int kind;

	memset(e, 0, sizeof(*e));
	if ((data[1] != TAG_SMALL_TUPLE && data[1] != TAG_LARGE_TUPLE) || c->elems < 2)
		return ENV_BAD_ENVELOPE;
	if ((kind = kind_of(data + c->elem[0])) < 0)
		return ENV_BAD_ENVELOPE;
	e->kind = (enum envelope_kind)kind;
	switch (e->kind) {
	case ENV_CALL:
		return number(&f, 1, MAX_ID, &e->id) ? request(&f, 2, e) : ENV_BAD_ENVELOPE;
	case ENV_CAST:
		return request(&f, 1, e);
	case ENV_CANCEL: case ENV_PING:
		return c->elems == 2 && number(&f, 1, MAX_ID, &e->id) ? 0 : ENV_BAD_ENVELOPE;
	case ENV_CREDIT:
		return credit(&f, e);
	case ENV_NOTES:
		return notes(&f, e);
	case ENV_GOODBYE:
		break;
	}
	reason = element(&f, 1);
	return c->elems == 2 && gd_peek(&reason) == GD_ATOM ? 0 : ENV_BAD_ENVELOPE;
}
