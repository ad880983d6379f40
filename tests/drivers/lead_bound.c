/* SPDX-License-Identifier: MIT */
/* The driver of lead.c, bound to its threads. */
#define FLAGS GD_THREAD_BOUND
#include "lead.c"
