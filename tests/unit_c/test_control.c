/* SPDX-License-Identifier: MIT */
/* What the daemon says on the control channel: each message, what is almost one, and the descriptors that come along.
 * Longer than others: the channel has one parser, and this puts together each of its messages. */
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "check.h"
#include "control.h"
#include "faults.h"
#include "recorder.h"
#include "settings.h"
#include "term.h"

static int daemon_end;

int
settings_add(const void *key, size_t key_len, const void *value, size_t value_len)
{
	(void)value, (void)value_len;
	return key_len == 3 && memcmp(key, "bad", 3) == 0 ? -1 : 0;
}

/* --- messages ------------------------------------------------------------ */

static gd_out message;

static void
say(const char *tag, size_t arity)
{
	gd_out_init(&message, CONTROL_MAX);
	gd_put_tuple(&message, arity);
	gd_put_atom(&message, tag);
}

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

/* --- the start ----------------------------------------------------------- */

static const char *const limits[] = {
	"frame", "depth", "terms", "bignum", "queue", "connections", "in_flight", "in_flight_bytes", "unsent_bytes",
	"unsent_ms", "linger_ms", "reply", "frame_ms", "frames_bytes",
};
#define LIMITS (sizeof(limits) / sizeof(limits[0]))

/* limits, of which `except` is left out, is 0 or `wrong`, and one that nobody knows. */
static void
put_limits(const char *except, int how)
{
	gd_put_atom(&message, "limits");
	gd_put_map(&message, LIMITS + 1);
	for (size_t i = 0; i < LIMITS; i++) {
		bool it = except != NULL && strcmp(limits[i], except) == 0;
		gd_put_atom(&message, it && how == 0 ? "no_limit" : limits[i]);
		if (it && how == 1)
			gd_put_nil(&message);
		else
			gd_put_u64(&message, it ? 0 : 1000);
	}
	gd_put_atom(&message, "more");
	gd_put_nil(&message);
}

/* A start that is complete, but for the pairs that `change` puts in front; `pairs` counts them. */
static void
say_start(size_t pairs, void (*change)(void), uint64_t threads, uint64_t abandoned)
{
	say("start", 2);
	gd_put_map(&message, 5 + pairs);
	if (pairs > 0)
		change();
	gd_put_atom(&message, "name");
	gd_put_text(&message, "n");
	gd_put_atom(&message, "driver");
	gd_put_text(&message, "d");
	gd_put_atom(&message, "threads");
	gd_put_u64(&message, threads);
	gd_put_atom(&message, "max_abandoned");
	gd_put_u64(&message, abandoned);
	put_limits(NULL, 0);
}

/* 0 or -1, and all that was allocated is freed. */
static int
started(void)
{
	struct start s;
	int code;

	CHECK(gd_out_done(&message) == 1);
	code = control_parse_start(message.buf, message.len, &s);
	for (size_t i = 0; i < s.run_limit_count; i++)
		free(s.run_limits[i].command);
	free(s.run_limits);
	sandbox_forget(&s.sandbox);
	free(s.driver);
	free(s.name);
	gd_out_free(&message);
	return code;
}

/* The pair of a key and one of these. */
static const char *key;
static enum { NIL, NUMBER, SETTING, BAD_SETTING, NO_SETTING, LIMIT, NO_LIMIT, BAD_LIMIT, INFO } value;

static void
put_setting(const char *name, bool text)
{
	gd_put_map(&message, 1);
	gd_put_text(&message, name);
	if (text)
		gd_put_text(&message, "v");
	else
		gd_put_nil(&message);
}

static void
put_pair(void)
{
	gd_put_atom(&message, key);
	switch (value) {
	case NIL: gd_put_nil(&message); break;
	case NUMBER: gd_put_u64(&message, 3); break;
	case SETTING: put_setting("a", true); break;
	case BAD_SETTING: put_setting("bad", true); break;
	case NO_SETTING: put_setting("a", false); break;
	case NO_LIMIT: gd_put_map(&message, 1), gd_put_nil(&message), gd_put_u64(&message, 1); break;
	case LIMIT: gd_put_map(&message, 1), gd_put_text(&message, "c"), gd_put_u64(&message, 1); break;
	case BAD_LIMIT: gd_put_map(&message, 1), gd_put_text(&message, "c"), gd_put_nil(&message); break;
	case INFO: gd_put_atom(&message, "info"); break;
	}
}

