/* SPDX-License-Identifier: MIT */
/*
 * A driver that does its worst, one way for each command; as instance "early-NAME" the way NAME, in an ELF constructor.
 * The reply says of each attempt what came of it: "what=ok", or the error's name. Its settings: the file `secret`, which
 * it must not read or change, a directory `outside` it must not write to, the daemon's `admin` socket, and the `port` of
 * a listener that must not hear of it. Longer than others: it is a list of ways.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "attempts.h"

#define CONTROL 3
#define ATTEMPTS 256	/* of one kind */

extern char **environ;

static const char *
outside(const char *name)
{
	static char path[1200];

	snprintf(path, sizeof(path), "%s/%s", named("outside"), name);
	return path;
}

/* --- files ------------------------------------------------------------- */

static void
read_secrets(void)
{
	tried("shadow", open("/etc/shadow", O_RDONLY));
	tried("secret", open(named("secret"), O_RDONLY));
	tried("outside", open(named("outside"), O_RDONLY | O_DIRECTORY));
	tried("memory", open("/proc/1/mem", O_RDWR));
	tried("environ", open("/proc/1/environ", O_RDONLY));
	tried("kernel", open("/dev/kmsg", O_RDONLY));
}

static void
write_outside(void)
{
	tried("create", open(outside("made"), O_WRONLY | O_CREAT, 0600));
	tried("mkdir", mkdir(outside("dir"), 0700));
	tried("mkfifo", mkfifo(outside("fifo"), 0600));
	tried("symlink", symlink("/etc/passwd", outside("link")));
	tried("link", link(named("secret"), outside("hard")));
	tried("rename", rename(named("secret"), outside("moved")));
	tried("unlink", unlink(named("secret")));
	tried("truncate", truncate(named("secret"), 0));
	tried("clear", open(named("secret"), O_RDONLY | O_TRUNC));
	tried("chmod", chmod(named("secret"), 0777));
	tried("chown", chown(named("secret"), 0, 0));
	tried("xattr", syscall(SYS_setxattr, named("secret"), "user.x", "y", 1, 0));
	tried("tmp", open("/tmp", O_TMPFILE | O_RDWR, 0600));
	tried("dev", open("/dev/shm/gendriverd-hostile", O_RDWR | O_CREAT, 0600));
	tried("proc", open("/proc/sys/kernel/core_pattern", O_WRONLY));
	tried("oom", open("/proc/self/oom_score_adj", O_WRONLY));
}

static void
fill_the_disk(void)
{
	static char block[1 << 16];

	for (int i = 0; i < ATTEMPTS; i++) {
		char name[32];
		snprintf(name, sizeof(name), "fill-%d", i);
		int fd = open(outside(name), O_WRONLY | O_CREAT, 0600);
		if (fd < 0)
			continue;
		tried("write", write(fd, block, sizeof(block)));
	}
	tried("open", open(outside("fill"), O_WRONLY | O_CREAT, 0600));
}

/* --- the network ------------------------------------------------------- */

