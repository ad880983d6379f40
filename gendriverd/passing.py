# SPDX-License-Identifier: MIT
"""Descriptors that a peer passes unasked, by a unix socket: the kernel refuses them for us, from Linux 6.16 on.

Else a read that leaves them out closes them, and so does closing a socket that is not read to its end. Who closes a TCP
socket last waits for what it has yet to send, for as long as its maker has set (SO_LINGER).
"""

from __future__ import annotations

import atexit
import os
import signal
import socket
from collections.abc import Iterable
from typing import Protocol

SO_PASSRIGHTS = 83  # the same on x86_64 and aarch64
WAIT = 0.1  # seconds that a close waits at most, where they cannot be refused


class Socket(Protocol):
    """Python's or trio's."""

    def setsockopt(self, level: int, optname: int, value: int, /) -> None: ...


def refuse(sock: Socket) -> bool:
    """Who passes one by this socket, or one that connects to it, gets EPERM from now on. False: the kernel cannot."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_PASSRIGHTS, 0)
    except OSError:
        return False
    return True


def may_come(listening: Iterable[int]) -> bool:
    """Whether some come nevertheless: the kernel cannot refuse them, or has not yet, on a unix socket of these, which
    others have opened, so that somebody may be connected.
    """
    with socket.socket(socket.AF_UNIX) as own:
        return not refuse(own) or any(map(_lets_pass, listening))


def _lets_pass(fd: int) -> bool:
    try:
        with socket.socket(fileno=os.dup(fd)) as sock:
            return bool(sock.getsockopt(socket.SOL_SOCKET, SO_PASSRIGHTS))
    except OSError:  # it is no unix socket
        return False


def limit_waits() -> None:
    """A signal ends a close that waits: the first thread, which calls this, gets one again and again."""
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, WAIT, WAIT)
    atexit.register(signal.setitimer, signal.ITIMER_REAL, 0)  # Python leaves no handler behind
