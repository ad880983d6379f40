# SPDX-License-Identifier: MIT
"""One socket of a relay: what waits to be sent on it, its end behind that, and what it is watched for."""

from __future__ import annotations

import socket
from collections.abc import Callable
from select import EPOLLHUP, EPOLLIN, EPOLLOUT

from gendriverd.tls_front.loop import Loop


class Side:
    """`heard` is told of the events that epoll tells. OSError of a method: the other end is gone."""

    __slots__ = ("_asked_to_end", "_heard", "_loop", "_mask", "ended", "hung_up", "sock", "waiting")

    def __init__(self, loop: Loop, sock: socket.socket, heard: Callable[[Side, int], None]) -> None:
        self.sock = sock
        self.waiting = b""
        self.ended = False  # its sending direction: all is sent, and shut down
        self.hung_up = False  # nothing comes any more, and nothing is taken
        self._loop = loop
        self._heard = heard
        self._asked_to_end = False
        self._mask = EPOLLIN
        loop.add(sock.fileno(), EPOLLIN, self._on_events)

    def send(self, data: bytes) -> None:
        self.waiting = self.waiting + data if self.waiting else data
        self.flush()

    def end(self) -> None:
        """Nothing is sent behind what waits."""
        self._asked_to_end = True
        self.flush()

    def flush(self) -> None:
        try:
            while self.waiting:
                self.waiting = self.waiting[self.sock.send(self.waiting) :]
        except BlockingIOError:
            return
        if self._asked_to_end and not self.ended:
            self.ended = True
            self.sock.shutdown(socket.SHUT_WR)

    def watch(self, *, reads: bool) -> None:
        """For what is wanted now. One that has hung up is told of for ever, so it is watched only where that helps."""
        mask = (EPOLLIN if reads else 0) | (EPOLLOUT if self.waiting else 0)
        if not mask and self.hung_up:
            self._loop.remove(self.sock.fileno())
            self._mask = -1
        elif mask != self._mask:
            if self._mask < 0:
                self._loop.add(self.sock.fileno(), mask, self._on_events)
            else:
                self._loop.change(self.sock.fileno(), mask)
            self._mask = mask

    def close(self) -> None:
        self._loop.close(self.sock)
        self._heard = _nobody  # whom it told had it, too: a circle would keep both until garbage is collected

    def _on_events(self, events: int) -> None:
        if events & EPOLLHUP:
            self.hung_up = True
        self._heard(self, events)


def _nobody(_side: Side, _events: int) -> None:
    """It is closed."""
