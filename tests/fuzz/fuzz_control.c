/* SPDX-License-Identifier: MIT */
/*
 * What the daemon says on the control channel. The first byte tells whether the rest is the start or a later
 * message. What is taken from it lies within it, its texts end, and its numbers are in their range.
 */
#include <stdlib.h>
#include <string.h>

#include "control.h"
#include "mutate_term.h"
#include "recorder.h"
#include "settings.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static const uint8_t *packet;
static size_t packet_len;

/* Any byte outside is a fault of ASan's at the first look. */
static void
within(const void *part, size_t len)
{
	const uint8_t *at = part;

	if (at < packet || len > packet_len || at + len > packet + packet_len)
		abort();
}

/* In place of the list that gd_config reads. */
int
settings_add(const void *key, size_t key_len, const void *value, size_t value_len)
{
	within(key, key_len);
	within(value, value_len);
	return 0;
}

static void
check_conn(const struct control_message *m)
{
	if (memchr(m->peer, '\0', sizeof(m->peer)) == NULL)
		abort();
	within(m->welcome, m->welcome_len);
	for (uint32_t i = 0; m->allowed != NULL && i < m->allowed->n; i++)
		if (!allowed_has(m->allowed, (int)m->allowed->commands[i]))
			abort();
	free(m->allowed);
}

static void
check_message(void)
{
	struct control_message m;

	control_parse(packet, packet_len, &m);
	if (m.fd != -1)
		abort();
	switch (m.kind) {
	case CONTROL_CONN:
		check_conn(&m);
		break;
	case CONTROL_LEVEL:
		if (m.level < 0 || m.level > 3)
			abort();
		break;
	case CONTROL_QUARANTINE:
		if (m.quarantined.until == 0)
			abort();
		break;
	case CONTROL_NONE: case CONTROL_DRAIN: case CONTROL_STOP: case CONTROL_PING:
		break;
	}
}

static void
check_paths(const struct paths *p)
{
	for (size_t i = 0; i < p->len; i++)
		if (p->at[i] == NULL)
			abort();
}

static void
check_sandbox(const struct sandbox *s)
{
	if (s->profile > SANDBOX_STRICT || s->group_count > SANDBOX_GROUPS)
		abort();
	check_paths(&s->read);
	check_paths(&s->write);
}

static void
check_taken(const struct start *s)
{
	check_sandbox(&s->sandbox);
	if (s->name == NULL || s->driver == NULL || s->threads == 0 || s->threads > 1024
	    || s->max_abandoned > RECORDER_ABANDONED || s->recorder != -1
	    || s->limits.frame == 0 || s->limits.connections == 0)
		abort();
}

static void
check_start(void)
{
	struct start s;

	if (control_parse_start(packet, packet_len, &s) == 0)
		check_taken(&s);
	for (size_t i = 0; i < s.run_limit_count; i++)
		free(s.run_limits[i].command);
	free(s.run_limits);
	sandbox_forget(&s.sandbox);
	free(s.driver);
	free(s.name);
}

/* Behind the first byte, and the version byte. */
size_t
LLVMFuzzerCustomMutator(uint8_t *data, size_t len, size_t most, unsigned int seed)
{
	srand(seed);
	return seed % 2 == 0 ? LLVMFuzzerMutate(data, len, most) : mutate_term(data, len, most, 2);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	if (len == 0 || len > CONTROL_MAX)
		return 0;
	packet = data + 1;
	packet_len = len - 1;
	if (data[0] & 1)
		check_start();
	else
		check_message();
	return 0;
}
