# SPDX-License-Identifier: MIT
"""A blocking connection to one instance, as the plain face uses it: frames out, the events of one request in."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections import deque

from gendriverd.auth import Key
from gendriverd.client import protocol
from gendriverd.client.outcomes import FailedReason, Refused, Unreachable
from gendriverd.client.protocol import (
    Answered,
    Goodbye,
    Greeted,
    Part,
    Ponged,
    ProtocolError,
    Receiver,
    RefusedBy,
    Welcome,
)
from gendriverd.client.tls import TlsSocket, trust, untunnelled
from gendriverd.passing import refuse
from gendriverd.quantities import address

HOST_WORD = 0.1  # seconds waited beyond a deadline for the host's word
READ_SIZE = 1 << 18
LOOKS = 2  # reads between two requests: who sends without an end holds nobody up


class EndedError(Exception):
    """The connection has ended; `reason` is what an unanswered call is told."""

    def __init__(self, reason: FailedReason) -> None:
        super().__init__(reason)
        self.reason: FailedReason = reason


class StuckError(Exception):
    """The peer did not take a frame in time; a part of it may be out, so the link is of no further use."""


class BlockingLink:
    """A socket whose handshake is done. EndedError, OSError, ProtocolError: it is of no further use."""

    def __init__(
        self,
        url: str,
        instance: str,
        timeout: float,
        key: Key | None,
        tls: ssl.SSLContext | None = None,
        max_frame: int = protocol.MAX_FRAME,
    ) -> None:
        self._receiver = Receiver(max_frame, instance=instance, key=key)
        self._events: deque[protocol.Event] = deque()
        self._goodbye: str | None = None
        self._ids = 0
        self._abandoned: set[int] = set()  # ids that timed out: taken until their final frame
        self.socket = _open_socket(url, timeout, trust(url, tls))
        try:
            self.welcome = self._shake_hands(instance, time.monotonic() + timeout)
        except EndedError:
            self.socket.close()
            raise Unreachable(f"{url}: the connection ended in the handshake") from None
        except (OSError, ProtocolError, StuckError) as exc:
            self.socket.close()
            raise Unreachable(f"{url}: {exc}") from None
        except BaseException:
            self.socket.close()
            raise

    def _shake_hands(self, instance: str, until: float) -> Welcome:
        while True:
            match self._next_event(until):
                case Greeted(_, reply):
                    self.send(reply, until)
                case Welcome() as welcome:
                    return welcome
                case RefusedBy(reason):
                    raise Refused(instance, reason)

    def close(self) -> None:
        """No more of it."""
        self.socket.close()

    def next_id(self) -> int:
        while self._ids in self._abandoned:
            self._ids = (self._ids + 1) & protocol.ID_MAX
        taken = self._ids
        self._ids = (self._ids + 1) & protocol.ID_MAX
        return taken

    def send(self, frame: bytes, until: float | None) -> None:
        try:
            self.socket.settimeout(_left(until))
            self.socket.sendall(frame)
        except TimeoutError as exc:
            if exc.errno is not None:  # the kernel's: it has given the connection up
                raise
            raise StuckError(str(exc)) from None

    def forget(self, call_id: int) -> None:
        self._abandoned.add(call_id)
        try:
            self.send(protocol.cancel(call_id), time.monotonic() + HOST_WORD)
        except (OSError, StuckError):
            self._goodbye = self._goodbye or "lost"  # the next request connects anew

    def leaving(self) -> bool:
        """The other side has said goodbye, or is gone: no new request here. Of the rest nobody waits for anything."""
        try:
            for _ in range(LOOKS):
                self._drop_events()
                self.socket.settimeout(0)
                if not (data := self.socket.recv(READ_SIZE)):
                    return True
                self._take(data)
        except BlockingIOError:
            pass
        except (OSError, ProtocolError):
            return True
        self._drop_events()
        return self._goodbye is not None

    def _drop_events(self) -> None:
        """What came between two requests: at most the last words on those that were given up."""
        while self._events:
            self._settle(self._events.popleft())

    def _settle(self, event: protocol.Event) -> None:
        if isinstance(event, Answered | Ponged):
            self._abandoned.discard(event.id)

    def wait_for(self, wanted: int, until: float | None) -> Answered:
        while True:
            match self._next_event(until):
                case Answered(id=got) as answer if got == wanted:
                    return answer
                case Ponged(got) if got == wanted:
                    return Answered(got, None, None)
                case Goodbye("draining"):
                    with contextlib.suppress(OSError):
                        self.socket.shutdown(socket.SHUT_WR)  # the answer still comes; the next request connects anew
                case event:
                    self._settle(event)

    def next_of(self, wanted: int, until: float | None) -> Part | Answered:
        """The next part of this call, or its answer."""
        while True:
            match self._next_event(until):
                case (Part(id=got) | Answered(id=got)) as event if got == wanted:
                    return event
                case _:
                    pass  # a stream half-closes when it is through, not when its host drains

    def _next_event(self, until: float | None) -> protocol.Event:
        while not self._events:
            self.socket.settimeout(_left(until))
            data = self.socket.recv(READ_SIZE)
            if not data:
                raise EndedError(protocol.unanswered(self._goodbye, handed=True))
            self._take(data)
        return self._events.popleft()

    def _take(self, data: bytes) -> None:
        for event in self._receiver.receive(data):
            if isinstance(event, Goodbye):
                self._goodbye = event.reason
            self._events.append(event)


def _left(until: float | None) -> float | None:
    if until is None:
        return None
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    return left


def _open_socket(url: str, timeout: float, tls: ssl.SSLContext | None) -> socket.socket | TlsSocket:
    where = address(untunnelled(url))
    try:
        if not where.path:
            sock = socket.create_connection((where.host, where.port), timeout)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return sock if tls is None else _shaken(sock, tls, where.host)
        sock = socket.socket(socket.AF_UNIX)
        refuse(sock)
        try:
            sock.settimeout(timeout)
            sock.connect(where.path)
        except OSError:
            sock.close()
            raise
        return sock
    except OSError as exc:
        raise Unreachable(f"{url}: {exc.strerror or exc}") from None


def _shaken(sock: socket.socket, tls: ssl.SSLContext, host: str) -> TlsSocket:
    """Raises OSError."""
    try:
        return TlsSocket(sock, tls, host)
    except BaseException:
        sock.close()
        raise
