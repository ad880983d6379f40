# SPDX-License-Identifier: MIT
"""One thread, one epoll: which descriptor wants what, who hears of it, and what has until when.

trio would do; a relay's turn is so short that its bookkeeping would be most of it.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")
Handler = Callable[[int], None]  # of the events that epoll tells


class Loop:
    def __init__(self) -> None:
        self.ended = False
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}
        self._closing: list[socket.socket] = []

    def run(self, expire: Callable[[float], float | None]) -> None:
        """Until `ended`. `expire` is told the time, and says how long from then something else will be due."""
        while not self.ended:
            self.turn(expire(time.monotonic()))

    def turn(self, wait: float | None) -> bool:
        """Tell what has happened. False: nothing has, within `wait` seconds."""
        self._close()
        happened = self._epoll.poll(wait)
        for fd, events in happened:
            if (handler := self._handlers.get(fd)) is not None:
                handler(events)
        self._close()
        return bool(happened)

    def add(self, fd: int, mask: int, handler: Handler) -> None:
        self._handlers[fd] = handler
        self._epoll.register(fd, mask)

    def change(self, fd: int, mask: int) -> None:
        self._epoll.modify(fd, mask)

    def remove(self, fd: int) -> None:
        if self._handlers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def close(self, sock: socket.socket) -> None:
        """In a moment: until then its number is nobody else's, of whom events may be told already."""
        self.remove(sock.fileno())
        self._closing.append(sock)

    def _close(self) -> None:
        for sock in self._closing:
            sock.close()
        self._closing.clear()


class Deadlines(Generic[T]):
    """Whose time is up. All are given the same time, so that who came first is due first."""

    def __init__(self, seconds: float, due: Callable[[T], None]) -> None:
        self.seconds = seconds
        self._due = due
        self._until: dict[T, float] = {}

    def __len__(self) -> int:
        return len(self._until)

    def __iter__(self) -> Iterator[T]:
        """Who has had most of its time comes first."""
        return iter(self._until)

    def start(self, who: T) -> None:
        """Its time begins now, unless it has begun."""
        self._until.setdefault(who, time.monotonic() + self.seconds)

    def stop(self, who: T) -> None:
        self._until.pop(who, None)

    def pop_first(self) -> T:
        """The one that has had most of its time."""
        first = next(iter(self._until))
        del self._until[first]
        return first

    def expire(self, now: float) -> float | None:
        """Tell of those that are due; seconds until the next one is, None: nobody waits."""
        while self._until:
            left = next(iter(self._until.values())) - now
            if left > 0:
                return left
            self._due(self.pop_first())
        return None
