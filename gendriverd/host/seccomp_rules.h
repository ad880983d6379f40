/* SPDX-License-Identifier: MIT */
/*
 * The tables of seccomp.c: what the profiles of a sandbox deny and allow. One of them is an argument for each line: of
 * a call with many arguments only the one that makes the difference is looked at.
 *
 * `default` leaves out what no driver of a service needs and what most escapes have begun with. `strict` lists what the
 * host and a library that computes need: files within Landlock's bounds, memory, threads, the connections that are
 * there; no new socket, no new process, no signal to another. Calls that change a file's mode, owner, times or
 * attributes are not among them: Landlock does not hold these, nor those that read attributes by a path. Of ioctl,
 * fcntl and setsockopt it lists the commands: each file system and kind of socket has its own, and more every year.
 */
#ifndef HOST_SECCOMP_RULES_H
#define HOST_SECCOMP_RULES_H

#include <fcntl.h>
#include <linux/prctl.h>
#include <linux/random.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

enum rule_op {
	ALWAYS,
	IS,		/* (argument & mask) == value */
	IS_NOT,
	IS_NULL,	/* a pointer */
	NOT_NULL,
	IS_SELF,	/* this process's number */
	NOT_SELF,
};

struct rule {
	uint32_t call;
	unsigned char arg;
	unsigned char op;
	uint32_t mask, value;
};

#define CALL(name) { .call = __NR_##name, .op = ALWAYS }
#define ARG(name, n, o, m, v) { .call = __NR_##name, .arg = (n), .op = (o), .mask = (m), .value = (v) }
#define EXACTLY(name, n, v) ARG(name, n, IS, ~0u, (uint32_t)(v))
#define WITH(name, n, flag) ARG(name, n, IS, flag, flag)

#define CLEAR_ONLY (O_TRUNC | O_ACCMODE)
#define KIND 0xf	/* of a socket, without its flags */
#define IOCTL(command) EXACTLY(ioctl, 1, command)
#define FCNTL(command) EXACTLY(fcntl, 1, command)
#define OPTION(name) EXACTLY(setsockopt, 2, name)
#define LEVELS 7u	/* of SOL_SOCKET and IPPROTO_TCP, and others that are none */

/* Their arguments lie in memory, where a filter cannot look; libraries go on with the older call. */
static const struct rule missing_calls[] = {
	{ .call = 435 },	/* clone3 */
	{ .call = 437 },	/* openat2 */
	{ .call = 425 }, { .call = 426 }, { .call = 427 },	/* io_uring: calls that no filter sees */
};

static const struct rule default_denied[] = {
	/* other processes' memory and descriptors */
#if !defined(GD_ASAN) && !defined(GD_TSAN)	/* LeakSanitizer traces its own threads */
	CALL(ptrace),
#endif
	ARG(process_vm_readv, 0, NOT_SELF, 0, 0), CALL(process_vm_writev), CALL(kcmp),
	{ .call = 438 },	/* pidfd_getfd */
	{ .call = 440 },	/* process_madvise */
	EXACTLY(kill, 0, -1),
	/* mounts, namespaces */
	CALL(mount), CALL(umount2), CALL(pivot_root), CALL(chroot), CALL(unshare), CALL(setns),
	{ .call = 428 }, { .call = 429 }, { .call = 430 }, { .call = 431 }, { .call = 432 }, { .call = 433 },
	{ .call = 442 },	/* open_tree .. mount_setattr */
	WITH(clone, 0, CLONE_NEWNS), WITH(clone, 0, CLONE_NEWUSER), WITH(clone, 0, CLONE_NEWPID),
	WITH(clone, 0, CLONE_NEWNET), WITH(clone, 0, CLONE_NEWIPC), WITH(clone, 0, CLONE_NEWUTS),
	WITH(clone, 0, CLONE_NEWCGROUP),
	/* the kernel itself */
	CALL(bpf), CALL(perf_event_open), CALL(userfaultfd), CALL(add_key), CALL(request_key), CALL(keyctl),
	CALL(init_module), CALL(finit_module), CALL(delete_module), CALL(kexec_load), CALL(reboot), CALL(swapon),
	CALL(swapoff), CALL(acct), CALL(quotactl), CALL(syslog), CALL(settimeofday), CALL(clock_settime), CALL(adjtimex),
	CALL(clock_adjtime), CALL(sethostname), CALL(setdomainname), CALL(vhangup), CALL(open_by_handle_at),
	CALL(fanotify_init), CALL(migrate_pages), CALL(move_pages),
#ifdef __NR_iopl
	CALL(iopl), CALL(ioperm), CALL(modify_ldt), CALL(kexec_file_load), CALL(uselib),
#endif
	/* kinds of sockets that are seldom used and often broken */
	EXACTLY(socket, 0, 3), EXACTLY(socket, 0, 4), EXACTLY(socket, 0, 5), EXACTLY(socket, 0, 6), EXACTLY(socket, 0, 8),
	EXACTLY(socket, 0, 9), EXACTLY(socket, 0, 11), EXACTLY(socket, 0, 12), EXACTLY(socket, 0, 15),
	EXACTLY(socket, 0, 17), EXACTLY(socket, 0, 19), EXACTLY(socket, 0, 21), EXACTLY(socket, 0, 30),
	EXACTLY(socket, 0, 35), EXACTLY(socket, 0, 36), EXACTLY(socket, 0, 37), EXACTLY(socket, 0, 38),
	EXACTLY(socket, 0, 39), EXACTLY(socket, 0, 40), EXACTLY(socket, 0, 41), EXACTLY(socket, 0, 42),
	EXACTLY(socket, 0, 43), EXACTLY(socket, 0, 44),
	EXACTLY(ioctl, 1, TIOCSTI), EXACTLY(ioctl, 1, TIOCLINUX),
	/* What clients passed its daemon would close, which has their sockets, too. */
	EXACTLY(setsockopt, 2, 83),	/* SO_PASSRIGHTS */
};

