/* SPDX-License-Identifier: MIT */
/*
 * What a thread writes into the recorder when it is about to take the process
 * down: the signal and where, the request it was running, and its return addresses;
 * or that it called exit. The signal then goes its way: to whoever handled it
 * before (a sanitizer), or to the default, which ends the process.
 */
#ifndef HOST_CRASH_H
#define HOST_CRASH_H

/* Once, before there are threads. 0 or -1. */
int crash_watch(void);
/* Each thread that runs a driver's code: a stack for the handler, so that an overflow of
 * the thread's own is recorded too. Kept until the thread ends. 0, or -1: no memory. */
int crash_stack_new(void);
void crash_stack_free(void);
/* The process leaves in order: an exit is no death any more. */
void crash_unwatch(void);

#endif
