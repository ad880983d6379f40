# SPDX-License-Identifier: MIT
"""One connection that many tasks share: calls leave in batches, answers come in any order, all are answered once."""

from __future__ import annotations

import ssl
from collections import deque
from dataclasses import dataclass, field

import trio

from gendriverd.auth import Key
from gendriverd.client import protocol
from gendriverd.client.outcomes import Failed, FailedReason, Refused, Unreachable
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
from gendriverd.client.tls import trust, untunnelled
from gendriverd.client.tls_stream import TlsStream, open_tls
from gendriverd.etf import Term
from gendriverd.passing import refuse
from gendriverd.quantities import Address, address

READ_SIZE = 1 << 18


@dataclass(slots=True, eq=False)
class Pending:
    """A call or ping in flight. `answered` is set with exactly one of term and failed."""

    begins_at: int  # bytes written to the link before its frame
    answered: trio.Event = field(default_factory=trio.Event)
    term: Term = None
    failed: FailedReason | None = None
    cause: Exception | None = None  # what became of the link

    def result(self) -> Term:
        """The driver's term, or raise the service's word."""
        if self.failed is not None:
            raise Failed(self.failed) from self.cause
        return self.term

    def end(self, term: Term, failed: FailedReason | None) -> None:
        """The first word stays."""
        if not self.answered.is_set():
            self.term, self.failed = term, failed
            self.answered.set()


@dataclass(slots=True, eq=False)
class Streaming(Pending):
    """A call whose parts are read one by one."""

    window: int = 1  # no more of them wait here: no more were asked for
    parts: deque[Term] = field(default_factory=deque)
    changed: trio.Event = field(default_factory=trio.Event)

    def take(self, part: Part) -> None:
        """One that is no term we take ends it. ProtocolError: it was not asked for."""
        if len(self.parts) >= self.window:
            raise ProtocolError(f"part {self.window + 1} of a call that asked for {self.window}")
        if part.failed is not None:
            self.end(None, part.failed)
        elif not self.answered.is_set():
            self.parts.append(part.term)
            self.changed.set()

    def end(self, term: Term, failed: FailedReason | None) -> None:
        """As of any call."""
        Pending.end(self, term, failed)
        self.changed.set()


