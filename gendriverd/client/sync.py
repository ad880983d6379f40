# SPDX-License-Identifier: MIT
"""The plain blocking face: one socket, one request at a time, safe to share between threads."""

from __future__ import annotations

import contextlib
import math
import socket
import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from gendriverd.auth import Key
from gendriverd.client import protocol
from gendriverd.client.commands import command_number
from gendriverd.client.outcomes import CallTimeout, ClientError, Failed, FailedReason, Refused, Unreachable
from gendriverd.client.protocol import (
    Answered,
    Goodbye,
    Greeted,
    Ponged,
    ProtocolError,
    Receiver,
    RefusedBy,
    Welcome,
)
from gendriverd.etf import EtfError, Term
from gendriverd.quantities import address

HOST_WORD = 0.1  # seconds waited beyond a deadline for the host's word
READ_SIZE = 1 << 18


class Client:
    """A connection to one instance; `connect` makes it. After its end the next request connects anew."""

    def __init__(
        self,
        url: str,
        instance: str,
        *,
        connect_timeout: float = protocol.CONNECT_TIMEOUT,
        key: tuple[str, bytes] | None = None,
    ) -> None:
        self.url = url
        self.instance = instance
        self.connect_timeout = connect_timeout
        self._key = None if key is None else Key(*key)
        self._lock = threading.Lock()  # guards everything below
        self._link: _Link | None = _Link(url, instance, connect_timeout, self._key)

    @property
    def welcome(self) -> Welcome:
        """What the instance told about itself on the connection last made."""
        with self._lock:
            return self._open_link().welcome

    def call(
        self,
        cmd: int | str,
        params: Term = None,
        *,
        timeout: float | None = None,
        key: int | None = None,
        trace: bytes | None = None,
    ) -> Term:
        """The driver's term. Else Failed, CallTimeout, UnknownCommand; when connecting, Unreachable or Refused.

        params None means that none are sent: the driver sees [] (undefined is sent as Atom("undefined")). timeout in
        seconds, for ever when None; key: requests with one key run in order on one worker. EtfError and ClientError:
        params that are no term, or that the host would not take; nothing was sent.
        """
        sent = [] if params is None else params
        time_left = TimeLeft(timeout)
        with self._alone(time_left):
            link = self._open_link(time_left)
            number = command_number(cmd, link.welcome)
            call_id = link.next_id()
            frame = protocol.call(call_id, number, sent, protocol.options(time_left.seconds(), key, trace))
            return self._exchange(link, protocol.fitting(frame, link.welcome), call_id, time_left)

    def cast(self, cmd: int | str, params: Term = None, *, key: int | None = None, trace: bytes | None = None) -> None:
        """Hand the request to the socket; nothing is heard of it. Failed: it did not take it."""
        sent = [] if params is None else params
        with self._lock:
            link = self._open_link()
            frame = protocol.cast(command_number(cmd, link.welcome), sent, protocol.options(None, key, trace))
            try:
                link.send(protocol.fitting(frame, link.welcome), time.monotonic() + self.connect_timeout)
            except (OSError, _StuckError):
                self._drop()
                raise Failed("disconnected") from None
            except (ClientError, EtfError):  # nothing was sent
                raise
            except BaseException:  # a Ctrl-C: perhaps in the middle of a frame
                self._drop()
                raise

    def ping(self, *, timeout: float = 5.0) -> float:
        """Seconds until the host's loop answered."""
        time_left = TimeLeft(timeout)
        with self._alone(time_left):
            link = self._open_link(time_left)
            began = time.monotonic()
            ping_id = link.next_id()
            self._exchange(link, protocol.ping(ping_id), ping_id, time_left)
            return time.monotonic() - began

    def close(self) -> None:
        """Idempotent; a later request connects anew. A request under way in another thread fails as `disconnected`."""
        link = self._link
        if link is not None:
            with contextlib.suppress(OSError):
                link.socket.shutdown(socket.SHUT_RDWR)
        with self._lock:
            self._drop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextlib.contextmanager
    def _alone(self, time_left: TimeLeft) -> Iterator[None]:
        """Other threads' requests come first, and their time is this one's too."""
        left = time_left.seconds()
        if not self._lock.acquire(timeout=-1 if left is None else left + HOST_WORD):
            raise CallTimeout(f"another thread's request took the {time_left.timeout:g} s")
        try:
            yield
        finally:
            self._lock.release()

    def _open_link(self, time_left: TimeLeft | None = None) -> _Link:
        if self._link is None or self._link.leaving():
            self._drop()
            left = time_left.seconds() if time_left is not None else None
            limit = self.connect_timeout if left is None else min(self.connect_timeout, left + HOST_WORD)
            self._link = _Link(self.url, self.instance, limit, self._key)
        return self._link

    def _forget(self, link: _Link, call_id: int) -> None:
        try:
            link.forget(call_id)
        except BaseException:
            self._drop()
            raise

    def _drop(self) -> None:
        if self._link is not None:
            self._link.socket.close()
        self._link = None

    def _exchange(self, link: _Link, frame: bytes, wanted: int, time_left: TimeLeft) -> Term:
        timeout, until = time_left.timeout, time_left.until
        try:
            link.send(frame, until)
            answer = link.wait_for(wanted, until)
        except _StuckError:
            self._drop()
            raise CallTimeout(f"the request was not taken within {timeout:g} s") from None
        except TimeoutError as exc:
            if exc.errno is not None:  # the kernel's: it has given the connection up
                self._drop()
                raise Failed("disconnected") from None
            self._forget(link, wanted)
            raise CallTimeout(f"no answer within {timeout:g} s") from None
        except (OSError, ProtocolError):
            self._drop()
            raise Failed("disconnected") from None
        except _EndedError as exc:
            self._drop()
            raise Failed(exc.reason) from None
        except BaseException:  # a Ctrl-C: perhaps in the middle of a frame
            self._drop()
            raise
        if answer.failed is not None:
            raise Failed(answer.failed)
        return answer.term


