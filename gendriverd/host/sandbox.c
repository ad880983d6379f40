/* SPDX-License-Identifier: MIT */
/* Of sandbox.h: the start message's part, the limits, the user and the capabilities. Main thread. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fields.h"
#include "sandbox.h"

#define OOM_SCORE "500"		/* of 1000: the kernel, out of memory, takes a host before the daemon */

static int
read_groups(gd_in *in, struct sandbox *s)
{
	size_t n;

	if (gd_get_list(in, &n) != 0 || n > SANDBOX_GROUPS)
		return -1;
	for (s->group_count = 0; s->group_count < n; s->group_count++)
		if (get_u32(in, &s->groups[s->group_count]) != 0)
			return -1;
	return gd_get_end(in);
}

static int
read_paths(gd_in *in, struct paths *p)
{
	size_t n;

	if (p->at != NULL || gd_get_list(in, &n) != 0 || (p->at = calloc(n + 1, sizeof(*p->at))) == NULL)
		return -1;
	for (; p->len < n; p->len++)
		if (get_text(in, &p->at[p->len]) != 0)
			return -1;
	return gd_get_end(in);
}

static int
read_profile(gd_in *in, enum sandbox_profile *profile)
{
	static const char *const names[] = {
		[SANDBOX_NONE] = "none", [SANDBOX_DEFAULT] = "default", [SANDBOX_STRICT] = "strict",
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (gd_get_atom_is(in, names[i]) == 0) {
			*profile = (enum sandbox_profile)i;
			return 0;
		}
	return -1;
}

static int
read_field(gd_in *in, struct sandbox *s)
{
	if (gd_get_atom_is(in, "profile") == 0)
		return read_profile(in, &s->profile);
	if (gd_get_atom_is(in, "uid") == 0) {
		s->other_user = true;
		return get_u32(in, &s->uid);
	}
	if (gd_get_atom_is(in, "gid") == 0)
		return get_u32(in, &s->gid);
	if (gd_get_atom_is(in, "groups") == 0)
		return read_groups(in, s);
	if (gd_get_atom_is(in, "nofile") == 0)
		return get_u32(in, &s->nofile);
	if (gd_get_atom_is(in, "tasks") == 0)
		return get_u32(in, &s->tasks);
	if (gd_get_atom_is(in, "memory") == 0)
		return gd_get_u64(in, &s->memory);
	if (gd_get_atom_is(in, "beside") == 0)
		return get_text(in, &s->beside);
	if (gd_get_atom_is(in, "read") == 0)
		return read_paths(in, &s->read);
	if (gd_get_atom_is(in, "write") == 0)
		return read_paths(in, &s->write);
	return gd_skip(in) != 0 || gd_skip(in) != 0 ? -1 : 0;
}

int
sandbox_read(gd_in *in, struct sandbox *s)
{
	size_t pairs;

	if (gd_get_map(in, &pairs) != 0)
		return -1;
	while (pairs-- > 0)
		if (read_field(in, s) != 0)
			return -1;
	return 0;
}

static void
forget_paths(struct paths *p)
{
	for (size_t i = 0; i < p->len; i++)
		free(p->at[i]);
	free(p->at);
	*p = (struct paths){ 0 };
}

void
sandbox_forget(struct sandbox *s)
{
	free(s->beside);
	s->beside = NULL;
	forget_paths(&s->read);
	forget_paths(&s->write);
}

void
sandbox_close_others(int last)
{
	/* Before Linux 5.9 there is no such call; then it is left to the daemon, which opens all else close-on-exec. */
	syscall(SYS_close_range, (unsigned)last + 1, ~0u, 0);
}

static int
fail(char *why, size_t room, const char *what)
{
	snprintf(why, room, "sandbox: %s: %s", what, strerror(errno));
	return -1;
}

/* Never more than was inherited. */
static int
limit(int resource, uint64_t most)
{
	struct rlimit r;

	if (most == 0)
		return 0;
	if (getrlimit((__rlimit_resource_t)resource, &r) != 0)
		return -1;
	if (r.rlim_max == RLIM_INFINITY || most < r.rlim_max)
		r.rlim_max = most;
	r.rlim_cur = r.rlim_max;
	return setrlimit((__rlimit_resource_t)resource, &r);
}

/* A core holds up every answer for its writing: none, unless asked for. */
static int
limit_core(bool wanted)
{
	struct rlimit core;

	if (getrlimit(RLIMIT_CORE, &core) != 0)
		return -1;
	core.rlim_cur = wanted ? core.rlim_max : 0;
	return setrlimit(RLIMIT_CORE, &core);
}

/* More is never refused; a kernel without it has no such list to be on. */
static void
be_the_first_to_go(void)
{
	int fd = open("/proc/self/oom_score_adj", O_RDWR | O_CLOEXEC);
	char now[16] = "";

	if (fd < 0)
		return;
	if (read(fd, now, sizeof(now) - 1) > 0 && atoi(now) < atoi(OOM_SCORE)
	    && pwrite(fd, OOM_SCORE, strlen(OOM_SCORE), 0) < 0)
		perror("gendriver-host: oom_score_adj");
	close(fd);
}

static int
change_user(const struct sandbox *s)
{
	gid_t groups[SANDBOX_GROUPS];

	if (!s->other_user)
		return 0;
	for (size_t i = 0; i < s->group_count; i++)
		groups[i] = s->groups[i];
	if (setgroups(s->group_count, groups) != 0 || setresgid(s->gid, s->gid, s->gid) != 0)
		return -1;
	return setresuid(s->uid, s->uid, s->uid);
}

/* What no program could get either. It takes a capability itself: who has none has no use for it. */
static void
drop_bounding_set(void)
{
	for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
		prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
}

/* A service's own filter may forbid capset: that is as good where there are none. */
static int
drop_capabilities(void)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = { { 0 } }, left[_LINUX_CAPABILITY_U32S_3];

	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	if (syscall(SYS_capset, &head, none) == 0)
		return 0;
	if (errno != EPERM || syscall(SYS_capget, &head, left) != 0 || memcmp(left, none, sizeof(none)) != 0) {
		errno = EPERM;
		return -1;
	}
	return 0;
}

int
sandbox_enter(const struct sandbox *s, const char *driver, bool dumps, char *why, size_t room)
{
	be_the_first_to_go();
	if (limit_core(dumps) != 0 || limit(RLIMIT_NOFILE, s->nofile) != 0 || limit(RLIMIT_NPROC, s->tasks) != 0
	    || limit(RLIMIT_AS, s->memory) != 0)
		return fail(why, room, "cannot set the limits");
	drop_bounding_set();
	if (change_user(s) != 0)
		return fail(why, room, "cannot become the user of this instance");
	if (drop_capabilities() != 0)
		return fail(why, room, "cannot drop capabilities");
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		return fail(why, room, "cannot set no_new_privs");
	if (prctl(PR_SET_DUMPABLE, dumps, 0, 0, 0) != 0)
		return fail(why, room, "cannot set dumpable");
	if (s->profile == SANDBOX_NONE)
		return 0;
	/* It ends with the daemon, whatever becomes of control_watch; which comes first elsewhere, and ends programs, too. */
	if (s->profile == SANDBOX_STRICT && prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0)
		return fail(why, room, "cannot end with the daemon");
	if (landlock_enter(s, driver, why, room) != 0)
		return -1;
	return seccomp_enter(s, why, room);
}
