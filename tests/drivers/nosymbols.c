/* SPDX-License-Identifier: MIT */
/* A shared object that is no driver: neither a GD_DRIVER table nor the original's callbacks. Refused. */
int nosymbols_is_no_callback = 1;
