/* SPDX-License-Identifier: MIT */
/*
 * Linked into the host's sanitizer builds only. The host runs in an environment
 * of the daemon's making, so its sanitizer options are compiled in: signals a
 * driver dies of are left to the host's own handler, a finding ends the process.
 */
const char *__asan_default_options(void);
const char *__lsan_default_options(void);
const char *__tsan_default_options(void);
const char *__ubsan_default_options(void);

const char *
__asan_default_options(void)
{
	return "handle_segv=0:handle_sigbus=0:handle_sigill=0:handle_sigfpe=0:handle_abort=0:"
	    "abort_on_error=1:detect_stack_use_after_return=1:disable_coredump=1";
}

const char *
__lsan_default_options(void)
{
	return "exitcode=23";
}

const char *
__tsan_default_options(void)
{
	return "handle_segv=0:handle_sigbus=0:handle_sigill=0:handle_sigfpe=0:handle_abort=0:"
	    "exitcode=66:second_deadlock_stack=1:disable_coredump=1";
}

const char *
__ubsan_default_options(void)
{
	return "print_stacktrace=1";
}
