# SPDX-License-Identifier: MIT
"""A thread whose request runs too long is written off: its caller hears `timeout`, another takes its place, and what it
does when it comes back harms nobody.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from abandoned import (
    BLOCK,
    BLOCK_SUM,
    CANCEL,
    CANCELLED,
    HANG,
    HANG_DEAF,
    KEY,
    OK,
    ORDER,
    ORDER_GET,
    OVERLOADED,
    PID,
    REPLY,
    SHORT,
    SLEEP_UNTIL_CANCELLED,
    WAITING,
    Abandoning,
    logged,
    quiet,
    record,
    release,
    timeout,
)
from conftest import Gate, HostFactory
from gendriverd.aftermath import has_left
from gendriverd.etf import Atom
from gendriverd.recorder import State
from host_process import call, cast

GATE_WAIT, GATE_SEAT, GATE_THREAD_CALLS = 1, 4, 7
LEGACY_PING, LEGACY_BIGRESULT, LEGACY_BLOCK, LEGACY_RELEASE = 2, 5, 12, 13


def test_the_caller_is_told_timeout_and_the_others_go_on(abandoning: Abandoning) -> None:
    process = abandoning()
    peer, other = process.connect(), process.connect()
    other.send(call(5, SLEEP_UNTIL_CANCELLED, 0, {KEY: 0}))
    peer.send(call(1, BLOCK, 0, {KEY: 1}))
    assert peer.receive() == timeout(1)
    line = logged(process, "worker_abandoned")
    assert (line["worker"], line["command"], line["abandoned"]) == (1, BLOCK, 1)
    assert peer.call(2, PID) == (OK, process.process.pid)
    assert peer.call(3, WAITING, 2) == OK  # the one that hangs, and the one that is well
    other.send((CANCEL, 5))
    assert other.receive() == (REPLY, 5, CANCELLED)


def test_all_workers_are_there_again_when_all_were_written_off(abandoning: Abandoning) -> None:
    peer = abandoning(threads=3).connect()
    peer.send(*(call(i, HANG) for i in range(3)))
    assert {peer.receive() for _ in range(3)} == {timeout(i) for i in range(3)}
    peer.send(call(3, SLEEP_UNTIL_CANCELLED), call(4, SLEEP_UNTIL_CANCELLED), call(5, WAITING, 5))
    assert peer.receive() == (REPLY, 5, OK)  # three hang for ever, and two wait beside the one that sees it
    peer.send((CANCEL, 3), (CANCEL, 4))
    assert {peer.receive(), peer.receive()} == {(REPLY, 3, CANCELLED), (REPLY, 4, CANCELLED)}


def test_a_cast_that_hangs_is_written_off_and_nobody_is_told(abandoning: Abandoning) -> None:
    process = abandoning(threads=1)
    peer = process.connect()
    peer.send(cast(BLOCK))
    assert peer.call(1, PID) == (OK, process.process.pid)  # by the next thread: there is one seat
    assert logged(process, "worker_abandoned")["command"] == BLOCK
    (running,) = [each for each in record(process).requests if not each.call]
    assert (running.state, running.abandoned) == (State.RUNNING, True)
    release(peer)
    assert logged(process, "worker_back")["abandoned"] == 0
    assert [each for each in record(process).requests if not each.call] == []


def test_a_request_whose_connection_is_gone_is_written_off_too(abandoning: Abandoning) -> None:
    process = abandoning()
    peer, other = process.connect(), process.connect()
    peer.send(call(1, BLOCK, b"x" * 10_000))
    assert other.call(1, WAITING) == OK
    peer.close()
    process.hear("closed")
    logged(process, "worker_abandoned")
    release(other)
    logged(process, "worker_back")
    assert other.call(1, PID)[0] == OK
    quiet(other)


def test_requests_of_the_seat_that_hangs_are_run_in_order(abandoning: Abandoning) -> None:
    process = abandoning(threads=2)
    peer = process.connect()
    peer.send(call(0, BLOCK, 0, {KEY: 1}), *(call(i, ORDER, (7, i), {KEY: 1}) for i in range(1, 50)))
    heard = [peer.receive() for _ in range(50)]
    assert sorted(heard, key=lambda frame: frame[1]) == [timeout(0), *((REPLY, i, OK) for i in range(1, 50))]
    assert peer.call(1, ORDER_GET, 7) == (OK, list(range(1, 50)))


def test_a_thread_that_no_signal_reaches_is_written_off_as_well(abandoning: Abandoning) -> None:
    peer = abandoning(threads=1).connect()
    peer.send(call(1, HANG_DEAF))
    assert peer.receive() == timeout(1)
    assert peer.call(2, PID)[0] == OK


def test_a_driver_that_asks_whether_it_is_cancelled_comes_back(abandoning: Abandoning) -> None:
    process = abandoning(max_run=SHORT)
    peer = process.connect()
    peer.send(call(1, SLEEP_UNTIL_CANCELLED))
    assert peer.receive() == timeout(1)
    written_off = logged(process, "worker_abandoned")
    assert logged(process, "worker_back") == {**written_off, "abandoned": 0}
    quiet(peer)


def test_a_late_answer_goes_to_nobody_though_its_id_is_in_use_again(abandoning: Abandoning) -> None:
    process = abandoning()
    peer, other = process.connect(), process.connect()
    peer.send(call(1, BLOCK))
    assert peer.receive() == timeout(1)
    peer.send(call(1, SLEEP_UNTIL_CANCELLED))
    assert other.call(1, WAITING, 2) == OK
    release(other)
    logged(process, "worker_back")
    quiet(peer)
    peer.send((CANCEL, 1))
    assert peer.receive() == (REPLY, 1, CANCELLED)
    quiet(peer)


@pytest.mark.parametrize("size", [100, 400, 10_000])  # in the recorder, on the heap, in the buffer it came in
def test_its_params_are_its_own_until_it_is_back(abandoning: Abandoning, size: int) -> None:
    process = abandoning(threads=1, queue=1)
    peer, other = process.connect(), process.connect()
    peer.send(call(1, BLOCK_SUM, b"\3" * size))
    assert peer.receive() == timeout(1)
    peer.close()
    process.hear("closed")
    for i in range(1000):  # more than there are slots
        assert other.call(i, PID, b"\5" * size)[0] == OK
    release(other)
    logged(process, "worker_back")
    assert other.call(1, ORDER_GET, 0) == (OK, [3 * size])


def test_a_call_that_was_answered_counts_in_flight_until_its_thread_is_back(abandoning: Abandoning) -> None:
    process = abandoning(in_flight=2)
    peer, other = process.connect(), process.connect()
    peer.send(call(1, BLOCK), call(2, BLOCK))
    assert {peer.receive(), peer.receive()} == {timeout(1), timeout(2)}
    assert peer.call(1, PID) == OVERLOADED  # not a duplicate: its id is free
    assert other.call(1, PID)[0] == OK
    release(other)
    logged(process, "worker_back")
    assert peer.call(1, PID)[0] == OK
    release(other)
    logged(process, "worker_back")
    peer.send(call(1, SLEEP_UNTIL_CANCELLED), call(2, SLEEP_UNTIL_CANCELLED), call(3, PID))
    assert peer.receive() == (Atom("failed"), 3, Atom("overloaded"))  # two, as before
    peer.send((CANCEL, 1), (CANCEL, 2))
    assert {peer.receive()[1], peer.receive()[1]} == {1, 2}


@pytest.mark.parametrize("hang", [call(1, BLOCK, b"x" * 900), cast(BLOCK, b"x" * 900)], ids=["call", "cast"])
def test_so_do_its_bytes(abandoning: Abandoning, hang: Any) -> None:
    process = abandoning(in_flight_bytes=1000)
    peer, other = process.connect(), process.connect()
    peer.send(hang)
    logged(process, "worker_abandoned")
    if hang[0] == "call":
        assert peer.receive() == timeout(1)
    assert peer.call(2, PID, b"x" * 200) == OVERLOADED
    assert other.call(2, PID, b"x" * 200)[0] == OK
    peer.send(cast(ORDER, (7, 1), {KEY: 0}), cast(ORDER, b"x" * 200))  # this one waits
    release(other)
    logged(process, "worker_back")
    assert peer.call(3, PID, b"x" * 200)[0] == OK


def test_written_off_and_back_many_times_nothing_is_used_up(abandoning: Abandoning) -> None:
    process = abandoning(threads=2, queue=4, max_abandoned=2, max_run_of={BLOCK: 1})
    peer = process.connect()
    for i in range(300):  # with the one free slot more than there are
        peer.send(call(i, BLOCK))
        assert peer.receive() == timeout(i)
        release(peer)
        assert logged(process, "worker_back")["abandoned"] == 0
    requests = record(process)
    assert [each for each in requests.requests if not has_left(each, requests.connections[1].sent)] == []


def test_a_thread_that_comes_back_just_then_answers_or_is_written_off_but_not_both(abandoning: Abandoning) -> None:
    """BLOCK is let go ever closer to the moment at which it has run too long."""
    process = abandoning(threads=2, max_abandoned=64, max_run_of={BLOCK: 1})
    peer, other = process.connect(), process.connect()
    late, outcomes = 0, []
    for _ in range(1000):
        peer.send(call(1, BLOCK))
        for _ in range(late):
            assert other.call(1, PID)[0] == OK
        release(other)
        outcomes.append(peer.receive())
        if outcomes[-1] == timeout(1):
            logged(process, "worker_back")
        late = max(0, late + (1 if outcomes[-1] != timeout(1) else -1))
    assert set(outcomes) == {(REPLY, 1, OK), timeout(1)}
    quiet(peer)


def test_a_new_thread_has_a_state_of_its_own_and_the_old_one_destroys_its_own(
    host: HostFactory, gate: Gate, tmp_path: Path
) -> None:
    settings = {"gate": str(gate.path), "marks": str(tmp_path / "marks")}
    process = host("gate", threads=1, settings=settings, max_run_of={GATE_WAIT: SHORT}, max_abandoned=1)
    peer = process.connect()
    assert [peer.call(i, GATE_THREAD_CALLS) for i in range(3)] == [1, 2, 3]
    peer.send(call(1, GATE_WAIT))
    assert peer.receive() == timeout(1)
    assert [peer.call(i, GATE_THREAD_CALLS) for i in range(3)] == [1, 2, 3]
    assert peer.call(1, GATE_SEAT) == 0
    assert not (tmp_path / "marks").exists()
    gate.open()
    logged(process, "worker_back")
    assert (tmp_path / "marks").read_text() == "t"
    assert peer.call(1, GATE_THREAD_CALLS) == 5
    peer.close()
    assert process.stop() == 0
    assert (tmp_path / "marks").read_text() == "ttd"


def test_a_driver_written_for_the_original_has_its_buffer_until_it_is_back(host: HostFactory) -> None:
    process = host("legacy", threads=1, max_run_of={LEGACY_BLOCK: SHORT}, max_abandoned=1)
    peer = process.connect()
    peer.send(call(1, LEGACY_BLOCK))
    assert peer.receive() == timeout(1)
    assert len(peer.call(2, LEGACY_BIGRESULT, 20_000)[1]) == 20_000
    assert peer.call(3, LEGACY_RELEASE) == OK
    logged(process, "worker_back")
    assert peer.call(4, LEGACY_PING) == OK
    quiet(peer)
