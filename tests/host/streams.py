# SPDX-License-Identifier: MIT
"""What the tests of parts and notes say to tests/drivers/streams.c, and hear."""

from __future__ import annotations

from typing import Any

from gendriverd.etf import Atom
from host_process import HostProcess, Peer, call

OK = Atom("ok")
RUN, CODES, TAKES, CLIENT, NOTE, NOTES, BAD_PARTS, BAD_NOTES, OWN_WRITER = range(1, 10)
ETYPE, ELIMIT, ENOPARTS, EGONE = -1, -5, -6, -7
ALL = 2**32 - 1
SEGV, HANG, GATE, UNTIL_CANCELLED = (Atom(name) for name in ("segv", "hang", "gate", "until_cancelled"))


def parts(count: int, size: int = 0) -> tuple[Any, ...]:
    return (Atom("parts"), count, size) if size else (Atom("parts"), count)


def replies(term: Any) -> tuple[Any, ...]:
    return (Atom("reply"), term)


def stream(call_id: int, credit: int, *steps: Any, **opts: int) -> tuple[Any, ...]:
    """A call that does these steps, and takes so many parts."""
    return call(call_id, RUN, list(steps), {Atom("parts"): credit, **{Atom(key): value for key, value in opts.items()}})


def credit(call_id: int, more: int) -> tuple[Any, ...]:
    return (Atom("credit"), call_id, more)


def cancel(call_id: int) -> tuple[Any, ...]:
    return (Atom("cancel"), call_id)


def notes(wanted: bool) -> tuple[Any, ...]:
    return (Atom("notes"), wanted)


def part(call_id: int, term: Any) -> tuple[Any, ...]:
    return (Atom("part"), call_id, term)


def reply(call_id: int, term: Any = OK) -> tuple[Any, ...]:
    return (Atom("reply"), call_id, term)


def failed(call_id: int, reason: str) -> tuple[Any, ...]:
    return (Atom("failed"), call_id, Atom(reason))


def note(term: Any) -> tuple[Any, ...]:
    return (Atom("note"), term)


def receive(peer: Peer, count: int) -> list[Any]:
    return [peer.receive() for _ in range(count)]


def synced(peer: Peer) -> list[Any]:
    """What came until the host's loop had read all that we sent."""
    frames = []
    peer.send((Atom("ping"), 2**31 - 1))
    while (frame := peer.receive()) != (Atom("pong"), 2**31 - 1):
        assert frame is not None
        frames.append(frame)
    return frames


def told(process: HostProcess, count: int = 1) -> list[int]:
    """How the first so many runs came to their end; another connection asks."""
    codes = process.connect().call(1, CODES, count)
    assert isinstance(codes, list)
    return codes


def begun(peer: Peer, call_id: int, given: int) -> None:
    """All that was given credit for is there, and no more comes."""
    assert receive(peer, given) == [part(call_id, number) for number in range(given)]
    assert synced(peer) == []
