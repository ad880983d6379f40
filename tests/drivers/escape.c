/* SPDX-License-Identifier: MIT */
/*
 * A driver that looks for ways around its sandbox, one kind for each command, run where the instance's name says:
 * "constructor-KIND" in an ELF constructor, "thread-KIND" in a thread, "handler-KIND" in a signal's handler, else in
 * the request. The reply says of each attempt what came of it, as hostile.c's does. Its settings: a file `secret` that
 * it must not read or change, a directory `listed` which it may read, one, `own`, which it may write, the `inbox` of
 * another program, and the pid of a `neighbour`, another host. Longer than others: it is a list of ways.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/fs.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>
#include <utime.h>

#include "attempts.h"

#define ROUNDS 1000
#define ANY_ACCESS 3	/* of open(2): neither read nor write, for ioctl */

static const char *
in(const char *setting, const char *name)
{
	static char paths[4][600];
	static unsigned next;
	char *path = paths[next++ % 4];

	snprintf(path, sizeof(paths[0]), "%s/%s", named(setting), name);
	return path;
}

/* --- sockets ----------------------------------------------------------- */

/* To whom nobody has connected it. */
static void
name_a_socket(void)
{
	static const int kinds[] = { SOCK_DGRAM, SOCK_RAW, SOCK_SEQPACKET, SOCK_STREAM, SOCK_RDM, SOCK_PACKET };
	struct sockaddr_un inbox = { .sun_family = AF_UNIX };
	struct iovec word = { "forged", 6 };
	struct mmsghdr message = { .msg_hdr = {
	    .msg_name = &inbox, .msg_namelen = sizeof(inbox), .msg_iov = &word, .msg_iovlen = 1 } };
	int ends[2];

	snprintf(inbox.sun_path, sizeof(inbox.sun_path), "%.100s", named("inbox"));
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (socketpair(AF_UNIX, kinds[i], 0, ends) != 0) {
			tried("pair", kinds[i] == SOCK_SEQPACKET || kinds[i] == SOCK_STREAM ? 0 : -1);
			continue;
		}
		if (kinds[i] == SOCK_SEQPACKET || kinds[i] == SOCK_STREAM)
			close(ends[1]);
		if (sendmsg(ends[0], &message.msg_hdr, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
			tried("sendmsg", 0);
		if (sendmmsg(ends[0], &message, 1, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
			tried("sendmmsg", 0);
		close(ends[0]);
	}
	for (int fd = 3; fd < 64; fd++)		/* a client's is among them */
		if (connect(fd, (struct sockaddr *)&inbox, sizeof(inbox)) == 0 || listen(fd, 1) == 0)
			tried("connect", 0);
}

/* By what it shares with the daemon: who reads there would close them, which may take a while. */
static void
pass_descriptors(void)
{
	union { struct cmsghdr head; char space[CMSG_SPACE(sizeof(int))]; } rights = { 0 };
	struct iovec word = { "x", 1 };
	struct msghdr message = { .msg_iov = &word, .msg_iovlen = 1,
	    .msg_control = &rights, .msg_controllen = sizeof(rights.space) };
	char label[32];

	rights.head = (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET,
	    .cmsg_type = SCM_RIGHTS };
	for (int fd = 1; fd < 4; fd++) {
		snprintf(label, sizeof(label), "pass-%d", fd);
		tried(label, sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL));
		snprintf(label, sizeof(label), "take-%d", fd);
		tried(label, setsockopt(fd, SOL_SOCKET, 83 /* SO_PASSRIGHTS */, &(int){ 1 }, sizeof(int)));
	}
}

/* --- files, by descriptors and by names -------------------------------- */

static void
change_at(const char *what, int fd)
{
	long flags = FS_NOATIME_FL;
	char label[64];

	if (fd < 0) {
		tried(what, fd);
		return;
	}
	snprintf(label, sizeof(label), "%s-mode", what);
	tried(label, fchmod(fd, 0777));
	snprintf(label, sizeof(label), "%s-times", what);
	tried(label, futimens(fd, (struct timespec[2]){ { 1, 0 }, { 1, 0 } }));
	snprintf(label, sizeof(label), "%s-flags", what);
	tried(label, ioctl(fd, FS_IOC_SETFLAGS, &flags));
	snprintf(label, sizeof(label), "%s-attributes", what);
	tried(label, ioctl(fd, FS_IOC_FSSETXATTR, &(struct fsxattr){ .fsx_xflags = FS_XFLAG_NOATIME }));
	snprintf(label, sizeof(label), "%s-version", what);
	tried(label, ioctl(fd, FS_IOC_SETVERSION, &(int){ 4711 }));
	snprintf(label, sizeof(label), "%s-fat", what);
	tried(label, ioctl(fd, _IOW('r', 0x11, uint32_t), &(uint32_t){ 4 }));
	snprintf(label, sizeof(label), "%s-hint", what);
	tried(label, fcntl(fd, F_SET_RW_HINT, &(uint64_t){ RWH_WRITE_LIFE_SHORT }));
	close(fd);
}

static void
change_by_descriptor(void)
{
	change_at("any", open(named("secret"), ANY_ACCESS));
	change_at("clear", open(named("secret"), ANY_ACCESS | O_TRUNC));
	change_at("create", open(in("listed", "new"), ANY_ACCESS | O_CREAT, 0600));
	if (strcmp(named("secret"), "/none") != 0) {
		change_at("listed", open(in("listed", "file"), O_RDONLY));
		change_at("directory", open(named("listed"), O_RDONLY | O_DIRECTORY));
	}
}

static void
change_by_name(void)
{
	const char *path = named("secret");

	tried("utimensat", utimensat(AT_FDCWD, path, (struct timespec[2]){ { 1, 0 }, { 1, 0 } }, 0));
	tried("now", utimensat(AT_FDCWD, path, NULL, 0));
	tried("empty", utimensat(open(path, O_PATH), "", NULL, AT_EMPTY_PATH));
	tried("utimes", utimes(path, (struct timeval[2]){ { 1, 0 }, { 1, 0 } }));
#ifdef SYS_utime
	tried("utime", syscall(SYS_utime, path, &(struct utimbuf){ 1, 1 }));
	tried("futimesat", syscall(SYS_futimesat, AT_FDCWD, path, NULL));
#endif
	tried("fchmodat", fchmodat(AT_FDCWD, path, 0777, 0));
	tried("fchmodat2", syscall(452, AT_FDCWD, path, 0777, 0));
	tried("removexattr", removexattr(path, "user.word"));
	tried("truncate", truncate(path, 0));
}

static void
read_by_name(void)
{
	char word[64];

	tried("getxattr", getxattr(named("secret"), "user.word", word, sizeof(word)));
	tried("lgetxattr", lgetxattr(named("secret"), "user.word", word, sizeof(word)));
	tried("listxattr", listxattr(named("secret"), word, sizeof(word)));
	tried("handle", syscall(SYS_open_by_handle_at, AT_FDCWD, word, O_RDONLY));
}

/* What another name or another directory would open. */
static void
go_another_way(void)
{
	char path[1200];
	int here = open(named("secret"), O_PATH), root = open("/", O_PATH | O_DIRECTORY);

	snprintf(path, sizeof(path), "/proc/self/fd/%d", here);
	tried("again", open(path, O_RDONLY));
	tried("at-root", openat(root, named("secret") + 1, O_RDONLY));
	snprintf(path, sizeof(path), "/proc/self/root%s", named("secret"));
	tried("proc-root", open(path, O_RDONLY));
	snprintf(path, sizeof(path), "/proc/self/task/%d/root%s", (int)gettid(), named("secret"));
	tried("task-root", open(path, O_RDONLY));
	tried("hard", linkat(here, "", AT_FDCWD, in("own", "hard"), AT_EMPTY_PATH));
	tried("link", linkat(AT_FDCWD, named("secret"), AT_FDCWD, in("own", "hard"), 0));
	tried("link-listed", linkat(AT_FDCWD, in("listed", "file"), AT_FDCWD, in("own", "hard"), 0));
	tried("move", rename(named("secret"), in("own", "moved")));
	tried("move-listed", rename(in("listed", "file"), in("own", "moved")));
	tried("exchange", renameat2(AT_FDCWD, in("listed", "file"), AT_FDCWD, in("own", "mine"), RENAME_EXCHANGE));
	if (symlink(named("secret"), in("own", "soft")) == 0)
		tried("soft", open(in("own", "soft"), O_RDWR));
	unlink(in("own", "soft"));
	tried("up", open(in("own", "../secret"), O_RDONLY));
	tried("openat2", syscall(437, root, named("secret"), NULL, 0));
	if (chdir("/") == 0)
		tried("relative", open(named("secret") + 1, O_RDONLY));
}

/* --- other processes, by /proc ----------------------------------------- */

static void
look_into(const char *who, const char *pid)
{
	static const struct { const char *name; int flags; } entries[] = {
		{ "mem", O_RDWR }, { "mem", O_RDONLY }, { "environ", O_RDONLY }, { "maps", O_RDONLY }, { "fd", O_RDONLY },
		{ "fd/0", O_RDONLY }, { "fd/3", ANY_ACCESS }, { "cwd", O_RDONLY }, { "root", O_RDONLY },
		{ "exe", O_RDONLY }, { "map_files", O_RDONLY }, { "stack", O_RDONLY }, { "io", O_RDONLY },
		{ "ns/net", O_RDONLY }, { "oom_score_adj", O_WRONLY }, { "comm", O_WRONLY }, { "clear_refs", O_WRONLY },
		{ "coredump_filter", O_WRONLY }, { "timerslack_ns", O_WRONLY }, { "attr/current", O_WRONLY },
		{ "syscall", O_RDONLY }, { "pagemap", O_RDONLY }, { "auxv", O_RDONLY }, { "uid_map", O_WRONLY },
	};
	char path[128], label[64], byte;

	for (size_t i = 0; i < sizeof(entries) / sizeof(entries[0]); i++) {
		bool own = strcmp(pid, "self") == 0 && entries[i].flags == O_RDONLY;
		snprintf(path, sizeof(path), "/proc/%s/%s", pid, entries[i].name);
		snprintf(label, sizeof(label), "%s-%s", who, entries[i].name);
		int fd = own ? -1 : open(path, entries[i].flags);
		if (!own && fd < 0)
			tried(label, fd);
		else if (!own)	/* of some only what is read is refused, or it is empty */
			tried(label, read(fd, &byte, 1) > 0 || entries[i].flags != O_RDONLY ? 0 : (errno = EACCES, -1));
		close(fd);
	}
}

static void
look_into_others(void)
{
	char daemon[16];

	snprintf(daemon, sizeof(daemon), "%d", (int)getppid());
	look_into("daemon", daemon);
	look_into("neighbour", named("neighbour"));
	look_into("self", "self");
	tried("kcore", open("/proc/kcore", O_RDONLY));
	tried("sysctl", open("/proc/sys/vm/drop_caches", O_WRONLY));
	tried("sysrq", open("/proc/sysrq-trigger", O_WRONLY));
	tried("sys", open("/sys/kernel/mm/transparent_hugepage/enabled", O_WRONLY));
	tried("cgroup", open("/sys/fs/cgroup/cgroup.procs", O_WRONLY));
	tried("tty", open("/dev/tty", O_RDWR));
	tried("console", open("/dev/console", O_RDWR));
	tried("shm", open("/dev/shm", O_TMPFILE | O_RDWR, 0600));
}

static void
signal_by_the_kernel(void)
{
	pid_t daemon = getppid();
	struct sigevent event = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGKILL };
	timer_t timer;
	int ends[2], pidfd = -1;
	socklen_t len = sizeof(pidfd);

	event._sigev_un._tid = daemon;
	tried("timer", timer_create(CLOCK_MONOTONIC, &event, &timer));
	tried("aio", syscall(SYS_io_setup, 1, &(unsigned long){ 0 }));
	tried("mq", syscall(SYS_mq_open, "/x", O_RDWR | O_CREAT, 0600, NULL));
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0)
		return;
	for (int i = 0; i < 2; i++) {
		tried("setown", ioctl(ends[i], FIOSETOWN, &daemon));
		tried("spgrp", ioctl(ends[i], SIOCSPGRP, &daemon));
		tried("tty", ioctl(ends[i], TIOCSPGRP, &daemon));
		tried("filter", setsockopt(ends[i], SOL_SOCKET, SO_ATTACH_FILTER, &(struct sock_fprog){
		    1, &(struct sock_filter){ 0x06 /* ret */, 0, 0, 0 } }, sizeof(struct sock_fprog)));
		tried("linger", setsockopt(ends[i], SOL_SOCKET, SO_LINGER, &(struct linger){ 1, 30 }, sizeof(struct linger)));
		close(ends[i]);
	}
	if (getsockopt(3, SOL_SOCKET, 77 /* SO_PEERPIDFD */, &pidfd, &len) == 0)
		tried("peer", syscall(SYS_pidfd_send_signal, pidfd, 0, NULL, 0));
	tried("release", syscall(448 /* process_mrelease */, pidfd, 0));
	tried("group", kill(-daemon, 0));
	tried("everyone", kill(-1, 0));
	tried("thread", syscall(SYS_tkill, daemon, 0));
	tried("queue", syscall(SYS_rt_tgsigqueueinfo, daemon, daemon, 0, &(siginfo_t){ .si_code = SI_QUEUE }));
}

