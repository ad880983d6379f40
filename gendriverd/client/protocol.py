# SPDX-License-Identifier: MIT
"""One connection's side of docs/protocol.md without I/O: bytes in, events out, and the frames to send.

Whoever owns the socket feeds `receive` with what was read and sends what the frame functions return. The handshake is
part of it: the first event is Greeted (send its `reply`), the next Welcome or RefusedBy, then answers. With a key there
is no Welcome before the daemon has proved that it knows it. Nothing here waits, and nothing knows a socket.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from gendriverd import etf, etf_quick
from gendriverd.auth import Key
from gendriverd.client.introduction import VERSION, Introduction
from gendriverd.client.outcomes import REASONS, ClientError, Failed, FailedReason
from gendriverd.etf import Atom, EtfError, Limits, Term
from gendriverd.etf_guard import check

ID_MAX = (1 << 31) - 1
CONNECT_TIMEOUT = 8.0  # seconds; more than a daemon's handshake_timeout, so that its word is heard
HANDSHAKE_MAX = 64 << 10  # bytes of a greeting or welcome
MAX_FRAME = 65 << 20  # bytes of an answer: the service lets replies be 64 MiB
LENGTH_MAX = (1 << 32) - 1
TERM_BYTES = 8  # of max_frame, for each term that an answer may hold: in Python it takes up to 180
# Of a reply, and terms by max_frame. A longer integer would take too long, a deeper one more stack than Python has; an
# echo of what a host takes by default (256) must fit.
REPLY_LIMITS = Limits(depth=260, bignum=1 << 14)
_HEAD = struct.Struct(">I")
KEY_MAX = (1 << 32) - 1
COMMAND_MAX = (1 << 30) - 1
# Before such a goodbye all that was accepted has been answered; what was not has never begun.
_NOT_BEGUN: dict[str | None, FailedReason] = {
    "host_died": "not_run",
    "stopping": "draining",
    "frame_too_large": "not_run",
    "bad_term": "not_run",
    "compressed": "not_run",
    "trailing_bytes": "not_run",
    "too_deep": "not_run",
    "too_many_terms": "not_run",
    "bignum_too_large": "not_run",
    "bad_envelope": "not_run",
    "duplicate_id": "not_run",
    "slow_frame": "not_run",
}
CREDIT_MAX = (1 << 32) - 1
_ID_OF = re.compile(rb"\x83h\x03w(?:\x05reply|\x04(?P<part>part))(?:a(?P<small>.)|b(?P<large>....))", re.DOTALL)
_CALL, _REPLY = Atom("call"), Atom("reply")
_NOTE = b"\x83h\x02w\x04note"


class ProtocolError(Exception):
    """The peer does not speak this protocol; the connection is of no further use."""


@dataclass(frozen=True, slots=True)
class Greeted:
    """The server has said its greeting; `reply` is to be sent now."""

    about: dict[Any, Any]
    reply: bytes


@dataclass(frozen=True, slots=True)
class Welcome:
    """The instance takes our requests: what it told about itself."""

    instance: str
    generation: int
    threads: int
    commands: dict[str, int]
    in_flight: int  # calls it accepts at once on this connection
    frame: int  # bytes it accepts in a frame
    limits: Limits  # of the terms in it


@dataclass(frozen=True, slots=True)
class RefusedBy:
    """The server refuses, and closes."""

    reason: str


@dataclass(frozen=True, slots=True)
class Answered:
    """A call's final frame: the driver's term, or the service's word in `failed` (an unknown one is `interrupted`)."""

    id: int
    term: Term
    failed: FailedReason | None


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of what a call yields, ahead of its final frame; or it is not a term that Python takes."""

    id: int
    term: Term
    failed: FailedReason | None


@dataclass(frozen=True, slots=True)
class Ponged:
    """Answer to a ping."""

    id: int


@dataclass(frozen=True, slots=True)
class Goodbye:
    """No request will be read any more; but for `draining`, no frame follows."""

    reason: str


Event = Greeted | Welcome | RefusedBy | Answered | Part | Ponged | Goodbye


class Receiver:
    """Bytes to events, of a connection to `instance`; with a `key`, both ends prove that they know it.

    `max_frame`: bytes of an answer; ValueError for none that there can be.
    """

    def __init__(self, max_frame: int = MAX_FRAME, *, instance: str = "", key: Key | None = None) -> None:
        if not 1 <= max_frame <= LENGTH_MAX:
            raise ValueError(f"max_frame is 1 to {LENGTH_MAX} bytes, not {max_frame!r}")
        self._buffer = bytearray()
        self._at = 0  # how much of it was taken
        self._max_frame = max_frame
        self._limits = replace(REPLY_LIMITS, terms=max(etf_quick.SIZE, max_frame // TERM_BYTES))
        self._introduction = Introduction(instance, key)
        self._greeted = False
        self._unproved: Welcome | None = None
        self._welcomed = False

    @property
    def in_frame(self) -> bool:
        """True in the middle of a frame: an end of file now cuts it off."""
        return len(self._buffer) > self._at

    def receive(self, data: bytes) -> Iterator[Event]:
        """The events in data and what came before; those not taken come the next time.

        ProtocolError, AuthFailed: give the connection up. A frame beyond the limit is refused by its first four bytes.
        """
        self._cut()
        self._buffer += data
        while len(self._buffer) - self._at >= _HEAD.size:
            begin = self._at + _HEAD.size
            (size,) = _HEAD.unpack_from(self._buffer, self._at)
            limit, name = (self._max_frame, " (max_frame)") if self._welcomed else (HANDSHAKE_MAX, "")
            if size > limit:
                raise ProtocolError(f"a frame of {size} bytes; at most {limit} are taken{name}")
            if len(self._buffer) < begin + size:
                break
            with memoryview(self._buffer) as view:
                frame = bytes(view[begin if self._welcomed else self._at : begin + size])
            self._at = begin + size
            event = self._event(frame) if self._welcomed else self._handshake(frame)
            if event is not None:
                yield event
        self._cut()

    def _cut(self) -> None:
        """Away with what was taken: of many frames at once, as each time the rest has to move."""
        if self._at:
            del self._buffer[: self._at]
            self._at = 0

    def _event(self, frame: bytes) -> Event | None:
        try:
            term = etf.decode(frame, self._limits)
        except EtfError as exc:
            if frame.startswith(_NOTE):
                return None
            if (head := _ID_OF.match(frame)) is None:
                raise ProtocolError(f"a frame that is no term: {exc}") from None
            call_id = int.from_bytes(head["small"] or head["large"], "big")
            return (Part if head["part"] else Answered)(call_id, None, "undecodable")
        if type(term) is tuple and len(term) == 3 and term[0] == _REPLY and type(term[1]) is int:  # nearly all are
            return Answered(term[1], term[2], None)
        match term:
            case (Atom("failed"), int(call_id), Atom(reason)):
                return Answered(call_id, None, REASONS.get(reason, "interrupted"))
            case (Atom("pong"), int(ping_id)):
                return Ponged(ping_id)
            case (Atom("goodbye"), Atom(reason)):
                return Goodbye(str(reason))
            case (Atom("part"), int(call_id), piece):
                return Part(call_id, piece, None)
            case (Atom("note"), _):
                return None  # nobody asked for it
        raise ProtocolError(f"a frame of no known kind: {term!r:.80}")

    def _handshake(self, frame: bytes) -> Event | None:
        """A frame with its length: proofs cover it."""
        if self._unproved is not None:
            self._introduction.proved(frame)
            self._welcomed = True
            return self._unproved
        try:
            term = etf.decode(frame[_HEAD.size :], REPLY_LIMITS)
        except EtfError as exc:
            raise ProtocolError(f"a frame that is no term: {exc}") from None
        match term:
            case (Atom("gen_driver"), 1, dict(about)) if not self._greeted:
                self._greeted = True
                return Greeted(about, self._introduction.greeted(frame, about))
            case (Atom("welcome"), 1, dict(about)) if self._greeted:
                return self._welcome(frame, _welcome(about))
            case (Atom("refused"), Atom(reason)):
                return RefusedBy(str(reason))
            case (Atom("gen_driver"), int(version), *_):
                raise ProtocolError(f"the daemon speaks protocol version {version}, this client {VERSION}")
        raise ProtocolError(f"no gendriverd: it said {term!r:.80}")

    def _welcome(self, frame: bytes, welcome: Welcome) -> Welcome | None:
        if self._introduction.awaits_proof:
            self._introduction.welcomed(frame)
            self._unproved = welcome
            return None
        self._welcomed = True
        return welcome


def _welcome(about: dict[Any, Any]) -> Welcome:
    try:
        limits = about[Atom("limits")]
        return Welcome(
            instance=about[Atom("instance")].decode(),
            generation=int(about[Atom("generation")]),
            threads=int(about[Atom("threads")]),
            commands={name.decode(): int(cmd) for name, cmd in about[Atom("commands")].items()},
            in_flight=int(limits[Atom("in_flight")]),
            frame=int(limits[Atom("frame")]),
            limits=Limits(
                **{
                    name: int(limits[Atom(name)])
                    for name in ("depth", "terms", "bignum")
                    if Atom(name) in limits  # or the usual ones
                }
            ),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise ProtocolError(f"a welcome that lacks what it must say: {exc!r}") from None


# --- frames to send ----------------------------------------------------------


def options(timeout: float | None, key: int | None, trace: bytes | None, parts: int | None = None) -> dict[Term, Term]:
    """A request's options; timeout in seconds is the time left. Failed('bad_request'): a key out of range.

    `parts`: it takes streamed ones, and so many at first.
    """
    opts: dict[Term, Term] = {}
    if timeout is not None and timeout != math.inf:
        opts[Atom("timeout")] = int(min(max(0.0, timeout * 1000), 0xFFFFFFFF))
    if key is not None:
        if not 0 <= key <= KEY_MAX:
            raise Failed("bad_request")
        opts[Atom("key")] = key
    if trace is not None:
        opts[Atom("trace")] = trace
    if parts is not None:
        opts[Atom("parts")] = parts
    return opts


def call(call_id: int, cmd: int, params: Term, opts: dict[Term, Term]) -> bytes:
    """{call, Id, Cmd, Params [, Opts]}"""
    message: tuple[Term, ...] = (_CALL, call_id, cmd, params)
    return etf.frame((*message, opts) if opts else message)


def cast(cmd: int, params: Term, opts: dict[Term, Term]) -> bytes:
    """{cast, Cmd, Params [, Opts]}"""
    message: tuple[Term, ...] = (Atom("cast"), cmd, params)
    return etf.frame((*message, opts) if opts else message)


def cancel(call_id: int) -> bytes:
    """{cancel, Id}"""
    return etf.frame((Atom("cancel"), call_id))


def credit(call_id: int, more: int) -> bytes:
    """{credit, Id, N}"""
    return etf.frame((Atom("credit"), call_id, more))


def ping(ping_id: int) -> bytes:
    """{ping, Id}"""
    return etf.frame((Atom("ping"), ping_id))


def fitting(frame: bytes, welcome: Welcome) -> bytes:
    """The frame, if the host takes it: a bad one would end the connection, and everybody's calls with it.

    ClientError: too large. EtfError: its term is beyond the host's limits.
    """
    size, limits = len(frame) - _HEAD.size, welcome.limits
    if size > welcome.frame:
        raise ClientError(f"a request of {size} bytes; the daemon takes {welcome.frame}")
    if size > min(2 * limits.depth, limits.terms, limits.bignum):  # a smaller one cannot exceed any: no need to look
        check(frame[_HEAD.size :], limits)
    return frame


def unanswered(goodbye: str | None, *, handed: bool) -> FailedReason:
    """What a call without an answer is told when its connection ends (docs/protocol.md, rules 3, 5 and 8).

    `goodbye` is the last one's reason, `handed` whether the call's frame was handed to the socket.
    """
    return _NOT_BEGUN.get(goodbye) or ("disconnected" if handed else "unavailable")
