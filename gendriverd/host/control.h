/* SPDX-License-Identifier: MIT */
/*
 * The control channel to the daemon: docs/control-channel.md. Messages are terms
 * in packets of descriptor 3.
 */
#ifndef HOST_CONTROL_H
#define HOST_CONTROL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "allowed.h"
#include "gd_term.h"
#include "quarantine.h"
#include "start.h"

#define CONTROL_FD 3
#define CONTROL_MAX 65536	/* bytes of a message */

enum control_kind {
	CONTROL_NONE,		/* nothing there (or something this release does not know) */
	CONTROL_CONN, CONTROL_DRAIN, CONTROL_STOP, CONTROL_LEVEL, CONTROL_PING,
	CONTROL_QUARANTINE
};

struct control_message {
	enum control_kind kind;
	uint64_t number;	/* conn, ping */
	uint32_t ms;		/* drain, stop */
	struct quarantined quarantined;	/* quarantine */
	int level;		/* level */
	int fd;			/* conn: the receiver's to close; -1: it did not come */
	char peer[128];		/* conn: cut to fit */
	const void *welcome;	/* conn: valid until the next receive */
	size_t welcome_len;
	struct allowed *allowed;	/* conn: the receiver's to free; NULL: all */
};

/* Block until the start message, and the recorder's descriptor with it. 0, or -1 and why. */
int control_start(struct start *start, char *why, size_t room);
/* Loop. False: the daemon is gone. */
bool control_receive(struct control_message *m);

/* control_parse.c, both without the channel: a message is data[0..len), and what it names lies there. Of the first
 * neither `fd` nor `recorder` of the second is set (-1). 0, or -1; what a start that is
 * refused has allocated is not freed, as the process ends. */
void control_parse(const unsigned char *data, size_t len, struct control_message *m);
int control_parse_start(const unsigned char *data, size_t len, struct start *start);

/* The daemon is gone: end this process, and where it leads a process group (as the daemon
 * starts it), all that the driver has started in it. */
_Noreturn void control_abandoned(void);

/* A thread that ends this process when the daemon is gone, whatever the others
 * are doing. 0 or -1. */
int control_watch(void);

/* Loop, or before there are threads: must arrive; waits in memory while the
 * channel is full. `m` is freed. */
void control_send(gd_out *m);
/* Loop. Send what waits; true: more is waiting. */
bool control_flush(void);
/* At the end: wait until all is sent, or the daemon is gone. */
void control_drain(void);
/* {refuse, Why}, sent before it returns. The exit code that must follow. */
int control_refuse(const char *why);
/* Any thread. Sent now or not at all. `m` is freed. */
bool control_try(gd_out *m);

/* Begin a message {tag, ...} of this arity. */
void control_begin(gd_out *m, const char *tag, size_t arity);

#endif
