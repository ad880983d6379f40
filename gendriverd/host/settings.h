/* SPDX-License-Identifier: MIT */
/* The instance's settings, as a driver reads them with gd_config: text by key. */
#ifndef HOST_SETTINGS_H
#define HOST_SETTINGS_H

#include <stddef.h>

/* Before the driver is loaded, one thread. Copies. 0 or -1: no memory. */
int settings_add(const void *key, size_t key_len, const void *value, size_t value_len);

#endif