/* --- processes --------------------------------------------------------- */

static void
clone_with(const char *what, unsigned long flags)
{
	long pid = syscall(SYS_clone, flags, NULL, NULL, NULL, 0);

	if (pid == 0)
		syscall(SYS_exit, 0);
	tried(what, pid);
}

static void
make_processes(void)
{
	unsigned long thread = CLONE_THREAD | CLONE_SIGHAND | CLONE_VM;
	char *const none[] = { NULL };

	clone_with("fork", SIGCHLD);
	clone_with("files", CLONE_FILES | SIGCHLD);
	clone_with("parent", CLONE_PARENT | SIGCHLD);
	clone_with("high", 1ul << 32 | SIGCHLD);
	clone_with("user", thread | CLONE_NEWUSER);
	clone_with("mounts", thread | CLONE_NEWNS);
	clone_with("net", thread | CLONE_NEWNET);
	tried("clone3", syscall(435, NULL, 0));
	tried("exec", execve("/proc/self/exe", none, none));
	tried("execat", syscall(SYS_execveat, open("/usr/bin/env", O_PATH), "", none, none, AT_EMPTY_PATH));
	tried("setns", setns(open("/proc/self/ns/net", O_RDONLY), 0));
}

/* Call numbers of other interfaces: of i386 (which writes its result over here, 4-byte pointers), and of x32. */
static void
call_otherwise(void)
{
#ifdef __x86_64__
	long result;

	__asm__ volatile("int $0x80" : "=a"(result) : "a"(20l /* getpid */) : "memory", "r8", "r9", "r10", "r11");
	errno = result < 0 ? (int)-result : 0;
	tried("i386", result < 0 ? -1 : 0);
	tried("x32", syscall(0x40000000 | SYS_getpid));
	tried("x32-exec", syscall(0x40000000 | 520, NULL, NULL, NULL));
	tried("x32-native", syscall(521 /* ptrace */, 0, 0, 0, 0));
#endif
	tried("negative", syscall(-1));
	tried("high", syscall(SYS_socket | 0x1000, AF_UNIX, SOCK_DGRAM, 0));
}

