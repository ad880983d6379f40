/* SPDX-License-Identifier: MIT */
/*
 * Notes to those that asked for them: gd_note of gen_driver.h. Any thread of the driver, even
 * before there is a connection. A client is its slot's generation and the slot, from 1 on. Nobody
 * waits for one that is behind: it loses the note.
 */
#include "conn.h"
#include "frame.h"
#include "gen_driver.h"
#include "log.h"
#include "running.h"
#include "term.h"

uint64_t
gd_client(void)
{
	const struct request *r = running_here().request;

	return r == NULL ? 0 : (uint64_t)r->generation << 32 | (r->slot + 1);
}

/* It has not been told of before. */
static void
log_lost(uint64_t number)
{
	const struct log_number numbers[] = { { "conn", number } };

	log_numbers(GD_WARNING, "notes_lost", numbers, 1);
}

static void
put_note(struct conn *c, const gd_out *note)
{
	unsigned char *at = conn_room(c);

	if (at == NULL)
		return;
	output_wrote(&c->out, frame_note_head(at, note->len - 1));
	conn_put_term(c, note->buf + 1, note->len - 1, NULL);
}

/* To c, if it is that client, or any (0): true. */
static bool
give(struct conn *c, uint64_t client, const gd_out *note)
{
	struct queue freed = { 0 };
	uint64_t lost = 0;
	bool given = false;

	if (!c->notes)		/* most do not: no need to meet those that send */
		return false;
	pthread_mutex_lock(&c->lock);
	if (c->notes && !c->broken && (client == 0 || client >> 32 == c->generation)) {
		if (c->out.unsent <= conns.start->limits.unsent_bytes) {
			put_note(c, note);
			conn_flush_into(c, &freed);
			given = !c->broken;
		} else if (c->notes_lost++ == 0)
			lost = c->number;
	}
	pthread_mutex_unlock(&c->lock);
	if (freed.head != NULL)
		pool_answered(conns.pool, &freed);
	if (lost != 0)
		log_lost(lost);
	return given;
}

static int
give_all(const gd_out *note, uint32_t used)
{
	int given = 0;

	for (uint32_t i = 0; i < used; i++)
		given += give(&conns.slots[i], 0, note);
	return given;
}

int
gd_note(uint64_t client, gd_out *note)
{
	uint32_t used = conns.used, slot = (uint32_t)client - 1;
	int code = conn_whole(note, used > 0 ? conns.driver->reply_limit : UINT64_MAX);

	if (code == 0 && client == 0)
		code = give_all(note, used);
	else if (code == 0 && slot < used)
		code = give(&conns.slots[slot], client, note);
	gd_out_reset(note);
	return code;
}