static int
started_with(const char *with, int what)
{
	key = with;
	value = what;
	say_start(1, put_pair, 2, 0);
	return started();
}

static void
put_text_as_key(void)
{
	gd_put_text(&message, "key");
	gd_put_nil(&message);
}

static void
put_name_too(void)
{
	gd_put_atom(&message, "name");
	gd_put_text(&message, "other");
}

static void
put_run_limits_twice(void)
{
	key = "max_run_of";
	value = LIMIT;
	put_pair();
	put_pair();
}

static void
check_pairs(void)
{
	static const char *const numbers[] = { "generation", "short", "max_run", "cores" };

	about = "pairs";
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		CHECK(started_with(numbers[i], NUMBER) == 0 && started_with(numbers[i], NIL) == -1);
	CHECK(started_with("log_level", INFO) == 0 && started_with("log_level", NIL) == -1);
	CHECK(started_with("settings", SETTING) == 0 && started_with("settings", NIL) == -1);
	CHECK(started_with("settings", BAD_SETTING) == -1 && started_with("settings", NO_SETTING) == -1);
	CHECK(started_with("settings", NO_LIMIT) == -1);
	CHECK(started_with("max_run_of", LIMIT) == 0 && started_with("max_run_of", NIL) == -1);
	CHECK(started_with("max_run_of", NO_LIMIT) == -1 && started_with("max_run_of", BAD_LIMIT) == -1);
	CHECK(started_with("name", NIL) == -1 && started_with("limits", NIL) == -1);
	CHECK(started_with("name", NUMBER) == -1 && started_with("more", NIL) == 0);
	say_start(1, put_text_as_key, 2, 0);
	CHECK(started() == 0);
	say_start(1, put_name_too, 2, 0);
	CHECK(started() == -1);
	say_start(2, put_run_limits_twice, 2, 0);
	CHECK(started() == -1);
}

static void
check_bounds(void)
{
	about = "bounds";
	say_start(0, NULL, 1024, RECORDER_ABANDONED);
	CHECK(started() == 0);
	say_start(0, NULL, 1025, 0);
	CHECK(started() == -1);
	say_start(0, NULL, 0, 0);
	CHECK(started() == -1);
	say_start(0, NULL, 1, RECORDER_ABANDONED + 1);
	CHECK(started() == -1);
}

/* Only limits, and whether there is a name, a driver. */
static int
started_bare(bool name, bool driver, const char *except, int how)
{
	say("start", 2);
	gd_put_map(&message, (size_t)2 + name + driver);
	gd_put_atom(&message, "threads");
	gd_put_u64(&message, 1);
	for (int i = 0; i < 2; i++) {
		if (i == 0 ? !name : !driver)
			continue;
		gd_put_atom(&message, i == 0 ? "name" : "driver");
		gd_put_text(&message, "x");
	}
	put_limits(except, how);
	return started();
}

static void
check_missing(void)
{
	about = "missing";
	CHECK(started_bare(true, true, NULL, 0) == 0);
	CHECK(started_bare(false, true, NULL, 0) == -1 && started_bare(true, false, NULL, 0) == -1);
	for (size_t i = 0; i < LIMITS; i++)
		CHECK(started_bare(true, true, limits[i], 0) == -1 && started_bare(true, true, limits[i], 1) == -1);
	CHECK(started_bare(true, true, "frame", 2) == -1 && started_bare(true, true, "connections", 2) == -1);
	CHECK(started_bare(true, true, "queue", 2) == 0);
	say("start", 1);
	CHECK(started() == -1);
	say("begin", 2);
	gd_put_nil(&message);
	CHECK(started() == -1);
	say("start", 2);
	gd_put_nil(&message);
	CHECK(started() == -1);
}

/* No memory for the first text, the second, the list of limits, its text. */
static void
check_no_memory(void)
{
	about = "no memory";
	for (int n = 0; n < 4; n++) {
		key = "max_run_of";
		value = LIMIT;
		say_start(1, put_pair, 2, 0);
		allocations = n;
		CHECK(started() == -1);
		allocations = -1;
	}
}

/* --- the channel --------------------------------------------------------- */

