/* SPDX-License-Identifier: MIT */
/* The messages of say.h, put together. */
#include "control.h"
#include "say.h"
#include "term.h"

void
say(const char *tag)
{
	gd_out m;

	control_begin(&m, tag, 1);
	control_send(&m);
}

void
say_number(const char *tag, uint64_t number)
{
	gd_out m;

	control_begin(&m, tag, 2);
	gd_put_u64(&m, number);
	control_send(&m);
}

void
say_refused(uint64_t number, const char *reason)
{
	gd_out m;

	control_begin(&m, "refused", 3);
	gd_put_u64(&m, number);
	gd_put_atom(&m, reason);
	control_send(&m);
}

static void
put_count(gd_out *m, const char *key, uint64_t n)
{
	gd_put_atom(m, key);
	gd_put_u64(m, n);
}

void
say_closed(const struct conn *c)
{
	gd_out m;

	control_begin(&m, "closed", 4);
	gd_put_u64(&m, c->number);
	gd_put_atom(&m, c->reason);
	gd_put_map(&m, 5);
	put_count(&m, "calls", c->calls_read);
	put_count(&m, "casts", c->casts_read);
	put_count(&m, "bytes_in", c->bytes_in);
	put_count(&m, "bytes_out", c->bytes_out);
	put_count(&m, "notes_lost", c->notes_lost);
	control_send(&m);
}

bool
say_ready(const struct driver *d)
{
	size_t commands = 0, atoms = 0;
	gd_out m;

	while (d->table.commands != NULL && d->table.commands[commands].name != NULL)
		commands++;
	while (d->table.atoms != NULL && d->table.atoms[atoms] != NULL)
		atoms++;
	control_begin(&m, "ready", 2);
	gd_put_map(&m, 4);
	put_count(&m, "abi", d->legacy ? 0 : d->table.abi);
	gd_put_atom(&m, "commands");
	gd_put_map(&m, commands);
	for (size_t i = 0; i < commands; i++) {
		gd_put_text(&m, d->table.commands[i].name);
		gd_put_i64(&m, d->table.commands[i].cmd);
	}
	gd_put_atom(&m, "atoms");
	gd_put_list(&m, atoms);
	for (size_t i = 0; i < atoms; i++)
		gd_put_text(&m, d->table.atoms[i]);
	if (atoms > 0)
		gd_put_nil(&m);
	gd_put_atom(&m, "source");
	gd_put_text(&m, GD_SOURCE);
	if (gd_out_done(&m) != 1) {
		gd_out_free(&m);
		return false;
	}
	control_send(&m);
	return true;
}
