# SPDX-License-Identifier: MIT
"""What tests of threads that are written off stand on: their driver's commands, and what a host says of them."""

from __future__ import annotations

from collections.abc import Callable

from gendriverd.etf import Atom
from gendriverd.recorder import Record
from host_process import HostProcess, Peer

OK, KEY, REPLY, CANCEL = Atom("ok"), Atom("key"), Atom("reply"), Atom("cancel")
CANCELLED = (OK, Atom("cancelled"))
OVERLOADED = (Atom("failed"), Atom("overloaded"))
HANG, SLEEP_UNTIL_CANCELLED, BLOCK, RELEASE, ORDER, ORDER_GET, WAITING, PID = range(10, 18)
HANG_DEAF, BLOCK_SEGV, BLOCK_SUM = 25, 26, 27
SHORT = 100  # ms: of the commands that hang; the others may run for ever
LIMITED = dict.fromkeys((HANG, BLOCK, HANG_DEAF, BLOCK_SEGV, BLOCK_SUM), SHORT)
Abandoning = Callable[..., HostProcess]


def timeout(call_id: int) -> tuple[Atom, int, Atom]:
    return (Atom("failed"), call_id, Atom("timeout"))


def logged(process: HostProcess, event: str) -> dict[str, int]:
    """The next such line's numbers."""
    while True:
        _, _, said, values = process.hear("log")
        if said == event.encode():
            return {str(key): value for key, value in values.items()}


def record(process: HostProcess) -> Record:
    assert process.recorder is not None
    return process.recorder.read()


def quiet(peer: Peer) -> None:
    """Nothing was said on this connection that was not read."""
    peer.send((Atom("ping"), 77))
    assert peer.receive() == (Atom("pong"), 77)


def release(peer: Peer, times: int = 1) -> None:
    assert peer.call(99, RELEASE, times) == OK