static const struct rule strict_denied[] = {
	/* Options of others than sockets and TCP. */
	ARG(setsockopt, 1, IS_NOT, ~LEVELS, 0), EXACTLY(setsockopt, 1, IPPROTO_IP),
	EXACTLY(setsockopt, 2, 83),	/* SO_PASSRIGHTS */
	/* A socket that was closed would connect anew by this. */
	WITH(sendmsg, 2, MSG_FASTOPEN), WITH(sendmmsg, 3, MSG_FASTOPEN), WITH(sendto, 3, MSG_FASTOPEN),
	ARG(sendto, 4, NOT_NULL, 0, 0),
	/* Before its third release Landlock let whoever may read a file clear it. */
#ifdef __NR_open
	ARG(open, 1, IS, CLEAR_ONLY, O_TRUNC),
#endif
	ARG(openat, 2, IS, CLEAR_ONLY, O_TRUNC),
	/* A descriptor for neither reading nor writing, of which Landlock asks nothing. */
#ifdef __NR_open
	WITH(open, 1, O_ACCMODE),
#endif
	WITH(openat, 2, O_ACCMODE),
	/* By name they reach other programs' sockets; of unix sockets the kernel makes both the same. */
	ARG(socketpair, 1, IS, KIND, SOCK_DGRAM), ARG(socketpair, 1, IS, KIND, SOCK_RAW),
};

/* Where no control group counts memory: this is in no address space. */
static const struct rule strict_limited[] = {
	CALL(memfd_create),
};

