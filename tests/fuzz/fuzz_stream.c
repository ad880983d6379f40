/* SPDX-License-Identifier: MIT */
/*
 * A client's bytes on the host's real connection (conn.c and all it consists of), over a socket, cut and mixed with
 * answers as the input says: a byte with the number of steps, the steps, then the stream. However it is cut, what comes
 * of it is what it says when it is read in one go: as many calls are answered, each once, the goodbye is the same, every
 * frame sent is valid, and every request and byte of memory comes back.
 */
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "envelope.h"
#include "fake_pool.h"
#include "frame.h"
#include "input.h"
#include "log.h"
#include "mutate_frames.h"
#include "quarantine.h"
#include "term.h"

#define TURNS_MOST 100000
#define WELCOME "welcome, as it came"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static const struct start start = {
	.limits = {
		.term = { 40, 5000, 64 }, .frame = 6000, .frame_ms = 60000, .frames_bytes = 6000, .queue = REQUESTS,
		.connections = 1, .in_flight = 6,
		.in_flight_bytes = 6000, .unsent_bytes = 2048, .unsent_ms = 60000, .linger_ms = 60000, .reply = 65536,
	},
};
static const struct driver driver = { .reply_limit = 65536 };

static struct client {
	int fd;
	unsigned char *said;	/* what the host sent */
	size_t len, room;
	const char *reason;	/* of its end; NULL: not yet */
} client;
static bool stopped;

/* What a stream says, read in one go, or what was heard. */
struct account {
	size_t outcomes;	/* calls read, or answered */
	const char *goodbye;	/* NULL: none */
};

/* --- the host ------------------------------------------------------------ */

static void
notify(void)
{
}

static void
closed(const struct conn *c)
{
	client.reason = c->reason;
}

static void
begin_once(void)
{
	struct quarantined poison = { .cmd = 7, .len = 2, .until = UINT64_MAX };
	const struct conns_hooks hooks = { notify, closed };

	if (conns.slots != NULL)
		return;
	log_level_set(GD_ERROR);	/* descriptor 3 is none of ours */
	sha256((const unsigned char *)"a\1", 2, poison.digest);
	quarantine_add(&poison);
	if (recorder_open(-1, REQUESTS, 1, 1) != 0
	    || conns_init(&start, &driver, NULL, epoll_create1(0), hooks) != 0)
		abort();
	stats_open(NULL);
	pool_begin();
}

static void
hear(void)
{
	ssize_t n;

	do {
		if (client.room - client.len < 4096) {
			client.room = client.room * 2 + 8192;
			client.said = realloc(client.said, client.room);
		}
		n = recv(client.fd, client.said + client.len, client.room - client.len, MSG_DONTWAIT);
		client.len += n > 0 ? (size_t)n : 0;
	} while (n > 0);
}

/* One turn of the loop. */
static void
turn(void)
{
	struct epoll_event events[8];
	int n = epoll_wait(conns.epoll, events, 8, 0);

	for (int i = 0; i < n; i++)
		conn_event(events[i].data.u64, events[i].events);
	if (hungry && spare.len > 0) {
		hungry = false;
		conns_fed();
	}
	conns_attend();
}

/* The next of the stream, as many bytes as go in. */
static void
feed(struct input *stream, size_t most)
{
	size_t len;
	const uint8_t *at = input_bytes(stream, most, &len);
	ssize_t n = send(client.fd, at, len, MSG_DONTWAIT | MSG_NOSIGNAL);

	stream->at = at + (n > 0 ? n : 0);
	if (n < 0 && client.reason != NULL)
		stream->at = stream->end;
}

static void
step(uint8_t what, struct input *stream)
{
	size_t amount = what >> 3;

	switch (what & 7) {
	case 0: case 1:
		feed(stream, 1 + amount);
		break;
	case 2:
		feed(stream, 1 + amount * amount * 8);
		break;
	case 3: case 4:
		run_one();
		break;
	case 5:
		hear();
		break;
	case 6:
		time_is_up = true;
		conns_tick(1);
		break;
	default:
		if (amount == 31)
			stopped = true, conns_stop();
		else if (amount > 24)
			conns_drain();
		break;
	}
	turn();
}

static void
connect_client(void)
{
	int ends[2], small = 1;

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0)
		abort();
	setsockopt(ends[1], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	client = (struct client){ .fd = ends[0] };
	stopped = conns.stopping = hungry = time_is_up = false;
	if (conn_adopt(ends[1], 1, "peer", WELCOME, strlen(WELCOME), NULL) != NULL)
		abort();
}

/* All of the stream, its end, and all that comes of it. */
static void
finish(struct input *stream)
{
	bool ended = false;

	for (int i = 0; client.reason == NULL; i++) {
		if (i == TURNS_MOST)
			abort();	/* somebody waits for what never comes */
		feed(stream, 4096);
		if (!ended && input_left(stream) == 0)
			ended = shutdown(client.fd, SHUT_WR) == 0;
		turn();
		if (i % 3 == 0)
			run_one();
		hear();
	}
	while (run_one())
		continue;
	hear();
	close(client.fd);
}

