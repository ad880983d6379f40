/* SPDX-License-Identifier: MIT */
/* What the daemon says on the control channel: each message, and what is almost one. */
#include "check.h"
#include "control_words.h"

/* What it is taken for. */
static struct control_message
taken(void)
{
	struct control_message m;

	CHECK(gd_out_done(&message) == 1);
	control_parse(message.buf, message.len, &m);
	gd_out_free(&message);
	return m;
}

/* {Tag, N} */
static struct control_message
numbered(const char *tag, uint64_t n)
{
	say(tag, 2);
	gd_put_u64(&message, n);
	return taken();
}

/* {Tag, atom} */
static struct control_message
named(const char *tag, const char *name)
{
	say(tag, 2);
	gd_put_atom(&message, name);
	return taken();
}

static struct control_message
bare(const char *tag)
{
	say(tag, 1);
	return taken();
}

static void
check_numbers(void)
{
	about = "numbers";
	CHECK(numbered("drain", 5).kind == CONTROL_DRAIN && numbered("drain", UINT32_MAX).ms == UINT32_MAX);
	CHECK(numbered("drain", (uint64_t)UINT32_MAX + 1).kind == CONTROL_NONE);
	CHECK(numbered("stop", 7).kind == CONTROL_STOP && named("stop", "x").kind == CONTROL_NONE);
	CHECK(numbered("ping", UINT64_MAX).number == UINT64_MAX && named("ping", "x").kind == CONTROL_NONE);
	CHECK(named("level", "debug").level == 0 && named("level", "error").kind == CONTROL_LEVEL);
	CHECK(named("level", "loud").kind == CONTROL_NONE && numbered("level", 1).kind == CONTROL_NONE);
	CHECK(named("drain", "x").kind == CONTROL_NONE && numbered("what", 1).kind == CONTROL_NONE);
	CHECK(bare("drain").kind == CONTROL_NONE && bare("stop").kind == CONTROL_NONE);
	CHECK(bare("level").kind == CONTROL_NONE && bare("ping").kind == CONTROL_NONE);
	CHECK(bare("conn").kind == CONTROL_NONE && bare("quarantine").kind == CONTROL_NONE);
}

/* {conn, Number, Peer, Welcome, Allowed}; `wrong` counts the elements, 0: none is. */
static struct control_message
conn(int wrong, size_t peer_len)
{
	static char peer[300];

	memset(peer, 'p', sizeof(peer));
	say("conn", 5);
	if (wrong == 1)
		gd_put_nil(&message);
	else
		gd_put_u64(&message, 5);
	if (wrong == 2)
		gd_put_nil(&message);
	else
		gd_put_binary(&message, peer, peer_len);
	if (wrong == 3)
		gd_put_nil(&message);
	else
		gd_put_text(&message, "welcome");
	gd_put_atom(&message, wrong == 4 ? "none" : "all");
	return taken();
}

static void
check_conn(void)
{
	about = "conn";
	CHECK(conn(0, 4).kind == CONTROL_CONN && strcmp(conn(0, 4).peer, "pppp") == 0);
	CHECK(conn(0, 4).welcome_len == 7 && conn(0, 4).number == 5 && conn(0, 4).fd == -1);
	CHECK(strlen(conn(0, 300).peer) == sizeof(conn(0, 300).peer) - 1);	/* cut to fit */
	for (int wrong = 1; wrong <= 4; wrong++)
		CHECK(conn(wrong, 4).kind == CONTROL_NONE);
}

static struct control_message
quarantine(int64_t cmd, int64_t len, size_t hash, int64_t ms)
{
	static const char digest[64];

	say("quarantine", 5);
	gd_put_i64(&message, cmd);
	gd_put_i64(&message, len);
	if (hash == 0)
		gd_put_nil(&message);
	else
		gd_put_binary(&message, digest, hash);
	gd_put_i64(&message, ms);
	return taken();
}

static void
check_quarantine(void)
{
	const int64_t most = UINT32_MAX * 1000ll;

	about = "quarantine";
	CHECK(quarantine(7, 2, 32, 5).kind == CONTROL_QUARANTINE && quarantine(7, 2, 32, 5).quarantined.cmd == 7);
	CHECK(quarantine(INT32_MAX, 2, 32, most).kind == CONTROL_QUARANTINE);
	CHECK(quarantine(INT32_MIN, 2, 32, 0).kind == CONTROL_QUARANTINE);
	CHECK(quarantine(INT32_MAX + 1ll, 2, 32, 5).kind == CONTROL_NONE);
	CHECK(quarantine(INT32_MIN - 1ll, 2, 32, 5).kind == CONTROL_NONE);
	CHECK(quarantine(7, -1, 32, 5).kind == CONTROL_NONE);
	CHECK(quarantine(7, 2, 31, 5).kind == CONTROL_NONE && quarantine(7, 2, 33, 5).kind == CONTROL_NONE);
	CHECK(quarantine(7, 2, 0, 5).kind == CONTROL_NONE);
	CHECK(quarantine(7, 2, 32, -1).kind == CONTROL_NONE && quarantine(7, 2, 32, most + 1).kind == CONTROL_NONE);
	say("quarantine", 5);
	for (int i = 0; i < 4; i++)
		gd_put_nil(&message);
	CHECK(taken().kind == CONTROL_NONE);
}

static void
check_no_message(void)
{
	static const unsigned char nil[] = { 131, 106 }, empty[] = { 131, 104, 0 }, cut[] = { 131, 104, 1 };
	struct control_message m;

	about = "no message";
	control_parse(nil, sizeof(nil), &m);
	CHECK(m.kind == CONTROL_NONE && m.fd == -1);
	control_parse(empty, sizeof(empty), &m);
	CHECK(m.kind == CONTROL_NONE);
	control_parse(cut, sizeof(cut), &m);
	CHECK(m.kind == CONTROL_NONE);
}

int
main(void)
{
	check_numbers();
	check_conn();
	check_quarantine();
	check_no_message();
	return check_summary();
}
