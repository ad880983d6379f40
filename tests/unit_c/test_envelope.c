/* SPDX-License-Identifier: MIT */
/* The envelope: what a host reads in the shared vectors' frames. */
#include "check.h"
#include "envelope.h"
#include "vectors.h"

static size_t
print_hex(char *text, size_t room, const unsigned char *data, size_t len)
{
	size_t at = 0;

	for (size_t i = 0; i < len && at + 2 < room; i++)
		at += (size_t)snprintf(text + at, room - at, "%02x", data[i]);
	return at;
}

/* As envelopes.txt says it: kind=call id=7 cmd=1 params=.. timeout=.. key=.. parts=.. trace=.. */
static void
describe(char *text, size_t room, const struct envelope *e, int code)
{
	static const char *const kinds[] = {
		[ENV_CALL] = "call", [ENV_CAST] = "cast", [ENV_CANCEL] = "cancel",
		[ENV_PING] = "ping", [ENV_GOODBYE] = "goodbye", [ENV_CREDIT] = "credit", [ENV_NOTES] = "notes",
	};
	size_t at = (size_t)snprintf(text, room, "kind=%s", kinds[e->kind]);

	if (e->kind != ENV_CAST && e->kind != ENV_GOODBYE && e->kind != ENV_NOTES)
		at += (size_t)snprintf(text + at, room - at, " id=%u", e->id);
	if (code != 0)
		return;
	if (e->kind == ENV_CALL || e->kind == ENV_CAST)
		at += (size_t)snprintf(text + at, room - at, " cmd=%d", e->cmd);
	if (e->params != NULL) {
		at += (size_t)snprintf(text + at, room - at, " params=");
		at += print_hex(text + at, room - at, e->params, e->params_len);
	}
	if (e->has_timeout)
		at += (size_t)snprintf(text + at, room - at, " timeout=%u", e->timeout_ms);
	if (e->has_key)
		at += (size_t)snprintf(text + at, room - at, " key=%u", e->key);
	if (e->parts > 0)
		at += (size_t)snprintf(text + at, room - at, " parts=%u", e->parts);
	if (e->kind == ENV_NOTES)
		at += (size_t)snprintf(text + at, room - at, " wanted=%s", e->notes ? "true" : "false");
	if (e->trace != NULL) {
		at += (size_t)snprintf(text + at, room - at, " trace=");
		print_hex(text + at, room - at, e->trace, e->trace_len);
	}
}

static void
check_vector(const struct vector *v)
{
	const char *verdict = "ok";
	char text[4096] = "";
	struct envelope e;
	struct etf_check c;
	int code;

	about = v->field[0];
	etf_check_begin(&c, &vector_limits, v->data, v->len, 1);
	CHECK(etf_check_run(&c, UINT32_MAX) == 0);
	code = envelope_parse(&c, v->data, v->len, &e);
	etf_check_end(&c);
	if (code == ENV_BAD_ENVELOPE)
		verdict = "bad_envelope";
	else if (code == ENV_BAD_REQUEST)
		verdict = "bad_request";
	CHECK(strcmp(verdict, v->field[2]) == 0);
	if (code != ENV_BAD_ENVELOPE)
		describe(text, sizeof(text), &e, code);
	CHECK(strcmp(text, v->field[3]) == 0);
}

static int
parse(const unsigned char *checked, const unsigned char *data, size_t len, struct envelope *e)
{
	struct etf_check c;
	int code;

	etf_check_begin(&c, &vector_limits, checked, len, 1);
	CHECK(etf_check_run(&c, UINT32_MAX) == 0);
	code = envelope_parse(&c, data, len, e);
	etf_check_end(&c);
	return code;
}

/* More options than are read in one go. */
static void
check_many_options(void)
{
	static const unsigned char head[] = { 131, 104, 4, 119, 4, 'c', 'a', 's', 't', 97, 1, 106, 116, 0, 0, 0 };
	unsigned char frame[sizeof(head) + 1 + 4 * 65];
	struct envelope e;

	about = "options";
	for (unsigned n = 64; n <= 65; n++) {
		memcpy(frame, head, sizeof(head));
		frame[sizeof(head)] = (unsigned char)n;
		for (size_t i = 0; i < n; i++)
			memcpy(frame + sizeof(head) + 1 + 4 * i, (const unsigned char[]){ 97, (unsigned char)i, 97, 1 }, 4);
		CHECK(parse(frame, frame, sizeof(head) + 1 + 4 * n, &e) == (n == 64 ? 0 : ENV_BAD_REQUEST));
	}
}

/* Bytes that are no term, though they were one when they were looked at: nothing is read beyond them. */
static void
check_changed(void)
{
	static const unsigned char frame[] = {
		131, 104, 4, 119, 4, 'c', 'a', 's', 't', 97, 1, 106, 116, 0, 0, 0, 1, 97, 1, 97, 2
	};
	unsigned char changed[sizeof(frame)];
	struct envelope e;

	about = "changed";
	CHECK(parse(frame, frame, sizeof(frame), &e) == 0);
	for (size_t at = sizeof(frame) - 4; at < sizeof(frame); at += 2) {
		memcpy(changed, frame, sizeof(frame));
		changed[at] = 1;	/* no tag */
		CHECK(parse(frame, changed, sizeof(frame), &e) == ENV_BAD_REQUEST);
	}
}

int
main(int argc, char **argv)
{
	const char *dir = argc > 1 ? argv[1] : "tests/vectors";

	CHECK(each_vector(dir, "envelopes.txt", check_vector) > 50);
	check_many_options();
	check_changed();
	return check_summary();
}
