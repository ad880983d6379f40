/* SPDX-License-Identifier: MIT */
/* The driver of driver.c that says of sums what a host finds out by itself: under a profiler every run is a long one. */
#include "gen_driver.h"
#include "work.h"

#define LENGTHS lengths

static const gd_length lengths[] = { { SUM, GD_SHORT }, { 0, GD_LENGTHS_END } };

#include "driver.c"