static void
connect_out(void)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(named("port"))) };
	struct sockaddr_un admin = { .sun_family = AF_UNIX };
	struct msghdr message = { .msg_name = &to, .msg_namelen = sizeof(to) };
	int ends[2];

	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	snprintf(admin.sun_path, sizeof(admin.sun_path), "%.100s", named("admin"));
	tried("tcp", socket(AF_INET, SOCK_STREAM, 0));
	tried("udp", socket(AF_INET6, SOCK_DGRAM, 0));
	tried("unix", socket(AF_UNIX, SOCK_STREAM, 0));
	tried("packet", socket(AF_PACKET, SOCK_RAW, 0));
	tried("pair", socketpair(AF_UNIX, SOCK_DGRAM, 0, (int[2]){ 0 }));
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0)
		tried("linger", setsockopt(ends[0], SOL_SOCKET, SO_LINGER, &(struct linger){ 1, 30 }, sizeof(struct linger)));
	for (int fd = 0; fd < 64; fd++) {	/* whatever is open already: a client's socket is among them */
		if (connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0
		    || connect(fd, (struct sockaddr *)&admin, sizeof(admin)) == 0)
			tried("connect", fd);
		if (fd > CONTROL && sendmsg(fd, &message, MSG_FASTOPEN | MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
			tried("fastopen", fd);
	}
}

/* --- other processes --------------------------------------------------- */

static void
trace_the_daemon(void)
{
	pid_t daemon = getppid();
	char byte = 0;
	struct iovec here = { &byte, 1 }, there = { (void *)environ, 1 };
	char path[64];

	tried("attach", ptrace(PTRACE_ATTACH, daemon, NULL, NULL));
	tried("seize", ptrace(PTRACE_SEIZE, daemon, NULL, NULL));
	tried("read", process_vm_readv(daemon, &here, 1, &there, 1, 0));
	tried("write", process_vm_writev(daemon, &here, 1, &there, 1, 0));
	snprintf(path, sizeof(path), "/proc/%d/mem", (int)daemon);
	tried("mem", open(path, O_RDWR));
	snprintf(path, sizeof(path), "/proc/%d/fd/0", (int)daemon);
	tried("descriptor", open(path, O_RDWR));
	tried("pidfd", syscall(SYS_pidfd_getfd, (int)syscall(SYS_pidfd_open, daemon, 0), 0, 0));
}

static void
signal_others(void)
{
	pid_t daemon = getppid();
	struct f_owner_ex owner = { F_OWNER_PID, daemon };
	int ends[2] = { -1, -1 };

	/* Where nothing holds it back, a test is no reason to kill all that its user runs. */
	tried("probe", kill(daemon, 0));
	if (kill(daemon, 0) == 0)
		return;
	tried("all", kill(-1, SIGKILL));
	tried("daemon", kill(daemon, SIGKILL));
	tried("thread", (long)syscall(SYS_tgkill, daemon, daemon, SIGKILL));
	tried("queue", (long)syscall(SYS_rt_sigqueueinfo, daemon, SIGKILL, &(siginfo_t){ .si_code = SI_QUEUE }));
	tried("pidfd", (long)syscall(SYS_pidfd_send_signal, (int)syscall(SYS_pidfd_open, daemon, 0), SIGKILL, NULL, 0));
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0) {	/* SIGKILL, as soon as there is something to read */
		tried("owner", fcntl(ends[0], F_SETOWN, daemon));
		tried("owner_ex", fcntl(ends[0], F_SETOWN_EX, &owner));
		tried("setsig", fcntl(ends[0], F_SETSIG, SIGKILL));
		fcntl(ends[0], F_SETFL, O_ASYNC);
		if (write(ends[1], "x", 1) < 0)
			tried("pair", -1);
	}
	tried("priority", setpriority(PRIO_PROCESS, (id_t)daemon, 19));
	tried("affinity", sched_setaffinity(daemon, sizeof(cpu_set_t), &(cpu_set_t){ { 1 } }));
	tried("limit", prlimit(daemon, RLIMIT_NOFILE, &(struct rlimit){ 0, 0 }, NULL));
}

static void
fork_bomb(void)
{
	char *const shell[] = { "/bin/sh", "-c", "exec sleep 1000", NULL };
	pid_t child = -1;

	for (int i = 0; i < ATTEMPTS; i++)
		if ((child = fork()) == 0)
			for (;;)
				pause();
	tried("fork", child);
	if ((child = (pid_t)syscall(SYS_clone, SIGCHLD | CLONE_NEWUSER, NULL, NULL, NULL, 0)) == 0)
		_exit(0);
	tried("namespace", child);
	errno = posix_spawn(&child, shell[0], NULL, NULL, shell, environ);
	tried("spawn", errno == 0 ? 0 : -1);
	tried("exec", execve(shell[0], shell, environ));
}

