# SPDX-License-Identifier: MIT
"""What tests of who runs a request stand on: their driver's commands, and what a host has counted."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from gendriverd.etf import Atom
from gendriverd.statistics import Command
from host_process import DEADLINE, HostProcess, Peer, call

if TYPE_CHECKING:  # its fixtures start with what is here
    from conftest import Gate

RUN, CALLED_LONG, CALLED_SHORT, OTHER = range(1, 5)
SHORTLY, AT_GATE, SPIN, CRASH, ABORT = range(5)
REPLY, FAILED, OK, KEY = Atom("reply"), Atom("failed"), Atom("ok"), Atom("key")
SURE = 1_000_000  # ns: the longest that `short` may be, so that a busy machine changes no verdict
Leading = Callable[..., HostProcess]


def of(process: HostProcess, command: int = RUN) -> Command:
    assert process.recorder is not None
    return process.recorder.statistics().commands[command]


def by_loop(process: HostProcess, command: int = RUN) -> int:
    return of(process, command).by_loop


def warm(peer: Peer, command: int = RUN, times: int = 20) -> None:
    """Until the host knows that it is short, and some worker has begun."""
    for i in range(times):
        peer.call(i, command)


def guess_wrong(process: HostProcess, peer: Peer, gate: Gate, call_id: int = 1000) -> None:
    """A call that was expected to be short, and stands at the gate; another thread is the loop now."""
    warm(peer)
    peer.send(call(call_id, RUN, (AT_GATE, 0)))
    gate.reached()
    until = time.monotonic() + DEADLINE
    while of(process).taken_over == 0:
        assert time.monotonic() < until