class TimeLeft:
    """A request's: `until` is when its caller stops to wait, a little after its time, for the host's word."""

    def __init__(self, timeout: float | None) -> None:
        self.timeout = None if timeout is None or timeout == math.inf else timeout
        self.until = None if self.timeout is None else time.monotonic() + self.timeout + HOST_WORD

    def seconds(self) -> float | None:
        """At least 0; None: for ever."""
        return None if self.until is None else max(0.0, self.until - HOST_WORD - time.monotonic())


def connect(
    url: str,
    instance: str,
    *,
    connect_timeout: float = protocol.CONNECT_TIMEOUT,
    key: tuple[str, bytes] | None = None,
) -> Client:
    """Connect and shake hands. Unreachable or Refused when that fails; ValueError for a malformed URL.

    `key`: name and secret that the daemon knows too; both ends prove it, on every connection. ValueError: no key.
    """
    return Client(url, instance, connect_timeout=connect_timeout, key=key)


class _EndedError(Exception):
    def __init__(self, reason: FailedReason) -> None:
        super().__init__(reason)
        self.reason: FailedReason = reason


class _StuckError(Exception):
    """The peer did not take a frame in time; a part of it may be out, so the link is of no further use."""


class _Link:
    """A socket whose handshake is done."""

    def __init__(self, url: str, instance: str, timeout: float, key: Key | None) -> None:
        self._receiver = Receiver(instance=instance, key=key)
        self._events: list[protocol.Event] = []
        self._goodbye: str | None = None
        self._ids = 0
        self._abandoned: set[int] = set()  # ids that timed out: taken until their final frame
        self.socket = _open_socket(url, timeout)
        try:
            self.welcome = self._shake_hands(instance, time.monotonic() + timeout)
        except _EndedError:
            self.socket.close()
            raise Unreachable(f"{url}: the connection ended in the handshake") from None
        except (OSError, ProtocolError, _StuckError) as exc:
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
            raise _StuckError(str(exc)) from None

    def forget(self, call_id: int) -> None:
        self._abandoned.add(call_id)
        try:
            self.send(protocol.cancel(call_id), time.monotonic() + HOST_WORD)
        except (OSError, _StuckError):
            self._goodbye = self._goodbye or "lost"  # the next request connects anew

    def leaving(self) -> bool:
        """The other side has said goodbye, or is gone: no new request here."""
        self.socket.settimeout(0)
        try:
            while data := self.socket.recv(READ_SIZE):
                self._take(data)
            return True
        except BlockingIOError:
            return self._goodbye is not None
        except (OSError, ProtocolError):
            return True

    def wait_for(self, wanted: int, until: float | None) -> Answered:
        while True:
            match self._next_event(until):
                case Answered(id=got) as answer:
                    if got == wanted:
                        return answer
                    self._abandoned.discard(got)
                case Ponged(got) if got == wanted:
                    return Answered(got, None, None)
                case Ponged(got):
                    self._abandoned.discard(got)
                case Goodbye("draining"):
                    with contextlib.suppress(OSError):
                        self.socket.shutdown(socket.SHUT_WR)  # the answer still comes; the next request connects anew
                case _:
                    pass

    def _next_event(self, until: float | None) -> protocol.Event:
        while not self._events:
            self.socket.settimeout(_left(until))
            data = self.socket.recv(READ_SIZE)
            if not data:
                raise _EndedError(protocol.unanswered(self._goodbye, handed=True))
            self._take(data)
        return self._events.pop(0)

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


def _open_socket(url: str, timeout: float) -> socket.socket:
    where = address(url)
    try:
        if not where.path:
            sock = socket.create_connection((where.host, where.port), timeout)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return sock
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.settimeout(timeout)
            sock.connect(where.path)
        except OSError:
            sock.close()
            raise
        return sock
    except OSError as exc:
        raise Unreachable(f"{url}: {exc.strerror or exc}") from None