static void
leave_a_child(void)
{
	pid_t child = fork();

	if (child == 0) {
		setsid();
		if (fork() == 0)
			for (;;)
				pause();
		_exit(0);
	}
	tried("fork", child);
	tried("session", setsid());
	tried("group", setpgid(0, 0));
}

/* --- what it shares with its host -------------------------------------- */

static void
open_many(void)
{
	long opened = 0;
	int fd;

	while ((fd = open("/dev/null", O_RDONLY)) >= 0 && opened < 1000000)
		opened++;
	tried("another", fd);
	tried("raise", setrlimit(RLIMIT_NOFILE, &(struct rlimit){ 1 << 20, 1 << 20 }));
	snprintf(said + strlen(said), 64, "opened=%ld ", opened);
	for (fd = 0; opened > 0 && fd < 1 << 20; fd++) {	/* the host is to go on */
		struct stat s;
		if (fd > CONTROL && fstat(fd, &s) == 0 && S_ISCHR(s.st_mode) && opened-- > 0)
			close(fd);
	}
}

static void
eat_memory(void)
{
	char *page;
	size_t eaten = 0, size = 16 << 20;

	while ((page = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)) != MAP_FAILED
	    && eaten < (size_t)8 << 30) {
		memset(page, 1, size);
		eaten += size;
	}
	tried("more", page == MAP_FAILED ? -1 : 0);
	fprintf(stderr, "%s\n", said);
	abort();
}

static void
scribble(void)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	char line[512];
	unsigned long from, to;

	while (maps != NULL && fgets(line, sizeof(line), maps) != NULL)
		if (strstr(line, "/memfd:") != NULL && sscanf(line, "%lx-%lx rw", &from, &to) == 2)
			memset((void *)from, 0xa5, to - from);
	abort();
}

/* Much that is no message, and many that are. */
static void
flood_channel(void)
{
	static const unsigned char log[] = "\x83h\4w\3logw\4infom\0\0\0\5floodt\0\0\0\0";
	static unsigned char junk[60000];

	for (int i = 0; i < 200000; i++)
		send(CONTROL, log, sizeof(log) - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
	memset(junk, 0x5a, sizeof(junk));
	for (int i = 0; i < 1000; i++)
		send(CONTROL, junk, sizeof(junk), MSG_NOSIGNAL);
}

static void
forge_messages(void)
{
	static const unsigned char drained[] = "\x83h\1w\7drained", adopted[] = "\x83h\2w\7adoptedb\0\0\3\xe7",
	    ready[] = "\x83h\2w\5readyt\0\0\0\0";

	send(CONTROL, drained, sizeof(drained) - 1, MSG_NOSIGNAL);
	send(CONTROL, adopted, sizeof(adopted) - 1, MSG_NOSIGNAL);
	send(CONTROL, ready, sizeof(ready) - 1, MSG_NOSIGNAL);
}

static void
close_all(void)
{
	close_range(0, ~0u, 0);
}

static void
change_directory(void)
{
	if (chdir("/") != 0 || fchdir(0) == 0)
		tried("chdir", -1);
	umask(0);
	tried("root", chroot("/"));
}

/* No signal that can be refused is heard any more; then it stops itself. */
static void
be_deaf(void)
{
	sigset_t all;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, NULL);
	for (int number = 1; number < 64; number++)
		signal(number, SIG_IGN);
	prctl(PR_SET_PDEATHSIG, 0);
	for (;;)
		pause();
}

static void
stop_itself(void)
{
	kill(getpid(), SIGSTOP);
}

static void
change_locale(void)
{
	setlocale(LC_ALL, "de_DE.UTF-8");
	setenv("LC_ALL", "de_DE.UTF-8", 1);
	unsetenv("PATH");
	clearenv();
}

