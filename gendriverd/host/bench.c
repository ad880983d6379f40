/* SPDX-License-Identifier: MIT */
/*
 * Running one request in one seat: thread state at the first request, then
 * dispatch, then the rules of what a caller gets. error_set wins; nothing put is
 * `ok`; a reply is sent only when it is exactly one valid term.
 *
 * A driver written for the original encodes with unchecked ei_encode_* calls.
 * Behind its buffer lie megabytes that nobody may touch, so that an overflow is a
 * clean crash of this host and not silent corruption.
 */
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "clock.h"
#include "driver.h"
#include "etf.h"
#include "lengths.h"
#include "recorder.h"
#include "running.h"
#include "term.h"

#define GUARD (16u << 20)	/* address space, no memory */
#define ANY_DEPTH 100000	/* a reply is the receiver's to judge, not ours */

static _Thread_local char *guarded_here;

char *
bench_guarded(void)
{
	return guarded_here;
}

static char *
guarded_new(void)
{
	char *at = mmap(NULL, LEGACY_REPLY + GUARD, PROT_NONE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (at == MAP_FAILED)
		return NULL;
	if (mprotect(at, LEGACY_REPLY, PROT_READ | PROT_WRITE) != 0) {
		munmap(at, LEGACY_REPLY + GUARD);
		return NULL;
	}
	return at;
}

int
bench_init(struct bench *b, const struct driver *d, unsigned seat)
{
	*b = (struct bench){ .driver = d, .seat = seat };
	if (gd_out_init(&b->res.out, d->reply_limit) != 0)
		return -1;
	if (d->legacy && (b->guarded = guarded_new()) == NULL)
		return -1;
	return 0;
}

void
bench_free(struct bench *b)
{
	if (b->began && b->driver->table.thread_destroy != NULL)
		b->driver->table.thread_destroy(b->state);
	gd_out_free(&b->res.out);
	if (b->guarded != NULL)
		munmap(b->guarded, LEGACY_REPLY + GUARD);
}

/* {error, Name}, without version byte, into out. */
static void
put_error(struct bench *b, const char *name)
{
	b->erred = true;
	gd_out_reset(&b->res.out);
	gd_put_tuple(&b->res.out, 2);
	gd_put_atom(&b->res.out, "error");
	if (gd_put_atom(&b->res.out, name) != 0) {	/* not UTF-8 */
		gd_out_reset(&b->res.out);
		gd_put_tuple(&b->res.out, 2);
		gd_put_atom(&b->res.out, "error");
		gd_put_atom(&b->res.out, "badatom");
	}
}

static void
answer_from_out(struct bench *b, struct answer *answer)
{
	int state = gd_out_done(&b->res.out);

	if (state < 0) {
		answer->failed = "bad_reply";
		return;
	}
	if (state == 0)
		gd_put_atom(&b->res.out, "ok");
	answer->term = b->res.out.buf + 1;
	answer->len = b->res.out.len - 1;
	answer->own = b->res.out.buf;
}

static int
valid_reply(const char *buf, size_t len)
{
	static const struct etf_limits any = { ANY_DEPTH, UINT32_MAX, UINT32_MAX };

	return etf_check_all(&any, (const unsigned char *)buf, len, 1) == 0;
}

static void
answer_from_buffer(struct bench *b, const gd_req_t *req, gd_res_t *res, struct answer *answer)
{
	bool ours = res->buf == b->guarded;
	size_t room = ours ? LEGACY_REPLY : malloc_usable_size(res->buf);
	/* Read in part: a driver that looked at its params must have read them all. */
	bool partly = req->index > 1 && (size_t)req->index != req->len;

	if (error_occurred(res))
		put_error(b, res->error);
	else if (partly)
		put_error(b, GD_ERR_DECODE);
	else if (res->index == 1)
		gd_out_reset(&b->res.out);
	else if (res->index < 1 || (size_t)res->index > room || !valid_reply(res->buf, (size_t)res->index)) {
		answer->failed = "bad_reply";
	} else {
		gd_out_reset(&b->res.out);
		gd_put_raw(&b->res.out, res->buf + 1, (size_t)res->index - 1);
	}
	if (!ours)
		free(res->buf);
	if (answer->failed == NULL)
		answer_from_out(b, answer);
}

void
bench_run(struct bench *b, struct request *r, struct answer *answer)
{
	const struct driver *d = b->driver;
	gd_req_t req = {
		.buf = (char *)r->params - 1, .len = r->params_len + 1, .index = 1,
		.cmd = r->cmd, .syn = r->syn, .id = r->number, .seat = b->seat,
	};
	gd_res_t *res = &b->res;

	*answer = (struct answer){ 0 };
	b->erred = false;
	running_set(r, b->seat);
	if (!b->began) {
		guarded_here = b->guarded;
		b->state = d->table.thread_init != NULL ? d->table.thread_init() : NULL;
		b->began = true;
	}
	gd_in_init(&req.in, r->params, r->params_len);
	gd_out_reset(&res->out);
	res->error[0] = '\0';
	res->index = 1;
	res->buf = d->legacy ? b->guarded : NULL;
	res->len = d->legacy ? LEGACY_REPLY : 0;
	if (d->legacy)
		res->buf[0] = (char)131;
	d->table.dispatch(&req, res, d->state, b->state);
	b->ended_at = now_ns();
	if (d->legacy)
		answer_from_buffer(b, &req, res, answer);
	else {
		if (error_occurred(res))
			put_error(b, res->error);
		answer_from_out(b, answer);
	}
	if (running_here().cut != NULL)
		answer->failed = running_here().cut;	/* less than all must not pass for all */
	else if (answer->failed != NULL && r->syn)
		gd_log(GD_WARNING, "bad_reply: not one whole term, a number that is none, or over"
		    " the limit reply");
	running_set(NULL, 0);
}

/* The thread lost its core since this was last asked, perhaps in the run that took so long: then the time says
 * nothing. A command that is long is so again. */
static bool
preempted(void)
{
	static _Thread_local long before;
	struct rusage usage;
	long switches = before;

	if (getrusage(RUSAGE_THREAD, &usage) == 0)
		before = usage.ru_nivcsw;
	return before != switches;
}

void
bench_count(const struct bench *b, const struct request *r, const struct answer *answer)
{
	uint64_t took = b->ended_at - b->started_at;
	uint32_t most = b->driver->start->short_ns;

	stats_add(b->seat, &(struct sample){
		.entry = r->entry, .call = r->syn, .failed = b->erred || answer->failed != NULL,
		.by_loop = b->by_loop,
		.queued_at = r->record->queued_at, .started_at = b->started_at, .ended_at = b->ended_at,
	});
	if (most != 0 && (took <= most || !preempted()))
		lengths_took(r->entry, took);
}

void
bench_taken(struct bench *b)
{
	size_t limit = b->res.out.limit;

	b->res.out.buf = NULL;
	b->res.out.room = b->res.out.len = 0;
	if (gd_out_init(&b->res.out, limit) != 0)
		b->res.out.error = GD_ENOMEM;
}

void
error_set(gd_res_t *res, const char *error)
{
	size_t len = strnlen(error, sizeof(res->error) - 1);

	while (error[len] != '\0' && len > 0 && ((unsigned char)error[len] & 0xc0) == 0x80)
		len--;		/* not inside a character */
	memcpy(res->error, error, len);
	res->error[len] = '\0';
}

int
error_occurred(gd_res_t *res)
{
	return res->error[0] != '\0';
}
