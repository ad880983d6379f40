# SPDX-License-Identifier: MIT
"""The front's end of its channel: the daemon's messages in, the front's out, some with a socket."""

from __future__ import annotations

import array
import contextlib
import socket
import sys
from collections import deque
from collections.abc import Callable
from select import EPOLLHUP, EPOLLIN, EPOLLOUT
from typing import Any

from gendriverd import etf
from gendriverd.etf import Term
from gendriverd.tls_front.loop import Loop

MESSAGE_MAX = 65536
DESCRIPTORS_MAX = 253  # of one message, as the kernel has it


class Mouth:
    """`heard` is told each message with its descriptors; None: the daemon is gone, or done with us."""

    def __init__(
        self, loop: Loop, channel: socket.socket, heard: Callable[[tuple[Any, ...] | None, list[int]], None]
    ) -> None:
        self._loop = loop
        self._channel = channel
        self._heard = heard
        self._waiting: deque[tuple[bytes, socket.socket | None]] = deque()
        channel.setblocking(False)
        loop.add(channel.fileno(), EPOLLIN, self._on_events)

    def say(self, *message: Term, passed: socket.socket | None = None) -> None:
        """Now, or when there is room. `passed` is closed here when it has left."""
        self._waiting.append((etf.encode(message), passed))
        if len(self._waiting) == 1:
            self._flush()

    def tell(self, *news: Term) -> None:
        """The same for what may be lost where there is no room."""
        if not self._waiting:
            with contextlib.suppress(OSError):
                self._channel.send(etf.encode(news))

    def _on_events(self, events: int) -> None:
        if events & EPOLLOUT:
            self._flush()
        if events & (EPOLLIN | EPOLLHUP):
            self._hear()

    def _hear(self) -> None:
        try:
            message, fds = receive(self._channel)
        except BlockingIOError:
            return
        if message is None:
            self._loop.remove(self._channel.fileno())
        self._heard(message, fds)

    def _flush(self) -> None:
        try:
            while self._waiting:
                data, passed = self._waiting[0]
                self._channel.sendmsg([data], [] if passed is None else _right(passed))
                self._waiting.popleft()
                if passed is not None:
                    passed.close()
        except BlockingIOError:
            self._loop.change(self._channel.fileno(), EPOLLIN | EPOLLOUT)
            return
        except OSError:  # the daemon is gone: that is heard, too
            self._waiting.clear()
        self._loop.change(self._channel.fileno(), EPOLLIN)


def receive(channel: socket.socket) -> tuple[tuple[Any, ...] | None, list[int]]:
    """A message; None: there will be none. Raises BlockingIOError; SystemExit where what is passed has no room."""
    try:
        data, fds, flags, _ = socket.recv_fds(channel, MESSAGE_MAX, DESCRIPTORS_MAX)
    except ConnectionResetError:
        return None, []
    if flags & socket.MSG_CTRUNC:
        sys.exit("no descriptor is left for what the daemon passes")
    message = etf.decode(data) if data else None
    return (message if isinstance(message, tuple) else None), fds


def _right(passed: socket.socket) -> list[tuple[int, int, array.array[int]]]:
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [passed.fileno()]))]
