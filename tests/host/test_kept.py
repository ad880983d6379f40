# SPDX-License-Identifier: MIT
"""Answers of a worker that wait a moment for the next ones: they leave, whatever becomes of those."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import Gate, HostFactory
from gendriverd.etf import Atom
from host_process import HostProcess, Peer, call, cast

RUN, CALLED_LONG = 1, 2
_, AT_GATE, _, CRASH = range(4)
REPLY, FAILED, PONG = Atom("reply"), Atom("failed"), Atom("pong")
SURE = 1_000_000  # ns: the longest that `short` may be, so that a busy machine changes no verdict
MANY = 200

FIRST, SECOND = 1, 0  # gates: one that was just opened would let another call through
Bound = Callable[..., HostProcess]


def ping(ping_id: int) -> tuple[Atom, int]:
    return (Atom("ping"), ping_id)


@pytest.fixture
def first(tmp_path: Path) -> Iterator[Gate]:
    """Where the call stands that all others wait for."""
    gate = Gate(tmp_path / "first")
    yield gate
    gate.close()


@pytest.fixture
def bound(host: HostFactory, gate: Gate, first: Gate) -> Bound:
    """Start a host of one worker, which runs all there is, and knows that RUN is short."""

    def start(**options: Any) -> HostProcess:
        gates = {"gate": str(gate.path), "another gate": str(first.path)}
        process = host("lead_bound", threads=1, short=SURE, recorded=True, settings=gates, **options)
        peer = process.connect()
        for i in range(20):
            peer.call(i, RUN)
        peer.close()
        return process

    return start


def queued(process: HostProcess, first: Gate, *then: tuple[Peer | None, Any]) -> Peer:
    """Calls that wait for one at the gate, and behind them `then`, on the same connection or another; the gate is open
    now."""
    peer = process.connect()
    peer.send(call(MANY, CALLED_LONG, (AT_GATE, FIRST)))
    first.reached()
    peer.send(*(call(i, RUN) for i in range(MANY)))
    for of, term in ((peer, ping(0)), *then):
        other = of or peer
        other.send(term, ping(1))
        while other.receive() != (PONG, 1):
            pass  # in the queue, in this order
    first.open()
    return peer


def answered(peer: Peer, ids: range) -> None:
    assert peer.receive()[:2] == (REPLY, MANY)
    for i in ids:
        assert peer.receive()[:2] == (REPLY, i)


@pytest.mark.parametrize("command", [RUN, CALLED_LONG], ids=["though the next was short lately", "as the next is long"])
def test_they_leave_though_the_next_call_takes_long(bound: Bound, gate: Gate, first: Gate, command: int) -> None:
    peer = queued(bound(), first, (None, call(MANY + 1, command, (AT_GATE, SECOND))))
    gate.reached()
    answered(peer, range(MANY))
    gate.open()
    assert peer.receive()[:2] == (REPLY, MANY + 1)


def test_those_of_many_connections_all_leave(bound: Bound, first: Gate) -> None:
    process = bound()
    others = [process.connect() for _ in range(8)]
    peer = queued(process, first, *((other, call(i, RUN)) for i in range(5) for other in others))
    answered(peer, range(MANY))
    for other in others:
        for i in range(5):
            assert other.receive()[:2] == (REPLY, i)


def test_a_connection_that_has_gone_harms_nobody(bound: Bound, first: Gate) -> None:
    process = bound()
    other, gone = process.connect(), process.connect()
    peer = process.connect()
    peer.send(call(MANY, CALLED_LONG, (AT_GATE, FIRST)))
    first.reached()
    gone.send(*(call(i, RUN) for i in range(MANY)))
    gone.reset()
    other.send(*(call(i, RUN) for i in range(MANY)))
    first.open()
    for i in range(MANY):
        assert other.receive()[:2] == (REPLY, i)
    assert peer.receive()[:2] == (REPLY, MANY)


def test_casts_between_them_run_too(bound: Bound, first: Gate) -> None:
    process = bound()
    peer = process.connect()
    peer.send(call(MANY, CALLED_LONG, (AT_GATE, FIRST)))
    first.reached()
    peer.send(*(term for i in range(MANY) for term in (call(i, RUN), cast(RUN))))
    first.open()
    answered(peer, range(MANY))
    peer.call(0, RUN)
    assert process.recorder is not None
    assert process.recorder.statistics().commands[RUN].casts == MANY


def test_those_of_a_worker_that_is_written_off_leave(bound: Bound, gate: Gate, first: Gate) -> None:
    process = bound(max_run_of={RUN: 500}, max_abandoned=1)
    last = process.connect()
    peer = queued(process, first, (last, call(0, RUN, (AT_GATE, SECOND))))
    answered(peer, range(MANY))
    assert last.receive() == (FAILED, 0, Atom("timeout"))
    peer.call(0, RUN)
    gate.open()


def test_a_crash_behind_them_loses_none_of_their_records(bound: Bound, first: Gate) -> None:
    """What has run is answered, or the record knows that it has run."""
    process = bound()
    last = process.connect()
    peer = queued(process, first, (last, call(0, RUN, (CRASH, 0))))
    process.wait()
    assert process.recorder is not None
    record = process.recorder.read()
    assert record.death is not None
    assert record.death.request is not None
    assert (record.death.signal, record.death.request.id) == (signal.SIGSEGV, 0)
    heard = {term[1] for term in peer.receive_all()}
    known = {request.id for request in record.requests if request.id != 0} | {0}
    assert heard | known >= set(range(MANY))


def test_a_host_that_stops_sends_them(bound: Bound, first: Gate) -> None:
    process = bound()
    peer = queued(process, first)
    process.stop()
    assert len(peer.receive_all()) >= MANY + 1
