# SPDX-License-Identifier: MIT
"""The recorder: memory that a host writes and the daemon reads when the host is dead (host/recorder.h has the layout).

Nothing in it is trusted: it is copied, then checked, and what does not fit makes all of it worthless (`Untrusted`).
Its statistics, and since when its loop is busy, may be asked for at any time before that.
The size is sealed before the host starts, so that no host can shorten it under the daemon's eyes.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import cache

from gendriverd import statistics
from gendriverd.statistics import Statistics

MAGIC, LAYOUT = 0x43524447, 5
SPARE = 576  # slots beyond what may wait or run
NONE = 0xFFFFFFFF
HEADER, CONN, SLOT = 4096, 96, 256
_HEAD = struct.Struct("<IIIIQII")
_KEY_AT = 24
_DEATH_AT = 32
_DEATH = struct.Struct("<IIiiIIQQIIII")
PARAMS = 1 << 20  # bytes behind the slots: the params of the request that did it
_PAGE = 4096  # behind them, from the next one on, are the statistics of each seat
_TRACE_MAX = 32
_LOOP_AT = _DEATH_AT + _DEATH.size + _TRACE_MAX * 8
_LOOP = struct.Struct("<Q")
_USED_AT = _LOOP_AT + _LOOP.size
_USED = struct.Struct("<II")
_COMMANDS_AT = _USED_AT + _USED.size
_COMMANDS = struct.Struct(f"<I{statistics.COMMANDS}i")
_CONN = struct.Struct("<QQ56xI4xI")
_SLOT = struct.Struct("<QQQQQQIIIIII")
_WORD_AT, _PARAMS_AT = 48, 72
_INLINE = 183
_STATE, _SEAT_SHIFT, _TAG_SHIFT = 7, 3, 13
_CALL, _ABANDONED, _TOLD, _PARTS = 1, 2, 4, 8
_WHOLE, _BEHIND, _SENDING, _SENT_SHIFT = 1, 2, 4, 3
_SENDING_WHOLE = 0x80000000
_MASK = (1 << 64) - 1
_MULTIPLIER = 0x9E3779B97F4A7C15


class Untrusted(Exception):
    """The memory is not what a host writes: nothing in it counts."""


class State(IntEnum):
    QUEUED = 1  # never started
    RUNNING = 2
    DONE = 3  # answered; whether its reply has left, end_at tells


@dataclass(frozen=True, slots=True)
class Request:
    """A slot in use. Times are nanoseconds of CLOCK_MONOTONIC, 0: not yet."""

    state: State
    seat: int
    number: int
    conn: int
    id: int
    command: int
    call: bool
    queued_at: int
    started_at: int
    deadline: int
    params_len: int
    params: bytes | None  # None: too long to be kept
    end_at: int  # of a DONE one: the byte of its connection's output at which its reply ends, modulo 2**32
    abandoned: bool = False  # its thread was written off, and runs it yet; the caller is told `timeout`
    told: bool = False  # and that has left
    parts: bool = False  # its caller takes streamed ones


@dataclass(frozen=True, slots=True)
class Sent:
    """How far a connection's output had come."""

    sent: int  # bytes that the kernel has taken
    whole: bool  # they end with the end of a frame
    behind: bool  # more waits in the host, and no slot tells of it


@dataclass(frozen=True, slots=True)
class Death:
    """What the thread wrote that took the host down."""

    hang: bool  # its request ran too long, and it was told to
    signal: int | None
    exit_status: int | None
    code: int  # si_code
    address: int
    pc: int
    thread: int
    trace: tuple[int, ...]  # return addresses, innermost first
    request: Request | None  # what it was running
    kept: int  # bytes of its params
    params: bytes | None = None  # without version byte, if all of them were kept


@dataclass(frozen=True, slots=True)
class Record:
    """All of it, checked."""

    connections: dict[int, Sent]
    requests: list[Request]
    death: Death | None


