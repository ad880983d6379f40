/* SPDX-License-Identifier: MIT */
/*
 * System calls for sandbox.h: seccomp(2). A filter is compiled from the tables of seccomp_rules.h: what is denied comes
 * first, then, in `strict`, what is allowed; the rest is allowed in `default`, and denied in `strict`. Denied is EPERM,
 * and ENOSYS where libraries then do it another way. The kernel keeps a bitmap of the calls whose arguments are not
 * looked at, so the order costs nothing for these.
 */
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sandbox.h"
#include "seccomp_rules.h"

#if defined(__x86_64__)
#define ARCHITECTURE AUDIT_ARCH_X86_64
#define FOREIGN 0x40000000u	/* calls of the x32 interface */
#elif defined(__aarch64__)
#define ARCHITECTURE AUDIT_ARCH_AARCH64
#define FOREIGN 0x80000000u	/* none */
#else
#define ARCHITECTURE 0
#define FOREIGN 0
#endif

#define ROOM 2048
#define DENY (SECCOMP_RET_ERRNO | EPERM)
#define MISSING (SECCOMP_RET_ERRNO | ENOSYS)

struct filter {
	struct sock_filter at[ROOM];
	unsigned short len;
};

static void
put(struct filter *f, unsigned code, uint32_t k, unsigned yes, unsigned no)
{
	if (f->len < ROOM)
		f->at[f->len++] = (struct sock_filter){ (unsigned short)code, (unsigned char)yes, (unsigned char)no, k };
}

static void
load(struct filter *f, size_t offset)
{
	put(f, BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset, 0, 0);
}

/* Little-endian, as both architectures are. */
static size_t
argument(const struct rule *r)
{
	return offsetof(struct seccomp_data, args) + r->arg * sizeof(uint64_t);
}

/* The rest of a rule: `verdict` when the pointer is, or is not, NULL. */
static void
put_pointer_test(struct filter *f, const struct rule *r, uint32_t verdict)
{
	bool null = r->op == IS_NULL;

	load(f, argument(r));
	put(f, BPF_JMP | BPF_JEQ | BPF_K, 0, 0, null ? 3 : 2);
	load(f, argument(r) + sizeof(uint32_t));
	put(f, BPF_JMP | BPF_JEQ | BPF_K, 0, null ? 0 : 1, null ? 1 : 0);
	put(f, BPF_RET | BPF_K, verdict, 0, 0);
}

/* `verdict` when the number matches; the kernel, too, takes the lower half of the argument. */
static void
put_number_test(struct filter *f, const struct rule *r, uint32_t verdict)
{
	bool self = r->op == IS_SELF || r->op == NOT_SELF, other = r->op == IS_NOT || r->op == NOT_SELF;

	load(f, argument(r));
	if (!self)
		put(f, BPF_ALU | BPF_AND | BPF_K, r->mask, 0, 0);
	put(f, BPF_JMP | BPF_JEQ | BPF_K, self ? (uint32_t)getpid() : r->value, other ? 1 : 0, other ? 0 : 1);
	put(f, BPF_RET | BPF_K, verdict, 0, 0);
}

static void
put_rule(struct filter *f, const struct rule *r, uint32_t verdict)
{
	unsigned short jump = f->len;

	put(f, BPF_JMP | BPF_JEQ | BPF_K, r->call, 0, 0);
	if (r->op == ALWAYS)
		put(f, BPF_RET | BPF_K, verdict, 0, 0);
	else {
		if (r->op == IS_NULL || r->op == NOT_NULL)
			put_pointer_test(f, r, verdict);
		else
			put_number_test(f, r, verdict);
		load(f, offsetof(struct seccomp_data, nr));
	}
	if (f->len < ROOM)
		f->at[jump].jf = (unsigned char)(f->len - jump - 1);
}

static void
put_rules(struct filter *f, const struct rule *rules, size_t n, uint32_t verdict)
{
	for (size_t i = 0; i < n; i++)
		put_rule(f, &rules[i], verdict);
}

static void
compile(struct filter *f, bool strict, bool limited)
{
	load(f, offsetof(struct seccomp_data, arch));
	put(f, BPF_JMP | BPF_JEQ | BPF_K, ARCHITECTURE, 1, 0);
	put(f, BPF_RET | BPF_K, DENY, 0, 0);
	load(f, offsetof(struct seccomp_data, nr));
	put(f, BPF_JMP | BPF_JGE | BPF_K, FOREIGN, 0, 1);
	put(f, BPF_RET | BPF_K, MISSING, 0, 0);
	put_rules(f, missing_calls, sizeof(missing_calls) / sizeof(missing_calls[0]), MISSING);
	if (strict) {
		if (limited)
			put_rules(f, strict_limited, sizeof(strict_limited) / sizeof(strict_limited[0]), MISSING);
		put_rules(f, strict_denied, sizeof(strict_denied) / sizeof(strict_denied[0]), DENY);
		put_rules(f, strict_allowed, sizeof(strict_allowed) / sizeof(strict_allowed[0]), SECCOMP_RET_ALLOW);
		put(f, BPF_RET | BPF_K, DENY, 0, 0);
	} else {
		put_rules(f, default_denied, sizeof(default_denied) / sizeof(default_denied[0]), DENY);
		put(f, BPF_RET | BPF_K, SECCOMP_RET_ALLOW, 0, 0);
	}
}

int
seccomp_enter(const struct sandbox *s, char *why, size_t room)
{
	static struct filter f;
	struct sock_fprog program = { .filter = f.at };

	compile(&f, s->profile == SANDBOX_STRICT, s->memory != 0);
	program.len = f.len;
	if (ARCHITECTURE == 0 || f.len == ROOM) {
		snprintf(why, room, "sandbox: no seccomp filter for this processor: profile = \"none\" does without");
		return -1;
	}
	/* On threads that are there already, too: a library that was preloaded may have made some. */
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) == 0)
		return 0;
	snprintf(why, room, "sandbox: this kernel takes no seccomp filter (%s), which profile = \"%s\" needs",
	    strerror(errno), s->profile == SANDBOX_STRICT ? "strict" : "default");
	return -1;
}
