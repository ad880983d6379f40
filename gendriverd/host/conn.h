/* SPDX-License-Identifier: MIT */
/*
 * Connections: slots in a table made at start, each with a lock that lives as
 * long as the process. A connection is (slot, generation); the generation changes
 * when a slot is freed, so an answer that comes too late finds nobody.
 *
 * conn.c         the table, adoption, the end of a slot
 * conn_attend.c  what is due on each: nothing accepted is lost, nor a last word
 * conn_read.c    bytes to frames (loop only)
 * conn_room.c    which large frames are read (loop only)
 * conn_take.c    frames to messages (loop only)
 * conn_request.c calls and casts to requests (loop only)
 * conn_answer.c  answers to frames (any thread)
 * conn_send.c    frames to bytes (any thread)
 * conn_part.c    parts of a reply, as far as the caller takes them (any worker)
 * conn_note.c    notes to those that asked for them (any thread)
 * conn_clock.c   deadlines, clients that do not read, drain and stop
 *
 * A connection's life: OPEN reads and answers. CLOSING has a goodbye to say: it
 * reads no request, waits until what was accepted is answered, says it. LINGER
 * has said it and waits for the peer's end: a close before that could reset the
 * connection under the last words.
 *
 * Lock order: conn->lock, then the pool's lock or the attention lock.
 */
#ifndef HOST_CONN_H
#define HOST_CONN_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "allowed.h"
#include "etf.h"
#include "gd_term.h"
#include "ids.h"
#include "output.h"
#include "queue.h"
#include "request.h"
#include "start.h"
#include "pool.h"

enum conn_state { CONN_FREE, CONN_OPEN, CONN_CLOSING, CONN_LINGER };

struct conn {
	pthread_mutex_t lock;		/* guards down to `attended` */
	uint32_t generation;
	int fd;				/* -1: free */
	struct output out;
	bool sending;			/* a thread is in sendmsg, without the lock */
	bool writable_again;		/* the loop saw it meanwhile */
	bool blocked;			/* the socket is full: wait for the loop */
	bool hears_out;			/* it was once: epoll tells when it takes more */
	bool broken;			/* sending failed: nobody is there */
	uint64_t progress_at;		/* ns: when bytes last went out, or began to wait */
	struct ids calls;		/* in flight */
	int32_t astray;			/* calls that were answered, as their threads were written off, and run yet */
	uint32_t casts;			/* that wait or run */
	uint64_t flight_bytes;		/* the frames of all of these */
	uint64_t bytes_out;
	struct queue unsent;		/* answered, their replies not yet sent: by end_at */
	struct conn_record *record;
	bool last;			/* no credit comes any more, and no note goes */
	atomic_bool notes;		/* it asked for notes; looked at without the lock too */
	uint64_t notes_lost;		/* as it was behind */
	unsigned waiting;		/* threads that have a part to send */
	pthread_cond_t turn;		/* of those: credit, room, or an end */
	bool watched;			/* the loop wants to hear when the above changes */
	bool attended;			/* it is in the attention list already */

	/* Loop only. */
	uint32_t slot;
	enum conn_state state;
	bool readable;			/* there may be something to read */
	bool ending;			/* epoll spoke of an end, or of urgent data: a short read is not all */
	bool hup;			/* the peer hears nothing any more */
	bool eof;			/* the peer has said all */
	bool starved;			/* a cast waits for a free request, or a frame for room */
	bool listed;			/* in the list of those that are, or were */
	bool held;			/* it was not read, as too much waits to be sent */
	bool queued;			/* in the loop's list of connections with work */
	bool kept;			/* in its list of those whose answers are kept back */
	const char *reason;		/* CLOSING, LINGER: the goodbye's; else why it ended */
	uint64_t linger_until;
	uint64_t frame_since;		/* ns: when the frame that is not whole yet began; 0: there is none */
	bool clocked;			/* in the list of those that the clock is looked at for */
	struct conn *next_ready, *next_kept, *next_starved, *next_clocked, *next_waiting, *next_free;
	unsigned char *stash;		/* bytes read and not yet taken: a frame's beginning, */
	size_t stash_len, stash_room;	/* or frames that wait */
	uint64_t charged;		/* bytes of conns.stashed that are c's */
	bool has_room, waits, in_line;	/* for a large frame that is not whole; in_line: in the list of those that wait, or did */
	uint64_t step_at;		/* ns: when a step began, with so much of that frame: while others wait; 0: no need */
	size_t step_len;
	struct etf_check check;		/* of a large frame, taken in turns */
	bool checking, valid;		/* under way; its verdict, of a frame that waits */
	uint64_t number;		/* the daemon's name for it */
	char *peer;			/* for the log */
	struct allowed *allowed;	/* the commands it may ask for; NULL: all */
	uint64_t calls_read, casts_read, bytes_in;
};