class Link:
    """A connection whose handshake is done; `run` serves it until it ends."""

    def __init__(self, stream: trio.SocketStream | TlsStream, welcome: Welcome, receiver: Receiver) -> None:
        self.welcome = welcome
        self.unsettled = trio.Event()  # another link is wanted; this one may still take requests: it drains
        self.leaving = trio.Event()  # no new requests here: a side has said its last word, or it is over
        self.was_useful = False  # something was answered, or it lasted until it was asked to drain
        self.pending: dict[int, Pending] = {}
        self._stream = stream
        self._receiver = receiver
        self._goodbye: str | None = None
        self._broken: ProtocolError | None = None
        self._ids = 0
        self._streams = 0  # of those pending
        self._out = bytearray()
        self._written = self._handed = 0  # bytes: appended so far; given to the socket
        self._wake = trio.Event()

    def begin(self) -> tuple[int, Pending]:
        """An id that is not in flight, and its place."""
        pending = Pending(self._written)
        return self._place(pending), pending

    def begin_stream(self, window: int) -> tuple[int, Streaming]:
        """The same for a call that takes parts."""
        pending = Streaming(self._written, window=window)
        self._streams += 1
        return self._place(pending), pending

    def _place(self, pending: Pending) -> int:
        while self._ids in self.pending:
            self._ids = (self._ids + 1) & protocol.ID_MAX
        call_id = self._ids
        self._ids = (self._ids + 1) & protocol.ID_MAX
        self.pending[call_id] = pending
        return call_id

    def forget(self, call_id: int) -> None:
        """It was never sent."""
        if isinstance(self.pending.pop(call_id), Streaming):
            self._streams -= 1

    def write(self, frame: bytes) -> None:
        """Leaves with the next send, together with all that waits."""
        self._out += frame
        self._written += len(frame)
        self._wake.set()

    @property
    def unsent(self) -> int:
        """Bytes that wait to be handed to the socket."""
        return self._written - self._handed

    def finish(self) -> None:
        """Nothing more will be asked: half-close when all that was written is out. Answers still come.

        Streams come to their end before: behind a half-close no credit is read.
        """
        self._leave()
        self._wake.set()

    def _leave(self) -> None:
        self.unsettled.set()
        self.leaving.set()

    async def run(self) -> None:
        """Until the end of the connection; every call still in flight is then answered."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._send_all)
                await self._receive_all()
                nursery.cancel_scope.cancel()
        finally:
            self._leave()
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(self._stream)
            for pending in self.pending.values():
                handed = pending.begins_at < self._handed
                if not pending.answered.is_set():
                    pending.cause = self._broken
                pending.end(None, protocol.unanswered(self._goodbye, handed=handed))
            self.pending.clear()

    async def _send_all(self) -> None:
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            batch, self._out = bytes(self._out), bytearray()
            self._handed += len(batch)
            try:
                if batch:
                    await self._stream.send_all(batch)
                if self.leaving.is_set() and not self._out and not self._streams:
                    await self._stream.send_eof()
                    return
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return  # the reader finds the end

    async def _receive_all(self) -> None:
        try:
            data = b""  # first what came along with the welcome
            while True:
                for event in self._receiver.receive(data):
                    self._take(event)
                if not (data := await self._stream.receive_some(READ_SIZE)):
                    return
        except ProtocolError as exc:
            self._broken = exc
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    def _take(self, event: protocol.Event) -> None:
        if type(event) is Answered:  # nearly all are
            self._end(event.id, event.term, event.failed)
            return
        match event:
            case Part(call_id):
                if isinstance(pending := self.pending.get(call_id), Streaming):
                    pending.take(event)
            case Ponged(call_id):
                self._end(call_id, None, None)
            case Goodbye("draining"):
                self._goodbye = "draining"
                self.was_useful = True
                self.unsettled.set()  # it reads on until we half-close
            case Goodbye(reason):
                self._goodbye = reason
                self.finish()

    def _end(self, call_id: int, term: Term, failed: FailedReason | None) -> None:
        """The final frame of an id; of one that is not in flight: ignored."""
        if (pending := self.pending.pop(call_id, None)) is not None:
            self.was_useful = True
            pending.end(term, failed)
            if isinstance(pending, Streaming):
                self._streams -= 1
                self._wake.set()


async def open_link(
    url: str,
    instance: str,
    key: Key | None,
    tls: ssl.SSLContext | None = None,
    max_frame: int = protocol.MAX_FRAME,
) -> Link:
    """Connect and shake hands. Unreachable, Refused; the caller limits the time."""
    receiver = Receiver(max_frame, instance=instance, key=key)
    try:
        stream = await _open_stream(address(untunnelled(url)), trust(url, tls))
    except (OSError, trio.BrokenResourceError) as exc:
        raise Unreachable(f"{url}: {getattr(exc, 'strerror', None) or exc}") from None
    try:
        while True:
            data = await stream.receive_some(READ_SIZE)
            if not data:
                raise Unreachable(f"{url}: the connection ended in the handshake")
            for event in receiver.receive(data):
                match event:
                    case Greeted(_, reply):
                        await stream.send_all(reply)
                    case RefusedBy(reason):
                        raise Refused(instance, reason)
                    case Welcome() as welcome:
                        return Link(stream, welcome, receiver)
    except (trio.BrokenResourceError, ProtocolError) as exc:
        await trio.aclose_forcefully(stream)
        raise Unreachable(f"{url}: {exc}") from None
    except BaseException:
        with trio.CancelScope(shield=True):
            await trio.aclose_forcefully(stream)
        raise


async def _open_stream(where: Address, tls: ssl.SSLContext | None) -> trio.SocketStream | TlsStream:
    """Raises OSError, trio.BrokenResourceError."""
    if where.path:
        stream = await trio.open_unix_socket(where.path)
        refuse(stream.socket)
        return stream
    stream = await trio.open_tcp_stream(where.host, where.port)
    if tls is None:
        return stream
    try:
        return await open_tls(stream, tls, where.host)
    except BaseException:
        with trio.CancelScope(shield=True):
            await trio.aclose_forcefully(stream)
        raise
