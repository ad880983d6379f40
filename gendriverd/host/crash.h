/* SPDX-License-Identifier: MIT */
/*
 * What a thread writes into the recorder when it is about to take the process
 * down: the signal and where, the request it was running, and its return addresses;
 * or that it called exit. The signal then goes its way: to whoever handled it
 * before (a sanitizer), or to the default, which ends the process.
 */
#ifndef HOST_CRASH_H
#define HOST_CRASH_H

#include <pthread.h>
#include <stdint.h>

/* Once, before there are threads. 0 or -1. */
int crash_watch(void);
/* Each thread that runs a driver's code: a stack for the handler, so that an overflow of
 * the thread's own is recorded too. Kept until the thread ends. 0, or -1: no memory. */
int crash_stack_new(void);
void crash_stack_free(void);
/* Loop. The request in this slot has run too long on that thread: the thread records where
 * it is and takes the process down, unless it comes back just now. */
void crash_put_down(pthread_t thread, uint32_t slot);
/* It did not: SIGABRT does not reach it. */
_Noreturn void crash_kill(uint32_t slot);
/* The process leaves in order: an exit is no death any more. */
void crash_unwatch(void);

#endif