static void
set_itself(void)
{
	static const int own[] = { PR_SET_NAME, PR_GET_NAME, PR_GET_DUMPABLE, PR_CAPBSET_READ, PR_GET_NO_NEW_PRIVS,
	    PR_GET_SECCOMP, PR_SET_TIMERSLACK, PR_GET_TIMERSLACK };

	for (int option = 1; option < 80; option++) {
		char label[32];
		bool allowed = false;
		for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
			allowed = allowed || own[i] == option;
		snprintf(label, sizeof(label), "prctl-%d", option);
		if (!allowed)
			tried(label, prctl(option, 0, 0, 0, 0));
	}
	tried("personality", syscall(SYS_personality, 0x0400000));
	tried("affinity", sched_setaffinity(getppid(), sizeof(cpu_set_t), &(cpu_set_t){ { 1 } }));
	tried("scheduler", sched_setscheduler(0, SCHED_BATCH, &(struct sched_param){ 0 }));
	tried("nice", nice(-1) == -1 ? -1 : 0);
	tried("filter", syscall(SYS_seccomp, 1, 0, NULL));
	tried("ruleset", syscall(446 /* landlock_restrict_self */, -1, 0));
}

/* Memory that is in no address space. */
static void
eat_beside(void)
{
	static char block[1 << 20];
	int fd = memfd_create("eaten", 0);
	size_t eaten = 0;

	memset(block, 1, sizeof(block));
	while (fd >= 0 && eaten < (size_t)3 << 29 && write(fd, block, sizeof(block)) > 0)
		eaten += sizeof(block);
	tried("memfd", fd);
	close(fd);
}

