/* SPDX-License-Identifier: MIT */
/* The load generator's way in: a connection, and the handshake of docs/protocol.md. What fails ends the process. */
#ifndef BENCH_DIAL_H
#define BENCH_DIAL_H

#include <stdint.h>

/* With errno's text, where it is not 0. */
_Noreturn void die(const char *why);

void put_u32(unsigned char *at, uint32_t n);
uint32_t get_u32(const unsigned char *at);

/* unix:PATH, or tcp:PORT on this machine. */
int dial(const char *address);
/* Returns when the instance has said welcome. */
void shake_hands(int fd, const char *instance);

#endif
