# SPDX-License-Identifier: MIT
"""What systemd wants to hear (sd_notify) and what it passes on (LISTEN_FDS, WATCHDOG_USEC); silent without systemd."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping

FIRST_FD = 3  # SD_LISTEN_FDS_START


class Notifier:
    """Datagrams to $NOTIFY_SOCKET. Never blocks, never raises: a lost notification is not a reason to stop serving."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._ready = False  # was said, and stopping was not

    def tell(self, *lines: str) -> None:
        if not self._address:
            return
        flags = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        try:
            with socket.socket(socket.AF_UNIX, flags) as out:
                out.sendto("\n".join(lines).encode("utf-8", "backslashreplace"), self._address)
        except OSError:
            pass

    def ready(self, status: str) -> None:
        self._ready = True
        self.tell("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """To be followed by reloaded(). Before ready and while stopping a reload is no news."""
        if self._ready:
            self.tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}", "STATUS=reloading")

    def reloaded(self, status: str) -> None:
        if self._ready:
            self.ready(status)

    def status(self, status: str) -> None:
        self.tell(f"STATUS={status}")

    def stopping(self) -> None:
        self._ready = False
        self.tell("STOPPING=1", "STATUS=stopping")

    def alive(self) -> None:
        self.tell("WATCHDOG=1")


def watchdog_time(environ: Mapping[str, str] = os.environ) -> float | None:
    """Seconds without a sign of life that systemd allows; None: nobody asks for them."""
    pid, usec = environ.get("WATCHDOG_PID"), environ.get("WATCHDOG_USEC", "")
    if not usec.isdecimal() or int(usec) == 0 or (pid and pid != str(os.getpid())):
        return None
    return int(usec) / 1_000_000


def passed_fds(environ: Mapping[str, str] = os.environ) -> list[int]:
    """Descriptors of listening sockets that systemd opened for this process."""
    count = environ.get("LISTEN_FDS", "")
    if environ.get("LISTEN_PID") != str(os.getpid()) or not count.isdecimal():
        return []
    return list(range(FIRST_FD, FIRST_FD + int(count)))


def named_fds(name: str, environ: Mapping[str, str] = os.environ) -> list[int]:
    """Those of them that are called so: FileDescriptorName= of the socket unit."""
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    return [fd for fd, each in zip(passed_fds(environ), names, strict=False) if each == name]