/* Every other thread, the one that waits for the daemon's end among them, into a handler that never returns. */
static void
wait_for_ever(int number)
{
	(void)number;
	for (;;)
		pause();
}

static void
outlive_the_daemon(void)
{
	DIR *threads = opendir("/proc/self/task");
	struct dirent *each;
	pid_t thread;

	signal(SIGUSR2, wait_for_ever);
	while (threads != NULL && (each = readdir(threads)) != NULL)
		if ((thread = atoi(each->d_name)) > 0 && thread != gettid())
			tried("hold", syscall(SYS_tgkill, getpid(), thread, SIGUSR2));
}

/* Descriptors on their way, of which the kernel counts all of a user's. */
static void
fill_the_flight(void)
{
	union { struct cmsghdr head; char space[CMSG_SPACE(200 * sizeof(int))]; } rights = { 0 };
	struct iovec word = { "x", 1 };
	struct msghdr message = { .msg_iov = &word, .msg_iovlen = 1,
	    .msg_control = &rights, .msg_controllen = sizeof(rights.space) };
	int ends[2];
	long sent = 0;

	rights.head = (struct cmsghdr){ .cmsg_len = CMSG_LEN(200 * sizeof(int)), .cmsg_level = SOL_SOCKET,
	    .cmsg_type = SCM_RIGHTS };
	for (int i = 0; i < 200; i++)
		memcpy(CMSG_DATA(&rights.head) + (size_t)i * sizeof(int), &(int){ 0 }, sizeof(int));
	while (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0)
		while (sendmsg(ends[0], &message, MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
			sent += 200;
	snprintf(said, sizeof(said), "sent=%ld ", sent);
}

static int quiet[2];

/* While what is spliced into a pipe has not come, the kernel keeps it locked: who reads of it waits, whatever it asked
 * for. It is full first, so that the splice begins when the daemon has read some, and there is more to read. */
static void
lock_the_output(void)
{
	static char lines[4096];

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, quiet) != 0)
		return;
	memset(lines, '\n', sizeof(lines));
	fcntl(STDOUT_FILENO, F_SETFL, O_NONBLOCK);
	for (int i = 0; i < ROUNDS; i++)
		while (write(STDOUT_FILENO, lines, sizeof(lines)) > 0)
			;
	fcntl(STDOUT_FILENO, F_SETFL, 0);
	splice(quiet[0], NULL, STDOUT_FILENO, NULL, sizeof(lines), 0);
}

