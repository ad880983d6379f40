/* SPDX-License-Identifier: MIT */
/*
 * What this process may do, from before the driver is loaded until its end. docs/security.md says against whom.
 *
 * In sandbox_enter's order: limits (setrlimit(2)), another user, no capabilities, no_new_privs, no dumps; then, by
 * profile, Landlock (landlock.c: files, signals, TCP) and seccomp (seccomp.c: system calls). What is asked for and
 * cannot be had ends the start, in a sentence.
 */
#ifndef HOST_SANDBOX_H
#define HOST_SANDBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gd_term.h"

enum sandbox_profile { SANDBOX_NONE, SANDBOX_DEFAULT, SANDBOX_STRICT };

#define SANDBOX_GROUPS 64

struct paths {
	char **at;
	size_t len;
};

struct sandbox {
	enum sandbox_profile profile;
	bool other_user;	/* then the three below */
	uint32_t uid, gid;
	uint32_t groups[SANDBOX_GROUPS];
	size_t group_count;
	uint32_t nofile;	/* descriptors; 0, here and below: as inherited */
	uint32_t tasks;		/* threads and processes of this user */
	uint64_t memory;	/* bytes of address space */
	char *beside;		/* where the driver's file came from, or NULL: may be read, if it is there */
	struct paths read;	/* files and directories that the driver may read, beside those of the profile */
	struct paths write;	/* and may write, too */
};

/* Read the map of `sandbox` in {start, Map}; what is not in it keeps its value. 0 or -1. */
int sandbox_read(gd_in *in, struct sandbox *s);
/* Free what it read, right or wrong. */
void sandbox_forget(struct sandbox *s);

/* Close what was inherited beside descriptors 0 to `last`. Main thread, first of all. */
void sandbox_close_others(int last);

/* Main thread, when it is the only one: a thread that is there already is not held by Landlock. `driver`: the file
 * that will be loaded; `dumps`: it may leave a core file. 0, or -1 and why, a sentence. */
int sandbox_enter(const struct sandbox *s, const char *driver, bool dumps, char *why, size_t room);

/* For sandbox_enter. */
int landlock_enter(const struct sandbox *s, const char *driver, char *why, size_t room);
int seccomp_enter(const struct sandbox *s, char *why, size_t room);

#endif
