/* SPDX-License-Identifier: MIT */
/*
 * The recorder: what the daemon finds when this process has died. Memory that the
 * daemon made, sealed and mapped; nothing in it is trusted. While this process lives
 * only statistics (stats.h) and the loop's word are read. gendriverd/recorder.py is
 * its reader, and a test holds the two layouts together.
 *
 * A slot tells of one request, in one word: QUEUED until a worker takes it out,
 * RUNNING from before dispatch, DONE from before the first byte of its reply can
 * leave, FREE only after the kernel took the last. So what the daemon says of a
 * call is true whenever the process dies: QUEUED never started, RUNNING may have
 * run, and DONE was run; whether its reply left, end_at tells. Of a request whose thread
 * is written off the slot is kept until that thread comes back: what it does yet is its doing.
 *
 * A connection's entry tells how many bytes the kernel took. A dying thread finishes
 * its system call, but not the store after it: so the kernel itself writes down here
 * what it took, as sendmmsg's msg_len.
 *
 * The loop's word tells since when the loop is busy, or waits.
 */
#ifndef HOST_RECORDER_H
#define HOST_RECORDER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "stats.h"

#define RECORDER_MAGIC 0x43524447u	/* "GDRC" */
#define RECORDER_LAYOUT 5
#define RECORDER_INLINE 183	/* bytes of params kept in their slot */
#define RECORDER_TRACE 32
#define RECORDER_PARAMS (1u << 20)	/* bytes: of the params of the request that did it */
#define RECORDER_NONE UINT32_MAX

enum slot_state { SLOT_FREE, SLOT_QUEUED, SLOT_RUNNING, SLOT_DONE };

/* word: state | seat << 3 | tag << 13. The tag is the slot's own, never 0 for all:
 * memory that a driver overwrote by accident does not pass for a slot. */
#define SLOT_SEAT_SHIFT 3
#define SLOT_TAG_SHIFT 13

/* flags */
#define SLOT_CALL 1u		/* a call; else a cast */
#define SLOT_ABANDONED 2u	/* its thread was written off, and runs it yet; the caller is told `timeout` */
#define SLOT_TOLD 4u		/* and that has left: nobody waits for this one any more */
#define SLOT_PARTS 8u		/* its caller takes parts */

struct slot {
	uint64_t number;	/* the host's, ascending */
	uint64_t conn;		/* the daemon's number of its connection */
	uint64_t queued_at, started_at;	/* ns of CLOCK_MONOTONIC; 0: not yet */
	uint64_t deadline;	/* the same; 0: none */
	uint64_t params_len;	/* without version byte; kept below if it fits */
	_Atomic uint32_t word;
	uint32_t id, cmd, flags;
	uint32_t check;		/* slot_check of number, conn, id, cmd */
	uint32_t end_at;	/* DONE: the byte of its connection's output at which its reply ends, modulo 2^32 */
	unsigned char params[1 + RECORDER_INLINE];	/* version byte first */
};

/* sent: the bytes that the kernel has taken, welcome included, << SENT_SHIFT, and */
#define SENT_WHOLE 1u		/* they end with the end of a frame */
#define SENT_BEHIND 2u		/* more waits in this process, of which no slot tells */
#define SENT_SENDING 4u		/* a send is under way, or was: of it `message` tells. One store begins and ends it */
#define SENT_SHIFT 3
/* sending: bytes of that send, and */
#define SENDING_WHOLE 0x80000000u	/* they too end with the end of a frame */

struct conn_record {
	_Atomic uint64_t number;	/* 0: unused. Set before the first byte is sent */
	_Atomic uint64_t sent;
	struct mmsghdr message;		/* msg_len: what the kernel took of it; 0 when it begins */
	uint32_t sending;
	uint32_t reserved[3];
};

enum death_kind { DEATH_NONE, DEATH_SIGNAL, DEATH_EXIT, DEATH_HANG };

/* Written once, by the thread that dies first. */
struct death {
	_Atomic uint32_t claimed;	/* by that thread */
	_Atomic uint32_t kind;		/* set last: all below is there */
	int32_t number;			/* of the signal, or the exit status */
	int32_t code;			/* si_code */
	uint32_t slot;			/* what the thread was running, or RECORDER_NONE */
	uint32_t seat;
	uint64_t address;		/* si_addr */
	uint64_t pc;
	uint32_t thread;		/* its id */
	uint32_t depth;			/* of trace */
	uint32_t kept;			/* bytes of the request's params, behind the slots */
	uint32_t reserved;
	uint64_t trace[RECORDER_TRACE];	/* return addresses, innermost first */
};

struct recorder {
	_Atomic uint32_t magic;		/* set last: what follows is there */
	uint32_t layout;
	uint32_t slots, conns;
	uint64_t size;			/* of all of it */
	uint32_t key;			/* the tags' */
	uint32_t seats;
	struct death death;
	_Atomic uint64_t loop;		/* ns of CLOCK_MONOTONIC: busy since then, or LOOP_WAITS; 0: not yet begun */
	_Atomic uint64_t used;		/* slots that were ever in use, the first so many, | their tag << 32 */
	_Atomic uint32_t command_count;	/* set last */
	int32_t commands[STATS_COMMANDS];	/* whose entries the first of each seat are, in this order */
	unsigned char pad[4096 - 52 - sizeof(struct death) - STATS_COMMANDS * sizeof(int32_t)];
	/* struct conn_record[conns], then struct slot[slots], then RECORDER_PARAMS bytes,
	 * then, from the next page on, struct stats_seat[seats] */
};

#define LOOP_WAITS 0x8000000000000000ull	/* loop: it waits for events since then */

#define RECORDER_ABANDONED 64	/* threads written off, at most */
#define RECORDER_CACHE 256	/* free requests that the loop keeps at hand */
/* More than can wait or run: the loop's cache, replies on their way out, and those; one for each connection is beside
 * the queue. */
#define RECORDER_SPARE (RECORDER_CACHE + 256 + RECORDER_ABANDONED)

static inline uint32_t
recorder_slots(uint32_t queue, uint32_t threads, uint32_t connections)
{
	return queue + threads + connections + RECORDER_SPARE;
}

/* Map fd, made for so many slots, connections and seats; fd -1: memory of this process alone,
 * which nobody will read. 0, or -1: too small, or no memory. fd is closed. */
int recorder_open(int fd, uint32_t slots, uint32_t conns, uint32_t seats);
/* Bytes for so many. */
uint64_t recorder_size(uint32_t slots, uint32_t conns, uint32_t seats);

struct recorder *recorder_here(void);
struct slot *recorder_slot(uint32_t index);
unsigned char *recorder_params(void);
struct conn_record *recorder_conn(uint32_t index);
struct stats_seat *recorder_seat(uint32_t index);
uint32_t slot_index(const struct slot *s);

/* Slot index is in use from now on, as all before it are; it is free. One thread at a time. */
void recorder_use(uint32_t index);
/* Number to word; for workers and the loop. Release: what was written before is there. */
void slot_set(struct slot *s, enum slot_state state, unsigned seat);
/* The same for one that ran: its seat stays. */
void slot_done(struct slot *s);
/* Loop. It is busy from now on, or (LOOP_WAITS) waits. */
void recorder_loop(uint64_t now, uint64_t waits);
/* Over the fields that say which call it is. */
uint32_t slot_check(const struct slot *s);

#endif