static const struct rule strict_allowed[] = {
	CALL(sendmsg), CALL(sendmmsg), CALL(sendto), CALL(recvmsg), CALL(recvmmsg), CALL(recvfrom), CALL(shutdown),
	CALL(getsockopt), CALL(getsockname), CALL(getpeername), EXACTLY(socketpair, 0, AF_UNIX),
	CALL(futex), CALL(set_robust_list), CALL(get_robust_list), CALL(rseq), CALL(membarrier), CALL(set_tid_address),
	{ .call = 449 },	/* futex_waitv */
	CALL(epoll_create1), CALL(epoll_ctl), CALL(epoll_pwait), { .call = 441 },	/* epoll_pwait2 */
	CALL(eventfd2), CALL(timerfd_create), CALL(timerfd_settime), CALL(timerfd_gettime), CALL(signalfd4),
	CALL(ppoll), CALL(pselect6),
	CALL(read), CALL(write), CALL(readv), CALL(writev), CALL(pread64), CALL(pwrite64), CALL(preadv), CALL(pwritev),
	CALL(preadv2), CALL(pwritev2), CALL(close), { .call = 436 },	/* close_range */
	CALL(fstat), CALL(newfstatat), CALL(statx), CALL(lseek), CALL(flock), CALL(fsync), CALL(fdatasync),
	CALL(sync_file_range), CALL(ftruncate), CALL(fallocate), CALL(fadvise64), CALL(getdents64), CALL(dup), CALL(dup3),
	CALL(pipe2), CALL(splice), CALL(tee), CALL(vmsplice), CALL(sendfile), CALL(copy_file_range), CALL(statfs),
	CALL(fstatfs), CALL(getcwd), CALL(chdir), CALL(fchdir), CALL(umask),
	CALL(openat), CALL(faccessat), { .call = 439 },	/* faccessat2 */
	CALL(readlinkat), CALL(mkdirat), CALL(unlinkat), CALL(linkat), CALL(symlinkat), CALL(renameat2),
	CALL(fgetxattr),
#ifdef __NR_open
	CALL(open), CALL(creat), CALL(stat), CALL(lstat), CALL(access), CALL(readlink), CALL(mkdir), CALL(rmdir),
	CALL(unlink), CALL(link), CALL(symlink), CALL(rename), CALL(getdents), CALL(dup2), CALL(pipe), CALL(poll),
	CALL(select), CALL(epoll_create), CALL(epoll_wait), CALL(eventfd), CALL(signalfd), CALL(time),
	CALL(alarm), CALL(pause), CALL(getpgrp), CALL(arch_prctl),
#endif
#ifdef __NR_renameat
	CALL(renameat),
#endif
	CALL(mmap), CALL(mprotect), CALL(munmap), CALL(mremap), CALL(madvise), CALL(mincore), CALL(msync), CALL(mlock),
	CALL(munlock), CALL(mlock2), CALL(brk), CALL(memfd_create), CALL(mbind), CALL(set_mempolicy), CALL(get_mempolicy),
	CALL(pkey_alloc), CALL(pkey_free), CALL(pkey_mprotect),
	CALL(rt_sigaction), CALL(rt_sigprocmask), CALL(rt_sigreturn), CALL(rt_sigpending), CALL(rt_sigtimedwait),
	CALL(rt_sigsuspend), CALL(sigaltstack), CALL(restart_syscall),
	EXACTLY(kill, 0, 0), ARG(kill, 0, IS_SELF, 0, 0), ARG(tgkill, 0, IS_SELF, 0, 0),
	ARG(rt_tgsigqueueinfo, 0, IS_SELF, 0, 0), ARG(process_vm_readv, 0, IS_SELF, 0, 0),
	CALL(nanosleep), CALL(clock_nanosleep), CALL(clock_gettime), CALL(clock_getres), CALL(gettimeofday), CALL(times),
	CALL(setitimer), CALL(getitimer), CALL(timer_create), CALL(timer_settime), CALL(timer_gettime),
	CALL(timer_getoverrun), CALL(timer_delete),
	CALL(getpid), CALL(gettid), CALL(getppid), CALL(getuid), CALL(geteuid), CALL(getgid), CALL(getegid),
	CALL(getresuid), CALL(getresgid), CALL(getgroups), CALL(getpgid), CALL(getsid), CALL(getrandom), CALL(getrusage),
	CALL(sysinfo), CALL(uname), CALL(getcpu), CALL(getrlimit), ARG(prlimit64, 2, IS_NULL, 0, 0), CALL(getpriority),
	CALL(sched_yield), CALL(sched_getaffinity), CALL(sched_getparam), CALL(sched_getscheduler),
	CALL(sched_get_priority_max), CALL(sched_get_priority_min), EXACTLY(sched_setaffinity, 0, 0),
	EXACTLY(personality, 0, ~0u),
	EXACTLY(prctl, 0, PR_SET_NAME), EXACTLY(prctl, 0, PR_GET_NAME), EXACTLY(prctl, 0, PR_GET_DUMPABLE),
	EXACTLY(prctl, 0, PR_CAPBSET_READ), EXACTLY(prctl, 0, PR_GET_NO_NEW_PRIVS), EXACTLY(prctl, 0, PR_GET_SECCOMP),
	EXACTLY(prctl, 0, PR_SET_TIMERSLACK), EXACTLY(prctl, 0, PR_GET_TIMERSLACK),
	EXACTLY(prctl, 0, 0x53564d41),	/* PR_SET_VMA: names of memory, of allocators */
	WITH(clone, 0, CLONE_THREAD),
	CALL(wait4), CALL(waitid), CALL(exit), CALL(exit_group),
	/* What libraries ask of any descriptor, and isatty. */
	IOCTL(FIONREAD), IOCTL(FIONBIO), IOCTL(FIOCLEX), IOCTL(FIONCLEX), IOCTL(TCGETS), IOCTL(0x802c542a) /* TCGETS2 */,
	IOCTL(TIOCGWINSZ), IOCTL(TIOCOUTQ), IOCTL(SIOCATMARK), IOCTL(RNDGETENTCNT),
	/* No owner, who gets signals from the kernel; no lease, which holds up whoever opens the file. */
	FCNTL(F_DUPFD), FCNTL(F_DUPFD_CLOEXEC), FCNTL(F_GETFD), FCNTL(F_SETFD), FCNTL(F_GETFL), FCNTL(F_SETFL),
	FCNTL(F_GETLK), FCNTL(F_SETLK), FCNTL(F_SETLKW), FCNTL(F_OFD_GETLK), FCNTL(F_OFD_SETLK), FCNTL(F_OFD_SETLKW),
	FCNTL(F_GETPIPE_SZ), FCNTL(F_SETPIPE_SZ), FCNTL(F_ADD_SEALS), FCNTL(F_GET_SEALS), FCNTL(F_GETOWN),
	FCNTL(1027),	/* F_DUPFD_QUERY */
	/* Not SO_LINGER: the daemon, which has the sockets too, would wait in close. No filters, no TLS of the kernel's. */
	OPTION(SO_SNDBUF), OPTION(SO_RCVBUF), OPTION(SO_KEEPALIVE), OPTION(SO_PASSCRED), OPTION(SO_RCVLOWAT),
	OPTION(SO_RCVTIMEO), OPTION(SO_SNDTIMEO),
	OPTION(TCP_NODELAY), OPTION(TCP_CORK), OPTION(TCP_KEEPIDLE), OPTION(TCP_KEEPINTVL), OPTION(TCP_KEEPCNT),
	OPTION(TCP_QUICKACK),
};

#endif
