# SPDX-License-Identifier: MIT
"""What the front gives up before it hears a stranger: files, sockets of its own making, its siblings, new processes.

Landlock, where the kernel has it, leaves it no file to open (but the certificate that it is given, which has no place
in a file system), no TCP address to bind or to connect to, and no process outside to trace or to signal: so it cannot
read the daemon's memory, which is of the same user. A seccomp filter (system_calls.py) leaves it no socket of its own.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import struct
import sys
from typing import NamedTuple

from gendriverd.tls_front.system_calls import forbid_others

PR_SET_DUMPABLE, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 4, 24, 38
CAPABILITIES = 64  # the kernel has fewer
OWN_USER = 0x77FFFFFF  # of the range of sandbox.py, which gives it to no instance
LANDLOCK_CREATE_RULESET, LANDLOCK_RESTRICT_SELF = 444, 446  # the same number on every architecture
LANDLOCK_CREATE_RULESET_VERSION = 1
# By version of Landlock: how many rights on files there are; then what else of TCP and beyond its domain.
FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 5: 16}
BIND_AND_CONNECT = 0b11  # version 4
ABSTRACT_SOCKETS_AND_SIGNALS = 0b11  # version 6


class Confined(NamedTuple):
    """What holds us: the version of Landlock, 0 where the kernel has none; whether system calls are filtered."""

    landlock: int
    seccomp: bool


def confine() -> Confined:
    """For ever. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() == 0:
        _be_nobody(libc)
    _must(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    _must(libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0))
    for limit in (resource.RLIMIT_CORE, resource.RLIMIT_NPROC, resource.RLIMIT_FSIZE):
        with contextlib.suppress(OSError):  # a unit of systemd may forbid it
            resource.setrlimit(limit, (0, 0))
    return Confined(_landlock(libc), forbid_others(libc))


def _be_nobody(libc: ctypes.CDLL) -> None:
    """A user that owns nothing, without capabilities: those that there are go with root."""
    for capability in range(CAPABILITIES):
        libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    os.setgroups([])
    os.setresgid(OWN_USER, OWN_USER, OWN_USER)
    os.setresuid(OWN_USER, OWN_USER, OWN_USER)


def allow_descriptors(count: int) -> int:
    """As many as may be, up to `count`; how many there are."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
    if soft != resource.RLIM_INFINITY and wanted > soft:
        with contextlib.suppress(OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft


def _landlock(libc: ctypes.CDLL) -> int:
    version = libc.syscall(LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), LANDLOCK_CREATE_RULESET_VERSION)
    if version < 1:
        return 0
    rules = ruleset(version)
    fd = libc.syscall(LANDLOCK_CREATE_RULESET, rules, ctypes.c_size_t(len(rules)), 0)
    _must(fd)
    try:
        _must(libc.syscall(LANDLOCK_RESTRICT_SELF, fd, 0))
    finally:
        os.close(fd)
    return int(version)


def ruleset(version: int) -> bytes:
    """struct landlock_ruleset_attr: what is forbidden, as no rule allows any of it, in that version's length."""
    rights = max(count for since, count in FILE_RIGHTS.items() if since <= version)
    words = [(1 << rights) - 1]
    if version >= 4:
        words.append(BIND_AND_CONNECT)
    if version >= 6:
        words.append(ABSTRACT_SOCKETS_AND_SIGNALS)
    return struct.pack(f"={len(words)}Q", *words)


def _must(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