static const struct kind {
	const char *name;
	void (*run)(void);
} kinds[] = {
	{ "name_a_socket", name_a_socket }, { "change_by_descriptor", change_by_descriptor },
	{ "change_by_name", change_by_name }, { "read_by_name", read_by_name }, { "go_another_way", go_another_way },
	{ "look_into_others", look_into_others }, { "signal_by_the_kernel", signal_by_the_kernel },
	{ "make_processes", make_processes }, { "call_otherwise", call_otherwise }, { "set_itself", set_itself },
	{ "eat_beside", eat_beside }, { "outlive_the_daemon", outlive_the_daemon }, { "fill_the_flight", fill_the_flight },
	{ "lock_the_output", lock_the_output }, { "pass_descriptors", pass_descriptors },
};
#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

static const gd_command commands[] = {
	{ "said", 0 }, { "name_a_socket", 1 }, { "change_by_descriptor", 2 }, { "change_by_name", 3 },
	{ "read_by_name", 4 }, { "go_another_way", 5 }, { "look_into_others", 6 }, { "signal_by_the_kernel", 7 },
	{ "make_processes", 8 }, { "call_otherwise", 9 }, { "set_itself", 10 }, { "eat_beside", 11 }, { "outlive_the_daemon", 12 },
	{ "fill_the_flight", 13 }, { "lock_the_output", 14 }, { "pass_descriptors", 15 }, { NULL, 0 },
};

static const struct kind *chosen;

static void *
in_thread(void *none)
{
	chosen->run();
	return none;
}

static void
in_handler(int number)
{
	(void)number;
	chosen->run();
}

/* Where the instance is called so. */
static bool
is_called(const char *where)
{
	const char *instance = getenv("GENDRIVERD_INSTANCE");

	return instance != NULL && strncmp(instance, where, strlen(where)) == 0;
}

__attribute__((constructor)) static void
early(void)
{
	for (size_t i = 0; i < KINDS && is_called("constructor-"); i++)
		if (strcmp(getenv("GENDRIVERD_INSTANCE") + strlen("constructor-"), kinds[i].name) == 0)
			kinds[i].run();
}

static void
dispatch(gd_req_t *req, gd_res_t *res, void *drv_state, void *trd_state)
{
	pthread_t thread;

	(void)drv_state, (void)trd_state;
	if (req->cmd > 0 && (size_t)req->cmd <= KINDS) {
		said[0] = '\0';
		chosen = &kinds[req->cmd - 1];
		if (is_called("thread-") && pthread_create(&thread, NULL, in_thread, NULL) == 0)
			pthread_join(thread, NULL);
		else if (is_called("handler-") && signal(SIGUSR1, in_handler) != SIG_ERR)
			raise(SIGUSR1);
		else
			chosen->run();
	}
	gd_put_text(&res->out, said);
}

GD_DRIVER(.dispatch = dispatch, .commands = commands)
