# SPDX-License-Identifier: MIT
"""When the loop has guessed wrong another thread takes over from it, so that nobody but that request's caller waits."""

from __future__ import annotations

import os
import time

from conftest import Gate
from gendriverd.etf import Atom
from host_process import HostProcess, call
from leading_loop import (
    AT_GATE,
    CALLED_LONG,
    CALLED_SHORT,
    CRASH,
    FAILED,
    KEY,
    OTHER,
    REPLY,
    RUN,
    SHORTLY,
    SPIN,
    Leading,
    by_loop,
    guess_wrong,
    of,
    warm,
)


def threads_of(process: HostProcess) -> int:
    return len(os.listdir(f"/proc/{process.process.pid}/task"))  # noqa: PTH208 (numbers, not paths)


def test_only_its_caller_waits_for_a_wrong_guess(leading: Leading, gate: Gate) -> None:
    process = leading()
    peer, other = process.connect(), process.connect()
    guess_wrong(process, peer, gate)
    assert isinstance(other.call(1, OTHER), int)  # another connection
    assert isinstance(peer.call(2, RUN), tuple)  # and the same
    assert of(process).taken_over == 1
    gate.open()
    assert peer.receive()[:2] == (REPLY, 1000)


def test_what_was_read_with_a_wrong_guess_is_run_by_others(leading: Leading, gate: Gate) -> None:
    process = leading()
    peer = process.connect()
    warm(peer)
    peer.send(*(call(i, RUN, (AT_GATE if i == 1005 else SHORTLY, 0)) for i in range(1000, 1100)))
    answered = {peer.receive()[1] for _ in range(99)}
    assert answered == {*range(1000, 1100)} - {1005}
    gate.open()
    assert peer.receive()[:2] == (REPLY, 1005)


def test_one_that_computes_is_found_as_one_that_sleeps(leading: Leading) -> None:
    process = leading()
    peer, other = process.connect(), process.connect()
    warm(peer)
    peer.send(call(1000, RUN, (SPIN, 300)))
    while not peer.has_more() and of(process).taken_over == 0:
        other.call(1, RUN)
    assert peer.receive()[:2] == (REPLY, 1000)
    assert of(process).taken_over == 1


def test_its_command_is_barred_and_others_are_not(leading: Leading, gate: Gate) -> None:
    process = leading()
    peer = process.connect()
    warm(peer, CALLED_SHORT)
    guess_wrong(process, peer, gate)
    began, before = time.monotonic(), by_loop(process)
    other_before = by_loop(process, CALLED_SHORT)
    warm(peer, RUN, times=10)
    barred = by_loop(process) - before
    assert barred == 0 or time.monotonic() - began > 0.9
    warm(peer, CALLED_SHORT, times=10)
    assert by_loop(process, CALLED_SHORT) - other_before == 10
    gate.open()
    assert peer.receive()[:2] == (REPLY, 1000)


def test_as_many_wrong_guesses_as_seats_make_no_thread(leading: Leading) -> None:
    process = leading(threads=3)
    peer = process.connect()
    warm(peer, CALLED_LONG, times=12)
    before = threads_of(process)
    peer.send(*(call(i, CALLED_SHORT, (SPIN, 100)) for i in range(3)), (Atom("ping"), 5))
    said = [peer.receive()[:2] for _ in range(4)]
    assert sorted(said, key=str) == [(Atom("pong"), 5), (REPLY, 0), (REPLY, 1), (REPLY, 2)]
    assert of(process, CALLED_SHORT).taken_over > 0
    assert threads_of(process) == before
    warm(peer)


def test_the_thread_that_was_the_loop_is_a_worker_then(leading: Leading, gate: Gate) -> None:
    process = leading(threads=2)
    peer = process.connect()
    guess_wrong(process, peer, gate)
    gate.open()
    thread, seat = peer.receive()[2]
    said = {peer.call(i, CALLED_LONG, (SHORTLY, 0), {KEY: seat}) for i in range(10)}
    assert said == {(thread, seat)}


def test_a_key_waits_for_the_seat_that_a_wrong_guess_holds(leading: Leading, gate: Gate) -> None:
    process = leading(threads=2)
    peer = process.connect()
    warm(peer)
    _, seat = peer.call(1, RUN)
    guess_wrong(process, peer, gate)
    peer.send(call(1, RUN, (SHORTLY, 0), {KEY: seat}), call(2, RUN, (SHORTLY, 0), {KEY: 1 - seat}))
    assert peer.receive()[:2] == (REPLY, 2)
    gate.open()
    assert [peer.receive()[1], peer.receive()[1]] == [1000, 1]


def test_its_caller_may_cancel_or_leave(leading: Leading, gate: Gate) -> None:
    process = leading()
    peer, other = process.connect(), process.connect()
    guess_wrong(process, peer, gate)
    peer.send((Atom("cancel"), 1000))
    peer.sock.close()
    process.hear("closed")
    gate.open()
    warm(other)
    assert of(process).taken_over == 1


def test_a_hang_after_a_wrong_guess_is_written_off(leading: Leading, gate: Gate) -> None:
    process = leading(max_run=200, max_abandoned=2)
    peer = process.connect()
    guess_wrong(process, peer, gate)
    assert peer.receive() == (FAILED, 1000, Atom("timeout"))
    warm(peer, CALLED_LONG, times=8)  # all seats have a thread
    gate.open()
    while process.hear("log")[2] != b"worker_back":
        pass
    warm(peer)


def test_a_hang_after_a_wrong_guess_is_named_when_its_host_is_put_down(leading: Leading, gate: Gate) -> None:
    process = leading(max_run=200)
    guess_wrong(process, process.connect(), gate)
    process.wait()
    assert process.recorder is not None
    death = process.recorder.read().death
    assert death is not None
    assert death.hang
    assert death.request is not None
    assert death.request.id == 1000


def test_stop_waits_for_a_wrong_guess(leading: Leading, gate: Gate) -> None:
    process = leading()
    peer = process.connect()
    guess_wrong(process, peer, gate)
    process.tell(Atom("stop"), 60_000)
    gate.open()
    assert [frame[0] for frame in peer.receive_all()] == [REPLY, Atom("goodbye")]
    assert process.wait() == 0


def test_stop_ends_though_a_wrong_guess_never_does(leading: Leading, gate: Gate) -> None:
    process = leading()
    peer = process.connect()
    guess_wrong(process, peer, gate)
    process.tell(Atom("stop"), 100)
    assert peer.receive() == (FAILED, 1000, Atom("interrupted"))
    assert process.wait() == 0


def test_a_crash_after_a_wrong_guess_names_its_request(leading: Leading, gate: Gate) -> None:
    process = leading()
    peer = process.connect()
    guess_wrong(process, peer, gate)
    peer.send(call(7, CALLED_LONG, (CRASH, 0)))
    process.wait()
    assert process.recorder is not None
    record = process.recorder.read()
    assert record.death is not None
    assert record.death.request is not None
    assert record.death.request.id == 7
    assert sorted(request.id for request in record.requests) == [7, 1000]
