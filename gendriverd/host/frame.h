/* SPDX-License-Identifier: MIT */
/* The frames a host sends, as bytes: docs/protocol.md, Answers. Pure. */
#ifndef HOST_FRAME_H
#define HOST_FRAME_H

#include <stddef.h>
#include <stdint.h>

#define FRAME_HEAD 4		/* the length in front of every frame */
#define FRAME_SMALL 64		/* every frame here but for its term fits */

uint32_t frame_length(const unsigned char *head);

/* Each writes at `at` (room for FRAME_SMALL) and returns how many bytes. */
/* Of these three the term follows. */
size_t frame_reply_head(unsigned char *at, uint32_t id, size_t term_len);
size_t frame_part_head(unsigned char *at, uint32_t id, size_t term_len);
size_t frame_note_head(unsigned char *at, size_t term_len);
size_t frame_failed(unsigned char *at, uint32_t id, const char *reason);
size_t frame_pong(unsigned char *at, uint32_t id);
size_t frame_goodbye(unsigned char *at, const char *reason);

#endif