/* --- what it must have said ---------------------------------------------- */

/* A frame that a host may send. */
static void
account_for(struct account *a, const unsigned char *frame, size_t len)
{
	static const char *const goodbyes[] = {
		"bad_term", "compressed", "trailing_bytes", "too_deep", "too_many_terms", "bignum_too_large",
		"bad_envelope", "frame_too_large", "duplicate_id", "stopping",
	};
	gd_in in;
	size_t arity;

	if (etf_check_all(&start.limits.term, frame, len, 1) != 0)
		abort();
	gd_in_init(&in, frame + 1, len - 1);
	if (gd_get_tuple(&in, &arity) != 0 || a->goodbye != NULL)
		abort();
	if (arity == 3 && (gd_get_atom_is(&in, "reply") == 0 || gd_get_atom_is(&in, "failed") == 0)) {
		a->outcomes++;
		return;
	}
	if ((arity == 3 && gd_get_atom_is(&in, "part") == 0) || (arity == 2 && gd_get_atom_is(&in, "pong") == 0))
		return;
	if (arity != 2 || gd_get_atom_is(&in, "goodbye") != 0)
		abort();
	if (gd_get_atom_is(&in, "draining") == 0)
		return;
	for (size_t i = 0; i < sizeof(goodbyes) / sizeof(goodbyes[0]); i++)
		if (gd_get_atom_is(&in, goodbyes[i]) == 0)
			a->goodbye = goodbyes[i];
	if (a->goodbye == NULL)
		abort();
}

static struct account
heard(void)
{
	struct account a = { 0 };
	size_t at = strlen(WELCOME), size;

	if (client.len < at || memcmp(client.said, WELCOME, at) != 0)
		abort();
	for (; client.len - at >= FRAME_HEAD; at += FRAME_HEAD + size) {
		size = frame_length(client.said + at);
		if (size > client.len - at - FRAME_HEAD)
			abort();
		account_for(&a, client.said + at + FRAME_HEAD, size);
	}
	if (at != client.len)
		abort();
	return a;
}

/* The goodbye that a frame costs, or NULL; counts it when it is a call. */
static const char *
judge(const uint8_t *frame, size_t len, size_t *calls)
{
	struct envelope e;
	struct etf_check c;
	int code;

	etf_check_begin(&c, &start.limits.term, frame, len, 1);
	code = etf_check_run(&c, UINT32_MAX);
	etf_check_end(&c);
	if (code != 0)
		return etf_reason(code);
	code = envelope_parse(&c, frame, len, &e);
	if (code == ENV_BAD_ENVELOPE)
		return "bad_envelope";
	*calls += e.kind == ENV_CALL;
	return NULL;
}

static struct account
expected(struct input stream)
{
	struct account a = { 0 };
	const uint8_t *frame;
	size_t size;

	while (a.goodbye == NULL && input_left(&stream) >= FRAME_HEAD) {
		size = (size_t)input_number(&stream, FRAME_HEAD);
		if (size > start.limits.frame)
			a.goodbye = "frame_too_large";
		else if (size > input_left(&stream))
			break;
		else {
			frame = input_bytes(&stream, size, &size);
			a.goodbye = judge(frame, size, &a.outcomes);
		}
	}
	return a;
}

/* Whether an id is in flight already depends on how the stream is cut, and a stop comes before what is unread. */
static void
compare(struct account is, struct account should)
{
	bool cut = is.goodbye != NULL && strcmp(is.goodbye, "duplicate_id") == 0;

	if (is.outcomes > should.outcomes)
		abort();
	if (cut || stopped)
		return;
	if (is.outcomes != should.outcomes || (is.goodbye == NULL) != (should.goodbye == NULL))
		abort();
	if (is.goodbye != NULL && strcmp(is.goodbye, should.goodbye) != 0)
		abort();
}

size_t
LLVMFuzzerCustomMutator(uint8_t *data, size_t len, size_t most, unsigned int seed)
{
	size_t at = len > 0 ? 1 + (size_t)data[0] : 0, size;

	srand(seed);
	if (seed % 10 == 0)
		return append_call(data, len, most);
	for (; seed % 2 != 0 && at + FRAME_HEAD + 1 < len; at += FRAME_HEAD + size) {
		size = frame_length(data + at);
		if (size < 2 || size > len - at - FRAME_HEAD)
			break;
		if (rand() % 3 == 0)
			return mutate_frame(data, len, most, at, size);
	}
	return LLVMFuzzerMutate(data, len, most);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct input in = { data, data + len }, steps = in;
	size_t count;

	begin_once();
	steps.at = input_bytes(&in, input_byte(&in), &count);
	steps.end = steps.at + count;
	const struct input stream = in;
	connect_client();
	while (input_left(&steps) > 0 && client.reason == NULL)
		step(input_byte(&steps), &in);
	finish(&in);
	pool_check();
	compare(heard(), expected(stream));
	free(client.said);
	return 0;
}
