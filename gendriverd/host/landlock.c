/* SPDX-License-Identifier: MIT */
/*
 * Landlock for sandbox.h: which files the driver reaches, and whom its signals. landlock(7); the numbers are those of
 * linux/landlock.h, which may be older here than the kernel is there.
 *
 * Rights that the kernel does not know yet are left out (what that means, docs/security.md says); a kernel without
 * Landlock is refused.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sandbox.h"

#define EXECUTE (1ull << 0)
#define WRITE_FILE (1ull << 1)
#define READ_FILE (1ull << 2)
#define READ_DIR (1ull << 3)
#define REMOVE_AND_MAKE 0x1ff0ull	/* remove 4, 5; make char 6, dir 7, reg 8, sock 9, fifo 10, block 11, sym 12 */
#define MAKE_DEVICES (1ull << 6 | 1ull << 11)
#define REFER (1ull << 13)		/* 2 */
#define TRUNCATE (1ull << 14)		/* 3 */
#define IOCTL_DEV (1ull << 15)		/* 5 */
#define OF_FILES (EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV)	/* what a file can be given */

#define READING (READ_FILE | READ_DIR)
#define WRITING (READING | WRITE_FILE | (REMOVE_AND_MAKE & ~MAKE_DEVICES) | REFER | TRUNCATE | IOCTL_DEV)

#define NET_BIND (1ull << 0)		/* 4 */
#define NET_CONNECT (1ull << 1)
#define SCOPE_ABSTRACT (1ull << 0)	/* 6 */
#define SCOPE_SIGNAL (1ull << 1)

struct ruleset {
	uint64_t files, net, scoped;
};

struct beneath {
	uint64_t rights;
	int32_t fd;
} __attribute__((packed));

/* What any program needs: libraries, time zones, locales, what says how many processors there are. */
static const char *const everyones[] = {
	"/usr", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store", "/gnu/store", "/proc",
	"/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/localtime", "/etc/timezone", "/etc/locale.alias",
	"/sys/devices/system/cpu", "/sys/devices/system/node", NULL,
};
/* And one that talks to others: names, certificates, programs. */
static const char *const defaults[] = {
	"/bin", "/sbin", "/opt", "/sys", "/run/systemd/resolve", "/run/nscd", "/etc/hosts", "/etc/host.conf",
	"/etc/resolv.conf", "/etc/nsswitch.conf", "/etc/gai.conf", "/etc/services", "/etc/protocols", "/etc/passwd",
	"/etc/group", "/etc/machine-id", "/etc/os-release", "/etc/alternatives", "/etc/ssl", "/etc/pki",
	"/etc/ca-certificates", "/etc/crypto-policies", "/etc/fonts", "/etc/mime.types", "/etc/OpenCL", "/etc/odbc.ini",
	"/etc/odbcinst.ini", "/etc/freetds", NULL,
};
static const char *const devices[] = { "/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", NULL };
static const char *const temporary[] = { "/tmp", "/var/tmp", NULL };

static uint64_t
rights_of(int abi)
{
	uint64_t rights = EXECUTE | WRITING | MAKE_DEVICES;

	if (abi < 2)
		rights &= ~REFER;
	if (abi < 3)
		rights &= ~TRUNCATE;
	if (abi < 5)
		rights &= ~IOCTL_DEV;
	return rights;
}

/* 0, or -1 and errno. */
static int
allow(int ruleset, uint64_t handled, const char *path, uint64_t rights)
{
	struct beneath rule = { .rights = rights & handled };
	struct stat found;
	int code = -1, failure;

	if ((rule.fd = open(path, O_PATH | O_CLOEXEC)) < 0)
		return -1;
	if (fstat(rule.fd, &found) == 0) {
		if (!S_ISDIR(found.st_mode))
			rule.rights &= OF_FILES;
		code = (int)syscall(SYS_landlock_add_rule, ruleset, 1, &rule, 0);
	}
	failure = errno;
	close(rule.fd);
	errno = failure;
	return code;
}