class Recorder:
    """One host's; `fd` goes to it with the start message. Close it when the host is reaped and read."""

    def __init__(self, queue: int, threads: int, connections: int) -> None:
        self.slots = queue + threads + connections + SPARE
        self.connections = connections
        self.seats = threads
        self._params_at = HEADER + connections * CONN + self.slots * SLOT
        self._seats_at = -(-(self._params_at + PARAMS) // _PAGE) * _PAGE
        self.size = self._seats_at + threads * statistics.SEAT
        self._key = int.from_bytes(os.urandom(4), "little")
        self.fd = os.memfd_create("gendriverd-recorder", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(self.fd, self.size)
            os.pwrite(self.fd, struct.pack("<I", self._key), _KEY_AT)
            fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        except OSError:
            os.close(self.fd)
            raise

    def close(self) -> None:
        """No reader may be at work."""
        os.close(self.fd)
        self.fd = -1

    def read(self) -> Record:
        """What is there now. Raises Untrusted."""
        head = os.pread(self.fd, HEADER, 0)
        if not self._is_open(head):  # the host died before
            return Record({}, [], None)
        slots = dict(self._used_slots(self._used(head)))
        death = _death(head, slots)
        if death is not None and death.request is not None and death.kept == death.request.params_len:
            death = replace(death, params=os.pread(self.fd, death.kept, self._params_at))
        return Record(dict(self._connections()), list(slots.values()), death)

    def statistics(self, fd: int | None = None) -> Statistics:
        """What has run until now; takes a moment where there are many threads and commands. `fd`: a duplicate of ours,
        for a thread, as ours may be closed meanwhile. Raises Untrusted.
        """
        fd = self.fd if fd is None else fd
        head = os.pread(fd, HEADER, 0)
        if not self._is_open(head):
            return Statistics()
        count, *numbers = _COMMANDS.unpack_from(head, _COMMANDS_AT)
        if count > len(numbers):
            raise Untrusted("the number of commands is overwritten")
        return statistics.read(fd, self._seats_at, self.seats, numbers[:count])

    def loop_busy(self) -> float | None:
        """For how many seconds the host's loop has been at work. None: it waits, or there is no sense in its word."""
        since = _LOOP.unpack(os.pread(self.fd, _LOOP.size, _LOOP_AT))[0]
        now = time.monotonic_ns()
        return (now - since) / 1e9 if 0 < since <= now else None

    def _is_open(self, head: bytes) -> bool:
        """False: the host has not come to it yet."""
        said = _HEAD.unpack_from(head)
        if said[0] == 0:
            return False
        if said != (MAGIC, LAYOUT, self.slots, self.connections, self.size, self._key, self.seats):
            raise Untrusted("the head is overwritten")
        return True

    def _connections(self) -> Iterator[tuple[int, Sent]]:
        table = os.pread(self.fd, self.connections * CONN, HEADER)
        for at, number in enumerate(memoryview(table).cast("Q")[:: CONN // 8].tolist()):
            if number:
                yield number, _output(*_CONN.unpack_from(table, at * CONN)[1:])

    def _used(self, head: bytes) -> int:
        """How many slots were ever in use."""
        used, tag = _USED.unpack_from(head, _USED_AT)
        if used > self.slots or tag != _tag(used) ^ self._key:
            raise Untrusted("the number of slots in use is overwritten")
        return int(used)

    def _used_slots(self, used: int) -> Iterator[tuple[int, Request]]:
        """Most are free: of those only the word is looked at, of all at once, as every client waits for this."""
        begin = HEADER + self.connections * CONN
        words = self._words(begin, used) if used else []
        for index in [index for index, word in enumerate(words) if word]:
            slot = os.pread(self.fd, SLOT, begin + index * SLOT)
            yield index, self._request(slot, index, words[index])

    def _words(self, begin: int, used: int) -> list[int]:
        """Of each slot its word without the tag."""
        end = begin + used * SLOT
        with mmap.mmap(self.fd, end, prot=mmap.PROT_READ) as memory, memoryview(memory).cast("I") as table:
            said = table[(begin + _WORD_AT) // 4 : end // 4 : SLOT // 4].tobytes()
        key = struct.pack("<I", self._key << _TAG_SHIFT & 0xFFFFFFFF) * used
        return _plain(said, _tags(self.slots)[: used * 4], key)

    def _request(self, slot: bytes, index: int, word: int) -> Request:
        if word >> _TAG_SHIFT:
            raise Untrusted(f"slot {index} is overwritten")
        number, conn, *times, params_len, _, id_, command, flags, check, end_at = _SLOT.unpack_from(slot)
        if check != self._check(number, conn, command, id_) or not 1 <= word & _STATE <= 3:
            raise Untrusted(f"slot {index} is overwritten")
        params = bytes(slot[_PARAMS_AT + 1 : _PARAMS_AT + 1 + params_len]) if params_len <= _INLINE else None
        seat, state = word >> _SEAT_SHIFT, State(word & _STATE)
        return Request(
            state,
            seat,
            number,
            conn,
            id_,
            command,
            bool(flags & _CALL),
            times[0],
            times[1],
            times[2],
            params_len,
            params,
            end_at if state is State.DONE else 0,
            bool(flags & _ABANDONED),
            bool(flags & _TOLD),
            bool(flags & _PARTS),
        )

    def _check(self, number: int, conn: int, command: int, id_: int) -> int:
        folded = self._key
        for part in (number, conn, command << 32 | id_):
            folded = (folded ^ part) * _MULTIPLIER & _MASK
        return folded >> 32


def _output(word: int, took: int, sending: int) -> Sent:
    """`took`: of the send under way, by the kernel's own word."""
    sent, whole, behind = word >> _SENT_SHIFT, bool(word & _WHOLE), bool(word & _BEHIND)
    if word & _SENDING and took > 0:
        sent, whole = sent + took, took | _SENDING_WHOLE == sending
    return Sent(sent, whole, behind)


def _tag(index: int) -> int:
    """Before the key is added."""
    return (index + 1) * 2654435761 & 0xFFFFFFFF


@cache
def _tags(slots: int) -> bytes:
    return b"".join((_tag(index) << _TAG_SHIFT & 0xFFFFFFFF).to_bytes(4, "little") for index in range(slots))


def _plain(words: bytes, *masks: bytes) -> list[int]:
    plain = int.from_bytes(words, "little")
    for mask in masks:
        plain ^= int.from_bytes(mask, "little")
    return memoryview(plain.to_bytes(len(words), "little")).cast("I").tolist()


def _death(data: bytes, slots: dict[int, Request]) -> Death | None:
    _, kind, number, code, slot, seat, address, pc, thread, depth, kept, _ = _DEATH.unpack_from(data, _DEATH_AT)
    if kind == 0:
        return None
    if kind > 3 or depth > _TRACE_MAX or kept > PARAMS:
        raise Untrusted("the word of the dying thread is overwritten")
    request = slots.get(slot)
    if request is not None:
        runs = request.state is State.RUNNING or request.abandoned
        request = request if runs and seat in (request.seat, NONE) else None
    return Death(
        hang=kind == 3,
        signal=number if kind in (1, 3) else None,
        exit_status=number if kind == 2 else None,
        code=code,
        address=address,
        pc=pc,
        thread=thread,
        trace=struct.unpack_from(f"<{depth}Q", data, _DEATH_AT + _DEATH.size),
        request=request,
        kept=kept,
    )
