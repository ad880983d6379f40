# SPDX-License-Identifier: MIT
"""What each client hears of its calls when their host has died: exactly one outcome for each, and a true one.

docs/protocol.md, rule 8: after {goodbye, host_died} a call without an answer never started. So the calls that had begun
are answered first: `crashed` for the one that did it, where that is known, `timeout` if it ran too long, `interrupted`
for the others. A connection
whose output ended in mid-frame, or whose replies the recorder does not tell of, ends without a word: `disconnected`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from gendriverd import etf
from gendriverd.etf import Atom
from gendriverd.launch import Exit, signal_name
from gendriverd.recorder import Death, Record, Request, Sent, State


def ends_whole(output: Sent) -> bool:
    """Whether the client has been sent whole frames only, and all that had left their slots."""
    return output.whole and not output.behind


class Guilt(NamedTuple):
    request: Request
    reason: str  # what its caller is told


def culprit(death: Death | None, end: Exit) -> Guilt | None:
    """The request whose thread took the host down, if its word and the manner of the death agree."""
    if death is None or death.request is None:
        return None
    if death.exit_status is not None:
        agrees = end.code == death.exit_status & 0xFF
    else:  # a sanitizer reports the fault and ends the process in its own way
        agrees = end.signal in (signal_name(death.signal or 0), "SIGABRT", None)
    late = death.hang or death.request.abandoned
    return Guilt(death.request, "timeout" if late else "crashed") if agrees else None


def has_left(request: Request, sent: int) -> bool:
    """Whether its reply is among the first `sent` bytes of its connection's output."""
    return request.told or (request.state is State.DONE and (sent - request.end_at) % 2**32 < 2**31)


def last_words(calls: Iterable[Request], guilt: Guilt | None, sent: int) -> bytes:
    """For one connection, given what the recorder says of its requests; it has been sent so many bytes."""
    newest: dict[int, Request] = {}
    for request in calls:
        if request.call and (request.id not in newest or newest[request.id].number < request.number):
            newest[request.id] = request
    begun = [each for each in newest.values() if each.state is not State.QUEUED and not has_left(each, sent)]
    frames = [etf.frame((Atom("failed"), request.id, Atom(_reason(request, guilt)))) for request in begun]
    return b"".join([*frames, etf.frame((Atom("goodbye"), Atom("host_died")))])


def _reason(request: Request, guilt: Guilt | None) -> str:
    if guilt is not None and guilt.request is request:
        return guilt.reason
    return "timeout" if request.abandoned else "interrupted"


def by_connection(record: Record) -> dict[int, list[Request]]:
    found: dict[int, list[Request]] = {}
    for request in record.requests:
        found.setdefault(request.conn, []).append(request)
    return found
