# SPDX-License-Identifier: MIT
"""What each client hears of its calls when their host has died: exactly one outcome for each, and a true one.

docs/protocol.md, rule 8: after {goodbye, host_died} a call without an answer never started. So the calls that had begun
are answered first: `crashed` for the one that did it, where that is known, `timeout` if it ran too long, `interrupted`
for the others. A connection
whose output ended in mid-frame, or whose replies the recorder does not tell of, ends without a word: `disconnected`.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable
from typing import NamedTuple

from gendriverd import etf
from gendriverd.etf import Atom
from gendriverd.launch import Exit, signal_name
from gendriverd.recorder import Death, Record, Request, Sent, State

UNIX_WHOLE = 32 * 1024  # bytes: a send of at most so many on a unix socket is done wholly or not at all
# struct tcp_info of Linux 4.19 and later: tcpi_notsent_bytes, tcpi_bytes_sent, tcpi_bytes_retrans.
_TCP_INFO = 256
_NOTSENT_AT, _BYTES_SENT_AT = 144, 200


def kernel_took(client: socket.socket) -> int | None:
    """Bytes that this end of a TCP connection has given to the kernel so far. None: the socket does not tell."""
    if client.family not in (socket.AF_INET, socket.AF_INET6):
        return None
    try:
        info = client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO)
    except OSError:
        return None
    if len(info) < _BYTES_SENT_AT + 16:
        return None
    sent, retransmitted = struct.unpack_from("=QQ", info, _BYTES_SENT_AT)
    unsent: int = struct.unpack_from("=I", info, _NOTSENT_AT)[0]
    return int(sent) - int(retransmitted) + unsent


def ends_whole(output: Sent, took: int | None) -> bool:
    """Whether the client has been sent whole frames only. `took`: bytes, counted from the hand-over; None: unknown."""
    if output.behind:
        return False
    if took is None:
        absent_or_whole = output.sending_whole and output.sending <= UNIX_WHOLE
        return output.whole and (output.sending == 0 or absent_or_whole)
    if took == output.sent:
        return output.whole
    return output.sending > 0 and output.sending_whole and took == output.sent + output.sending


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
    """For one connection, given what the recorder says of its requests; it has been sent so many bytes, at least."""
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
