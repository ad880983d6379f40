/* SPDX-License-Identifier: MIT */
/*
 * The handler of crash.h. It runs where anything may be broken: it takes no lock,
 * allocates nothing, and reads only this thread's own variables and stack.
 */
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <ucontext.h>
#include <unistd.h>

#include "crash.h"
#include "recorder.h"
#include "running.h"

#define STACK_SIZE (64u << 10)

static const int watched[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGSYS, SIGTRAP };
#define WATCHED (sizeof(watched) / sizeof(watched[0]))

static struct sigaction before[WATCHED];
static atomic_bool leaving;
static _Atomic uint32_t overdue;	/* the slot of a request that hangs, + 1 */
static _Thread_local void *stack_here;
static _Thread_local stack_t stack_before;

/* Copy from our own memory without faulting, whatever the address. */
static bool
peek(uint64_t address, void *to, size_t len)
{
	struct iovec local = { to, len }, remote = { (void *)(uintptr_t)address, len };

	return process_vm_readv(getpid(), &local, 1, &remote, 1, 0) == (ssize_t)len;
}

/* Frame pointers: those of code compiled without them end the walk, or lead it astray
 * within what can be read. */
static uint32_t
walk(uint64_t frame, uint64_t *trace)
{
	uint64_t pair[2];
	uint32_t n = 0;

	while (n < RECORDER_TRACE && frame % sizeof(uint64_t) == 0 && peek(frame, pair, sizeof(pair))
	    && pair[1] != 0) {
		trace[n++] = pair[1];
		if (pair[0] <= frame)
			break;
		frame = pair[0];
	}
	return n;
}

static void
registers(const void *context, uint64_t *pc, uint64_t *frame)
{
	const ucontext_t *u = context;
#if defined(__x86_64__)
	*pc = (uint64_t)u->uc_mcontext.gregs[REG_RIP];
	*frame = (uint64_t)u->uc_mcontext.gregs[REG_RBP];
#elif defined(__aarch64__)
	*pc = u->uc_mcontext.pc;
	*frame = u->uc_mcontext.regs[29];
#else
	(void)u;
	*pc = *frame = 0;
#endif
}

static bool
claim(struct death *d)
{
	uint32_t unclaimed = 0;

	return atomic_compare_exchange_strong(&d->claimed, &unclaimed, 1);
}

/* As long as the space for them, or not at all. */
static void
keep_params(struct death *d, const struct request *r)
{
	size_t len = r->params_len;

	if (len <= RECORDER_PARAMS && peek((uint64_t)(uintptr_t)r->params, recorder_params(), len))
		d->kept = (uint32_t)len;
}

static void
name_request(struct death *d)
{
	struct running here = running_here();

	d->slot = RECORDER_NONE;
	d->seat = here.seat;
	if (here.request != NULL) {
		d->slot = slot_index(here.request->record);
		keep_params(d, here.request);
	}
	d->thread = (uint32_t)syscall(SYS_gettid);
}

/* Sent by crash_put_down to a thread that has come back since. */
static bool
spared(int number, const siginfo_t *info)
{
	struct running here = running_here();
	uint32_t slot = atomic_load(&overdue);

	return slot != 0 && number == SIGABRT && info->si_code == SI_TKILL && info->si_pid == getpid()
	    && (here.request == NULL || slot_index(here.request->record) + 1 != slot)
	    && atomic_compare_exchange_strong(&overdue, &slot, 0);
}

static void
record_signal(int number, const siginfo_t *info, const void *context)
{
	struct death *d = &recorder_here()->death;
	uint64_t frame;
	uint32_t hang;

	if (!claim(d))
		return;
	name_request(d);
	d->number = number;
	d->code = info->si_code;
	/* Only of a fault is the address one; kill's sender stands in its place. */
	d->address = info->si_code > 0 && number != SIGABRT ? (uint64_t)(uintptr_t)info->si_addr : 0;
	/* Sent, not a fault: only abort is known to be this thread's own doing. */
	if (info->si_code <= 0
	    && (number != SIGABRT || info->si_code != SI_TKILL || info->si_pid != getpid()))
		d->slot = RECORDER_NONE;
	registers(context, &d->pc, &frame);
	d->depth = walk(frame, d->trace);
	hang = atomic_load(&overdue);
	atomic_store_explicit(&d->kind, hang != 0 && hang == d->slot + 1 ? DEATH_HANG : DEATH_SIGNAL,
	    memory_order_release);
}

static void
handler(int number, siginfo_t *info, void *context)
{
	if (spared(number, info))
		return;
	record_signal(number, info, context);
	for (size_t i = 0; i < WATCHED; i++)
		if (watched[i] == number)
			sigaction(number, &before[i], NULL);
	/* A fault happens again when we return; what was sent does not. */
	if (info->si_code <= 0)
		syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), number);
}

void
crash_put_down(pthread_t thread, uint32_t slot)
{
	atomic_store(&overdue, slot + 1);
	pthread_kill(thread, SIGABRT);
}

void
crash_kill(uint32_t slot)
{
	struct death *d = &recorder_here()->death;

	if (claim(d)) {
		d->slot = slot;
		d->seat = RECORDER_NONE;
		d->number = SIGKILL;
		atomic_store_explicit(&d->kind, DEATH_HANG, memory_order_release);
	}
	kill(getpid(), SIGKILL);
	for (;;)
		pause();
}

/* A driver has called exit: its thread comes by here. */
static void
at_exit(int status, void *ignored)
{
	struct death *d = &recorder_here()->death;

	(void)ignored;
	if (atomic_load(&leaving) || !claim(d))
		return;
	name_request(d);
	d->number = status;
	atomic_store_explicit(&d->kind, DEATH_EXIT, memory_order_release);
}

int
crash_watch(void)
{
	struct sigaction action = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_ONSTACK };

	for (size_t i = 0; i < WATCHED; i++)
		if (sigaction(watched[i], &action, &before[i]) != 0)
			return -1;
	return on_exit(at_exit, NULL) == 0 ? 0 : -1;
}

void
crash_unwatch(void)
{
	atomic_store(&leaving, true);
}

int
crash_stack_new(void)
{
	stack_t ours = { .ss_size = STACK_SIZE };

	ours.ss_sp = mmap(NULL, STACK_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (ours.ss_sp == MAP_FAILED)
		return -1;
	if (sigaltstack(&ours, &stack_before) != 0) {
		munmap(ours.ss_sp, STACK_SIZE);
		return -1;
	}
	stack_here = ours.ss_sp;
	return 0;
}

void
crash_stack_free(void)
{
	sigaltstack(&stack_before, NULL);
	munmap(stack_here, STACK_SIZE);
	stack_here = NULL;
}