static void
send_with(const void *data, size_t len, const int *fds, size_t n)
{
	union { struct cmsghdr align; char space[CMSG_SPACE(2 * sizeof(int))]; } control = { 0 };
	struct iovec iov = { (void *)data, len };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (n > 0) {
		msg.msg_control = control.space;
		msg.msg_controllen = CMSG_SPACE(n * sizeof(int));
		CMSG_FIRSTHDR(&msg)->cmsg_level = SOL_SOCKET;
		CMSG_FIRSTHDR(&msg)->cmsg_type = SCM_RIGHTS;
		CMSG_FIRSTHDR(&msg)->cmsg_len = CMSG_LEN(n * sizeof(int));
		memcpy(CMSG_DATA(CMSG_FIRSTHDR(&msg)), fds, n * sizeof(int));
	}
	CHECK(sendmsg(daemon_end, &msg, 0) == (ssize_t)len);
}

static int
open_descriptors(void)
{
	int n = 0;

	for (int fd = 0; fd < 256; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

/* One comes along, and is closed on exec; of two at most one does, and none is left open unseen. */
static void
check_descriptors(void)
{
	static const unsigned char ping[] = { 131, 104, 2, 119, 4, 'p', 'i', 'n', 'g', 97, 5 };
	const int fds[2] = { 0, 0 };
	struct control_message m;
	int before = open_descriptors();

	about = "descriptors";
	for (size_t n = 0; n < 3; n++) {
		send_with(ping, sizeof(ping), fds, n);
		CHECK(control_receive(&m) && m.kind == CONTROL_PING && m.number == 5);
		CHECK(n == 2 || (m.fd >= 0) == (n == 1));
		if (m.fd >= 0)
			CHECK(fcntl(m.fd, F_GETFD) == FD_CLOEXEC && close(m.fd) == 0);
		CHECK(open_descriptors() == before);
	}
	CHECK(control_receive(&m) && m.kind == CONTROL_NONE && m.fd == -1);	/* nothing is there */
}

/* Says what is waited for, from a signal's handler, the twentieth time: so the wait was interrupted before. */
static void
say_at_last(int number)
{
	static const unsigned char stop[] = "\203h\2w\4stopa\7";
	static volatile sig_atomic_t times;

	(void)number;
	if (++times == 20 && send(daemon_end, stop, sizeof(stop) - 1, MSG_NOSIGNAL) < 0)
		abort();
}

/* A wait that a signal interrupts goes on; credentials that come along are no descriptor. */
static void
check_waiting(void)
{
	struct sigaction heard = { .sa_handler = say_at_last };
	struct itimerval often = { .it_value = { .tv_usec = 2000 }, .it_interval = { .tv_usec = 2000 } }, never = { 0 };
	int on = 1, off = 0;
	struct start s;
	char why[100];

	about = "waiting";
	CHECK(sigaction(SIGALRM, &heard, NULL) == 0 && setitimer(ITIMER_REAL, &often, NULL) == 0);
	CHECK(control_start(&s, why, sizeof(why)) == -1);
	CHECK(setitimer(ITIMER_REAL, &never, NULL) == 0);
	CHECK(setsockopt(CONTROL_FD, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) == 0);
	send_with("\203j", 2, NULL, 0);
	CHECK(control_start(&s, why, sizeof(why)) == -1 && s.recorder == -1);
	CHECK(setsockopt(CONTROL_FD, SOL_SOCKET, SO_PASSCRED, &off, sizeof(off)) == 0);
}

static void
check_channel(void)
{
	struct control_message m;
	struct start s;
	char why[100] = "";
	const int fd = 0;

	about = "channel";
	say_start(0, NULL, 2, 0);
	send_with(message.buf, message.len, &fd, 1);
	gd_out_free(&message);
	CHECK(control_start(&s, why, sizeof(why)) == 0 && s.recorder >= 0 && close(s.recorder) == 0);
	free(s.name);
	free(s.driver);
	send_with("\203j", 2, NULL, 0);
	CHECK(control_start(&s, why, sizeof(why)) == -1 && strstr(why, "{start, Map}") != NULL && s.recorder == -1);
	close(daemon_end);
	CHECK(!control_receive(&m) && m.fd == -1);
	CHECK(control_start(&s, why, sizeof(why)) == -1);
}

int
main(void)
{
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends) != 0 || (daemon_end = fcntl(ends[0], F_DUPFD, 10)) < 0
	    || dup2(ends[1], CONTROL_FD) < 0)
		return 1;
	for (int i = 0; i < 2; i++)
		if (ends[i] != CONTROL_FD)
			close(ends[i]);
	check_numbers();
	check_conn();
	check_quarantine();
	check_no_message();
	check_pairs();
	check_bounds();
	check_missing();
	check_no_memory();
	check_descriptors();
	check_waiting();
	check_channel();
	return check_summary();
}
