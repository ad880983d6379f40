/* SPDX-License-Identifier: MIT */
/* SHA-256 of FIPS 180-4, in one go. */
#ifndef HOST_SHA256_H
#define HOST_SHA256_H

#include <stddef.h>

#define SHA256_SIZE 32

void sha256(const unsigned char *data, size_t len, unsigned char digest[SHA256_SIZE]);

#endif
