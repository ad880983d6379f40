/* SPDX-License-Identifier: MIT */
/* Frames that are taken in turns: a large one is validated once, however often it must wait for a request afterwards. */
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "conn.h"
#include "envelope.h"
#include "log.h"

#define TERMS 50000u		/* more than two turns, however long these are */
#define HEAD 16			/* of the frame: {cast, 1, [.. */

struct conns conns;
static bool free_request;
static unsigned casts;
static const char *goodbye;

enum taken
conn_take_cast(struct conn *c, const unsigned char *frame, size_t len, const struct envelope *e, struct queue *batch)
{
	(void)c, (void)frame, (void)len, (void)batch;
	CHECK(e->kind == ENV_CAST && e->cmd == 1 && e->params_len == 5 + 2 * (size_t)TERMS + 1);
	if (!free_request)
		return STARVED;
	casts++;
	return TAKEN;
}

void
conn_close_with(struct conn *c, const char *reason)
{
	(void)c;
	goodbye = reason;
}

/* What a cast does not need. */
enum taken
conn_take_call(struct conn *c, const unsigned char *frame, size_t len, const struct envelope *e, struct queue *batch)
{
	(void)c, (void)frame, (void)len, (void)e, (void)batch;
	abort();
}

void
conn_put_failed(struct conn *c, uint32_t id, const char *reason)
{
	(void)c, (void)id, (void)reason;
	abort();
}

void
conn_put_pong(struct conn *c, uint32_t id)
{
	(void)c, (void)id;
	abort();
}

void
conn_fail(struct request *r, const char *reason)
{
	(void)r, (void)reason;
	abort();
}

struct request *
ids_find(const struct ids *ids, uint32_t id)
{
	(void)ids, (void)id;
	abort();
}

bool
pool_withdraw(struct pool *p, struct request *r)
{
	(void)p, (void)r;
	abort();
}

void
log_numbers(enum gd_level level, const char *event, const struct log_number *numbers, size_t n)
{
	(void)level, (void)event, (void)numbers, (void)n;
	abort();
}

void
pool_submit(struct pool *p, struct queue *batch)
{
	(void)p, (void)batch;
}

/* {cast, 1, [1, 1, ..]}, with its length; malloc'ed. */
static unsigned char *
large_cast(size_t *len)
{
	static const unsigned char head[HEAD] = "\x83h\3w\4casta\1l\0\0\xc3\x50";
	size_t size = HEAD + 2 * (size_t)TERMS + 1;
	unsigned char *frame = malloc(4 + size);

	if (frame == NULL)
		abort();
	for (unsigned i = 0; i < 4; i++)
		frame[i] = (unsigned char)(size >> (24 - 8 * i));
	memcpy(frame + 4, head, HEAD);
	for (size_t i = 0; i < TERMS; i++)
		memcpy(frame + 4 + HEAD + 2 * i, "a\1", 2);
	frame[4 + size - 1] = 'j';
	*len = 4 + size;
	return frame;
}

/* Until it comes to an end, which goes to *code: how many turns it took. */
static unsigned
take(struct conn *c, const unsigned char *frame, size_t len, enum taken *code)
{
	size_t taken;
	unsigned turns = 1;

	while ((*code = conn_take(c, frame, len, &taken)) == AGAIN)
		turns++;
	CHECK(taken == (*code == TAKEN ? len : 0));
	return turns;
}

static void
check_a_verdict_is_kept(void)
{
	struct conn c = { 0 };
	enum taken code;
	size_t len;
	unsigned char *frame = large_cast(&len);
	unsigned turns = take(&c, frame, len, &code);

	about = "a verdict is kept";
	CHECK(turns > 2 && code == STARVED);
	CHECK(take(&c, frame, len, &code) == 1 && code == STARVED);
	conn_check_anew(&c);		/* as its bytes move */
	CHECK(take(&c, frame, len, &code) == turns && code == STARVED);
	free_request = true;
	CHECK(take(&c, frame, len, &code) == 1 && code == TAKEN);
	CHECK(casts == 1 && goodbye == NULL);
	frame[4] = 0;			/* the next one has its own */
	CHECK(take(&c, frame, len, &code) == 1 && code == ENDED);
	CHECK(casts == 1 && goodbye != NULL && strcmp(goodbye, "bad_term") == 0);
	free(frame);
}

int
main(void)
{
	static const struct start start = {
		.limits = { .frame = 1 << 20, .term = { .depth = 8, .terms = 1 << 20, .bignum = 8 } },
	};

	conns.start = &start;
	check_a_verdict_is_kept();
	return check_summary();
}
