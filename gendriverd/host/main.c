/* SPDX-License-Identifier: MIT */
/*
 * gendriver-host: the process that runs one driver. Started by gendriverd with
 * the control channel as descriptor 3.
 *
 * Order at start: the start message, the recorder, the sandbox, the watch for the daemon's end (a
 * thread, which must be under it), then the driver (its ELF constructors run in dlopen), its open
 * or init, then ready.
 *
 * Exit codes: 0 after stop or drain; 100 the driver cannot be used, do not retry;
 * 2 started by hand; anything else is a crash.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "control.h"
#include "crash.h"
#include "driver.h"
#include "ids.h"
#include "lengths.h"
#include "log.h"
#include "loop.h"
#include "recorder.h"
#include "sandbox.h"

static int
has_control_channel(void)
{
	int type = 0;
	socklen_t len = sizeof(type);

	return getsockopt(CONTROL_FD, SOL_SOCKET, SO_TYPE, &type, &len) == 0 && type == SOCK_SEQPACKET;
}

int
main(int argc, char **argv)
{
	static struct start start;
	static struct driver driver;
	char why[1024];
	int code;

	if (argc > 1 && strcmp(argv[1], "--version") == 0) {
		printf("gendriver-host %s, driver interface %d, source %s\n", GD_VERSION,
		    GD_ABI_VERSION, GD_SOURCE);
		return 0;
	}
	if (!has_control_channel()) {
		fprintf(stderr, "gendriver-host is started by gendriverd, with a control channel as"
		    " descriptor 3; run: gendriverd serve\n");
		return 2;
	}
	sandbox_close_others(CONTROL_FD);
	setvbuf(stdout, NULL, _IOLBF, 0);	/* what a driver prints is logged at once */
	signal(SIGPIPE, SIG_IGN);
	signal(SIGINT, SIG_IGN);
	if (control_start(&start, why, sizeof(why)) != 0)
		return control_refuse(why);
	if (recorder_open(start.recorder, recorder_slots(start.limits.queue, start.threads,
	    start.limits.connections), start.limits.connections, start.threads) != 0)
		return control_refuse("the recorder is not of the size that the limits ask for");
	ids_seed();
	if (sandbox_enter(&start.sandbox, start.driver, start.cores != 0, why, sizeof(why)) != 0)
		return control_refuse(why);
	if (crash_stack_new() != 0 || crash_watch() != 0)
		return 111;
	log_level_set(start.log_level);
	driver.start = &start;
	driver.reply_limit = start.limits.reply;
	if (control_watch() != 0)
		return 111;
	if (driver_load(&driver, start.driver, why, sizeof(why)) != 0)
		return control_refuse(why);
	stats_open(driver.table.commands);
	lengths_open(&driver.table, start.short_ns);
	if (driver_open(&driver, why, sizeof(why)) != 0)
		return control_refuse(why);
	code = loop_run(&start, &driver);
	crash_unwatch();
	return code;
}