struct conns_hooks {
	void (*notify)(void);	/* any thread: call conns_attend soon */
	void (*closed)(const struct conn *c);	/* loop: its descriptor is closed */
};

/* 0 or -1: no memory. */
int conns_init(const struct start *start, const struct driver *driver, struct pool *pool, int epoll,
    struct conns_hooks hooks);

/* Loop. Takes fd and allowed, and sends `welcome` first. NULL, or why not (fd is closed). */
const char *conn_adopt(int fd, uint64_t number, const char *peer, const void *welcome, size_t len,
    struct allowed *allowed);
/* Have epoll tell of fd, which is c's (EPOLL_CTL_ADD: loop), or of more (EPOLL_CTL_MOD: c->lock held). As epoll_ctl. */
int conn_hear(const struct conn *c, int fd, int operation);
/* Loop. What epoll said. `token` is the event's. */
void conn_event(uint64_t token, uint32_t events);
/* Loop. Do what is due on connections with work. True: there is more, come again
 * without waiting. */
bool conns_attend(void);
/* Loop. Requests are free again, or room for frames. */
void conns_fed(void);
/* Loop. Answer what expired; close what lingered or was not read for too long.
 * The ns to come back at latest, 0: no need. */
uint64_t conns_tick(uint64_t now);

/* Loop. Say {goodbye, draining} everywhere; connections go on. */
void conns_drain(void);
/* Loop. Calls not begun get `draining`; running ones end; then goodbye. */
void conns_stop(void);
/* Loop. Time is up: calls still running get `interrupted`, and what can be sent
 * without waiting is sent. */
void conns_give_up(void);
size_t conns_count(void);	/* loop */

/* The pool's done hook: worker's thread, or the loop. */
bool conn_done(struct request *r, struct answer *answer, struct queue *freed);
/* Its back hook: that worker's thread. */
void conn_back(const struct request *r);
/* Its flush hooks: loop; and any thread. The second may find another connection in that slot by now, and does no harm. */
void conns_flush(struct queue *freed);
void conns_flush_one(uint32_t slot, struct queue *freed);

/* --- between these files ----------------------------------------------- */

extern struct conns {
	const struct start *start;
	const struct driver *driver;
	struct pool *pool;
	struct conns_hooks hooks;
	int epoll;
	struct conn *slots;
	_Atomic uint32_t used;		/* slots that were ever in use: the loop adds them, gd_note reads */
	uint32_t open;			/* loop */
	struct conn *free;		/* loop: slots that were in use */
	uint64_t stashed;		/* loop: bytes that large frames hold or may yet, for limits.frames_bytes */
	size_t read_size;		/* loop: bytes read at once: few where a frame's rest could not be kept */
	uint32_t have_room;		/* loop: connections for whose frames some is set aside */
	struct conn *waiting, **waiting_end;	/* loop: those that wait for it */
	uint32_t spent;			/* loop: of this round (TURN_STEPS) */
	uint64_t taken_at;		/* loop: ns, when the frames that are just taken were there */
	bool stopping;			/* loop */
	bool fed;			/* loop: it gave requests back to the pool itself */
	struct conn *starving, **starving_end;	/* loop: wait for that, or for room for a frame */
	struct conn *clocked;		/* loop: that linger, do not read, or are in mid-frame */
	uint64_t look_at;		/* loop: ns, when to look at these; 0: never */
	struct conn *ready, **ready_end;	/* loop: connections with work */
	struct conn *kept;		/* loop: with answers that are not sent yet, as more follow */
	pthread_mutex_t attention_lock;	/* guards the two below */
	uint32_t *attention;		/* slots a worker wants looked at */
	size_t attention_len;
} conns;