static void
allow_own(int ruleset, uint64_t handled, const char *const *paths, uint64_t rights)
{
	for (; *paths != NULL; paths++)
		allow(ruleset, handled, *paths, rights);	/* not every system has each */
}

/* Those of a list as in PATH. */
static void
allow_listed(int ruleset, uint64_t handled, const char *list, uint64_t rights)
{
	char *copy = list != NULL ? strdup(list) : NULL, *rest = copy, *path;

	while (rest != NULL && (path = strsep(&rest, ":")) != NULL)
		if (path[0] == '/')
			allow(ruleset, handled, path, rights);
	free(copy);
}

static int
allow_configured(int ruleset, uint64_t handled, const struct paths *p, uint64_t rights, char *why, size_t room)
{
	for (size_t i = 0; i < p->len; i++)
		if (allow(ruleset, handled, p->at[i], rights) != 0) {
			snprintf(why, room, "sandbox: %s, which %s names: %s", p->at[i],
			    rights & WRITE_FILE ? "write" : "read", strerror(errno));
			return -1;
		}
	return 0;
}

static int
add_rules(int ruleset, uint64_t handled, const struct sandbox *s, const char *driver, char *why, size_t room)
{
	/* Who may not execute is not told by these, but by seccomp. */
	uint64_t reading = READING | (s->profile == SANDBOX_DEFAULT ? EXECUTE : 0);

	allow_own(ruleset, handled, everyones, reading);
	allow_own(ruleset, handled, devices, READ_FILE | WRITE_FILE | IOCTL_DEV);
	allow_listed(ruleset, handled, getenv("LD_LIBRARY_PATH"), reading);
	allow(ruleset, handled, driver, READ_FILE);
	if (s->beside != NULL)
		allow(ruleset, handled, s->beside, reading);
	if (s->profile == SANDBOX_DEFAULT) {
		allow_own(ruleset, handled, defaults, reading);
		allow_own(ruleset, handled, temporary, WRITING);
		allow_listed(ruleset, handled, getenv("TMPDIR"), WRITING);
	}
	if (allow_configured(ruleset, handled, &s->read, reading, why, room) != 0)
		return -1;
	return allow_configured(ruleset, handled, &s->write, WRITING | (reading & EXECUTE), why, room);
}

int
landlock_enter(const struct sandbox *s, const char *driver, char *why, size_t room)
{
	bool strict = s->profile == SANDBOX_STRICT;
	int abi = (int)syscall(SYS_landlock_create_ruleset, NULL, 0, 1), ruleset, code = -1;
	struct ruleset r = { .files = rights_of(abi) };
	size_t size = abi < 4 ? sizeof(r.files) : abi < 6 ? sizeof(r.files) + sizeof(r.net) : sizeof(r);

	if (abi < 1) {
		snprintf(why, room, "sandbox: this kernel has no Landlock (%s), which profile = \"%s\" needs: Linux 5.13 with"
		    " landlock among its lsm=, or profile = \"none\"", strerror(errno), strict ? "strict" : "default");
		return -1;
	}
	r.net = strict ? NET_BIND | NET_CONNECT : 0;
	r.scoped = SCOPE_SIGNAL | (strict ? SCOPE_ABSTRACT : 0);
	ruleset = (int)syscall(SYS_landlock_create_ruleset, &r, size, 0);
	if (ruleset < 0) {
		snprintf(why, room, "sandbox: cannot make a Landlock ruleset: %s", strerror(errno));
		return -1;
	}
	if (add_rules(ruleset, r.files, s, driver, why, room) == 0) {
		code = (int)syscall(SYS_landlock_restrict_self, ruleset, 0);
		if (code != 0)
			snprintf(why, room, "sandbox: cannot enforce Landlock: %s", strerror(errno));
	}
	close(ruleset);
	return code;
}