static void
set_limits(void)
{
	struct rlimit none = { 0, 0 };

	tried("nofile", setrlimit(RLIMIT_NOFILE, &none));
	tried("as", setrlimit(RLIMIT_AS, &none));
	tried("cpu", setrlimit(RLIMIT_CPU, &(struct rlimit){ 1, 1 }));
	tried("core", setrlimit(RLIMIT_CORE, &(struct rlimit){ RLIM_INFINITY, RLIM_INFINITY }));
}

static void
ask_the_kernel(void)
{
	tried("mount", (long)syscall(SYS_mount, "none", "/", "tmpfs", 0, NULL));
	tried("unshare", unshare(CLONE_NEWUSER | CLONE_NEWNS));
	tried("bpf", syscall(SYS_bpf, 0, NULL, 0));
	tried("io_uring", syscall(SYS_io_uring_setup, 8, NULL));
	tried("userfaultfd", syscall(SYS_userfaultfd, 0));
	tried("keyring", syscall(SYS_keyctl, 0, -3, 0, 0, 0));
	tried("module", syscall(SYS_init_module, "", 0, ""));
	tried("uid", setuid(0));
	tried("hostname", sethostname("x", 1));
	tried("dumpable", prctl(PR_SET_DUMPABLE, 1));
}

static const struct attack {
	const char *name;
	void (*run)(void);
} attacks[] = {
	{ "read_secrets", read_secrets }, { "write_outside", write_outside }, { "fill_the_disk", fill_the_disk },
	{ "connect_out", connect_out }, { "trace_the_daemon", trace_the_daemon }, { "signal_others", signal_others },
	{ "fork_bomb", fork_bomb }, { "leave_a_child", leave_a_child }, { "open_many", open_many },
	{ "eat_memory", eat_memory }, { "scribble", scribble }, { "flood_channel", flood_channel },
	{ "forge_messages", forge_messages }, { "close_all", close_all }, { "change_directory", change_directory },
	{ "be_deaf", be_deaf }, { "stop_itself", stop_itself }, { "change_locale", change_locale },
	{ "set_limits", set_limits }, { "ask_the_kernel", ask_the_kernel },
};
#define ATTACKS (sizeof(attacks) / sizeof(attacks[0]))

static const gd_command commands[] = {
	{ "said", 0 }, { "half", 100 },
	{ "read_secrets", 1 }, { "write_outside", 2 }, { "fill_the_disk", 3 }, { "connect_out", 4 },
	{ "trace_the_daemon", 5 }, { "signal_others", 6 }, { "fork_bomb", 7 }, { "leave_a_child", 8 }, { "open_many", 9 },
	{ "eat_memory", 10 }, { "scribble", 11 }, { "flood_channel", 12 }, { "forge_messages", 13 }, { "close_all", 14 },
	{ "change_directory", 15 }, { "be_deaf", 16 }, { "stop_itself", 17 }, { "change_locale", 18 },
	{ "set_limits", 19 }, { "ask_the_kernel", 20 }, { NULL, 0 },
};

__attribute__((constructor)) static void
early(void)
{
	const char *instance = getenv("GENDRIVERD_INSTANCE");

	if (instance == NULL || strncmp(instance, "early-", 6) != 0)
		return;
	for (size_t i = 0; i < ATTACKS; i++)
		if (strcmp(instance + 6, attacks[i].name) == 0)
			attacks[i].run();
}

static void
dispatch(gd_req_t *req, gd_res_t *res, void *drv_state, void *trd_state)
{
	(void)drv_state, (void)trd_state;
	if (req->cmd == 100) {
		gd_put_f64(&res->out, 0.5);
		return;
	}
	if (req->cmd > 0 && (size_t)req->cmd <= ATTACKS) {
		said[0] = '\0';
		attacks[req->cmd - 1].run();
	}
	gd_put_text(&res->out, said);
}

GD_DRIVER(.dispatch = dispatch, .commands = commands)