/* Loop. Put c into the list of connections with work. */
void conn_ready(struct conn *c);
/* Loop. c waits for a free request or for room: it is not read until conns_fed. */
void conn_starve(struct conn *c);
/* Loop. Look at c's clock then, or sooner. */
void conn_clock(struct conn *c, uint64_t when);
/* Loop. Nobody is there any more: c ends when it is next looked at, soon. */
void conn_broken(struct conn *c);
/* Loop. End c after what was accepted is answered: the first reason stays. */
void conn_close_with(struct conn *c, const char *goodbye);

/* Loop. The end: frees the slot, unless another thread is just sending; then that
 * one calls for attention. */
void conn_free(struct conn *c);

/* What became of the frames that were there. AGAIN: more of one is to be validated;
 * STARVED: a cast waits for a free request, or a frame for room; ENDED: the connection does. */
enum taken { TAKEN, AGAIN, STARVED, ENDED };

#define READ_SIZE (256u * 1024)	/* bytes, at most */
#define ROUND_STEPS 1024	/* of all connections, then the loop looks after the rest: a millisecond at most */
#define TURN_STEPS 256		/* frames of one connection: then others have their turn */

#define ROOM_ALWAYS (64u * 1024)	/* bytes of an unfinished frame that are taken in however much others hold */

/* conn_take.c, loop. Take the frames in data[0..len); *taken bytes are done with. */
enum taken conn_take(struct conn *c, const unsigned char *data, size_t len, size_t *taken);

struct envelope;
/* conn_request.c, loop. A frame's call, or cast, to the batch that goes to the pool; large params keep
 * the stash as their buffer. */
enum taken conn_take_call(struct conn *c, const unsigned char *frame, size_t len, const struct envelope *e,
    struct queue *batch);
enum taken conn_take_cast(struct conn *c, const unsigned char *frame, size_t len, const struct envelope *e,
    struct queue *batch);

/* The bytes of a frame under validation move, or go. */
void conn_check_anew(struct conn *c);

/* conn_read.c, loop. Read and take in what is there, once; true: c has more. */
bool conn_read(struct conn *c);
/* What was read and not taken goes. */
void conn_drop_stash(struct conn *c);
/* ns: when its unfinished frame must be whole. */
uint64_t conn_frame_ends(const struct conn *c);
/* Read and throw away; false once the peer has ended. */
bool conn_discard(struct conn *c);

/* conn_room.c, loop. May a frame of so many bytes come whole? false: c waits until others have left. */
bool conn_room_ask(struct conn *c, size_t bytes);
/* Others go ahead of c, if it waits. */
void conn_room_pass(struct conn *c);
/* c's frame is whole, or will never be. */
void conn_room_leave(struct conn *c);
/* c's stash_room is another one. */
void conn_room_kept(struct conn *c);
/* ns: when more of c's frame must have come, as others wait for room; 0: no need. */
uint64_t conn_room_ends(struct conn *c, uint64_t now);

/* conn_send.c; c->lock held. Send what waits; the requests whose replies have left go to
 * the pool (loop only), or into `freed` (any thread). */
void conn_flush(struct conn *c);
void conn_flush_into(struct conn *c, struct queue *freed);
/* The loop has something to do on c: its calls, its output, its end. */
void conn_attention(struct conn *c);
/* Loop. The replies of these have left. */
void conn_answered(struct queue *freed);
/* Those that wait to send a part look again. */
static inline void
conn_stir(struct conn *c)
{
	if (c->waiting > 0)
		pthread_cond_broadcast(&c->turn);
}
/* conn_part.c, any thread: 0 when out is one whole term of at most so many bytes, else the negative code. */
int conn_whole(const gd_out *out, uint64_t most);
/* conn_answer.c, with c->lock held. Room for a small frame, or NULL: nobody is there to hear it, or no memory, and
 * then the connection ends, as a frame left out would be a lie. */
unsigned char *conn_room(struct conn *c);
/* The term of a frame whose head was just put there; with `own`, the malloc'ed buffer around it, which
 * may be taken. True: it was. */
bool conn_put_term(struct conn *c, const void *term, size_t len, void *own);
void conn_put_failed(struct conn *c, uint32_t id, const char *reason);
void conn_put_pong(struct conn *c, uint32_t id);
void conn_put_goodbye(struct conn *c, const char *reason);
/* End r, a call of c, with the service's word, and give it back to the pool's
 * cache. Loop; takes the lock of r's connection itself. */
void conn_fail(struct request *r, const char *reason);

#endif
