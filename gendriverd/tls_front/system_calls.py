# SPDX-License-Identifier: MIT
"""The system calls that the front may make, as a seccomp filter; all others fail with EPERM.

No socket of its own making but a pair of connected ones, no other program, no other process, no thread.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import socket
import struct
import termios

from gendriverd.passing import SO_PASSRIGHTS

PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2
# By machine: the column of its numbers below, and how the kernel calls it (AUDIT_ARCH_*).
MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
ALLOWED: dict[str, tuple[int, int | None]] = {
    "read": (0, 63), "write": (1, 64), "writev": (20, 66), "close": (3, 57), "lseek": (8, 62), "fstat": (5, 80),
    "newfstatat": (262, 79), "openat": (257, 56), "dup": (32, 23),
    "brk": (12, 214), "mmap": (9, 222), "munmap": (11, 215), "mremap": (25, 216), "mprotect": (10, 226),
    "madvise": (28, 233), "futex": (202, 98), "getpid": (39, 172), "gettid": (186, 178), "getuid": (102, 174),
    "geteuid": (107, 175), "getgid": (104, 176), "getegid": (108, 177), "getrandom": (318, 278),
    "clock_gettime": (228, 113), "clock_nanosleep": (230, 115), "nanosleep": (35, 101), "sched_yield": (24, 124),
    "membarrier": (324, 283), "rseq": (334, 293), "restart_syscall": (219, 128), "epoll_create1": (291, 20),
    "epoll_ctl": (233, 21), "epoll_wait": (232, None), "epoll_pwait": (281, 22), "poll": (7, None),
    "ppoll": (271, 73), "accept": (43, 202), "accept4": (288, 242), "recvfrom": (45, 207), "recvmsg": (47, 212),
    "sendto": (44, 206), "sendmsg": (46, 211), "shutdown": (48, 210),
    "getsockopt": (55, 209), "getsockname": (51, 204), "getpeername": (52, 205), "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139), "sigaltstack": (131, 132), "setitimer": (38, 103),
    "sysinfo": (99, 179), "uname": (63, 160), "exit": (60, 93), "exit_group": (231, 94),
}  # fmt: skip
# Of struct seccomp_data: where number, architecture, and the lower half of an argument lie.
NUMBER, ARCHITECTURE, SECOND, THIRD = 0, 4, 24, 32
# Those that are looked into: their numbers, the argument and its bits that count, and what these may be. Of fcntl
# and ioctl without those that have a signal sent to another process when a socket has something to read; of setsockopt
# without those by which the daemon, which has the socket too, would wait.
ASKED: dict[str, tuple[tuple[int, int], int, int, tuple[int, ...]]] = {
    "socketpair": ((53, 199), SECOND, 0xF, (socket.SOCK_STREAM,)),
    "setsockopt": ((54, 208), THIRD, 0xFFFFFFFF, (socket.TCP_NODELAY, socket.SO_KEEPALIVE, SO_PASSRIGHTS)),
    "fcntl": (
        (72, 25),
        SECOND,
        0xFFFFFFFF,
        (fcntl.F_DUPFD, fcntl.F_GETFD, fcntl.F_SETFD, fcntl.F_GETFL, fcntl.F_SETFL, fcntl.F_DUPFD_CLOEXEC),
    ),
    "ioctl": (
        (16, 29),
        SECOND,
        0xFFFFFFFF,
        (termios.TCGETS, termios.FIONREAD, termios.FIONBIO, termios.FIOCLEX, termios.FIONCLEX),
    ),
}
LOAD, AND, RETURN = 0x20, 0x54, 0x06
JUMP_EQUAL = 0x15
ALLOW, REFUSE = 0x7FFF0000, 0x00050000 | errno.EPERM


class _Program(ctypes.Structure):
    """struct sock_fprog"""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def forbid_others(libc: ctypes.CDLL) -> bool:
    """For this process, for ever. False: it cannot be done on this machine. no_new_privs must be set."""
    known = MACHINES.get(os.uname().machine)
    if known is None:
        return False
    instructions = program(*known)
    fprog = _Program(len(instructions) // 8, instructions)
    return bool(libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(fprog), 0, 0) == 0)


def program(column: int, architecture: int) -> bytes:
    """In the language of BPF: jumps count the instructions that they leave out."""
    numbers = [found for each in ALLOWED.values() if (found := each[column]) is not None]
    asked = [(calls[column], argument, mask, values) for calls, argument, mask, values in ASKED.values()]
    size = 4 + len(numbers) + sum(4 + len(values) for *_, values in asked) + 2
    lines = [
        (LOAD, 0, 0, ARCHITECTURE),
        (JUMP_EQUAL, 1, 0, architecture),
        (RETURN, 0, 0, REFUSE),
        (LOAD, 0, 0, NUMBER),
        *((JUMP_EQUAL, size - 6 - place, 0, number) for place, number in enumerate(numbers)),
    ]
    for number, argument, mask, values in asked:
        lines += [(JUMP_EQUAL, 0, 3 + len(values), number), (LOAD, 0, 0, argument), (AND, 0, 0, mask)]
        lines += [(JUMP_EQUAL, size - 2 - len(lines) - place, 0, value) for place, value in enumerate(values)]
        lines += [(RETURN, 0, 0, REFUSE)]
    lines += [(RETURN, 0, 0, REFUSE), (RETURN, 0, 0, ALLOW)]
    return b"".join(struct.pack("=HBBI", *line) for line in lines)
