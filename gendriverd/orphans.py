# SPDX-License-Identifier: MIT
"""Processes that hosts left behind: the daemon inherits them, and ends them when their host is dead.

What is in a host's process group is killed when the host is reaped (launch.py); this is for what has left the group, as
a helper that daemonises does. The daemon is a subreaper (prctl(2), PR_SET_CHILD_SUBREAPER), so that a process whose
parent has died becomes its child. Whose it was, its environment says; one that does not say is taken for left behind.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import trio

from gendriverd.launch import NUMBER, living
from gendriverd.log import Log

PR_SET_CHILD_SUBREAPER = 36
PAUSE, AGAIN = 0.05, 1.0  # seconds
ENVIRON_MAX = 8 << 20  # bytes: the kernel starts no program with more, but a process may say that its own is larger
GONE = (FileNotFoundError, ProcessLookupError)


def inherit() -> bool:
    """From now on orphans come to this process. False: the kernel does not do that."""
    libc = ctypes.CDLL(None, use_errno=True)
    return bool(libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)


async def sweep_forever(signals: AsyncIterator[int], log: Log) -> None:
    """After a SIGCHLD: what died is reaped, or it would fill the process table. The clients of a host come first."""
    async for _ in signals:
        await trio.sleep(PAUSE)
        while not _can_sweep(log):  # noqa: ASYNC110 (nobody tells when a descriptor is free)
            await trio.sleep(AGAIN)


def _can_sweep(log: Log) -> bool:
    """False: there is no descriptor left to look with, and what cannot be looked at is not to be killed."""
    try:
        sweep(log)
    except OSError:
        return False
    return True


def sweep(log: Log) -> None:
    """Reap orphans that are dead, kill those whose host is. Does not wait: their death is another SIGCHLD.

    Raises OSError.
    """
    for pid in _children():
        if pid in living or _reaped(pid):
            continue
        if _whose(pid) not in living.values():
            log.info("orphan_killed", orphan=pid, program=_program(pid))
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)  # our child and not reaped: the number is still its own


def _children() -> Iterator[int]:
    """Of all our threads. Empty where the kernel was built without CONFIG_PROC_CHILDREN."""
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(*GONE):
            yield from map(int, (task / "children").read_text().split())


def _reaped(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True


def _whose(pid: int) -> str | None:
    """The number of the host that it comes from. One that has forked and run no other program is as little to be looked
    into as its host, but still of its session.
    """
    try:
        environment = _environment(pid)
    except (PermissionError, *GONE):
        with contextlib.suppress(OSError):
            return living.get(os.getsid(pid))
        return None
    for line in environment.split(b"\0"):
        key, _, value = line.partition(b"=")
        if key == NUMBER.encode():
            return value.decode("ascii", "replace")
    return None


def _environment(pid: int) -> bytes:
    with Path(f"/proc/{pid}/environ").open("rb") as file:
        return file.read(ENVIRON_MAX)


def _program(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text(errors="backslashreplace").strip()
    return "?"
