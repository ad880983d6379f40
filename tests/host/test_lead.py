# SPDX-License-Identifier: MIT
"""Who runs a request: the loop what was short lately, the workers the rest; and when the loop has guessed wrong,
another thread takes it over, so that nobody but that request's caller waits.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import Gate, HostFactory
from gendriverd.etf import Atom
from gendriverd.statistics import Command
from host_process import DEADLINE, HostProcess, Peer, call, cast

RUN, CALLED_LONG, CALLED_SHORT, OTHER = range(1, 5)
SHORTLY, AT_GATE, SPIN, CRASH, ABORT = range(5)
REPLY, FAILED, OK, KEY = Atom("reply"), Atom("failed"), Atom("ok"), Atom("key")
SURE = 1_000_000  # ns: the longest that `short` may be, so that a busy machine changes no verdict

Leading = Callable[..., HostProcess]


@pytest.fixture
def leading(host: HostFactory, gate: Gate) -> Leading:
    """Start a host on the driver of these tests."""

    def start(*, driver: str = "lead", threads: int = 4, short: int = SURE, **options: Any) -> HostProcess:
        settings = {"gate": str(gate.path), **options.pop("settings", {})}
        return host(driver, threads=threads, short=short, recorded=True, settings=settings, **options)

    return start


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


def threads_of(process: HostProcess) -> int:
    return len(os.listdir(f"/proc/{process.process.pid}/task"))  # noqa: PTH208 (numbers, not paths)


# --- who runs it -------------------------------------------------------------


def test_the_loop_runs_what_was_short_lately(leading: Leading) -> None:
    process = leading()
    peer = process.connect()
    warm(peer, times=100)
    assert 50 <= by_loop(process) < 100  # the first ones were workers': nobody knew


@pytest.mark.parametrize(
    "options",
    [{"short": 0}, {"threads": 1}, {"driver": "lead_bound"}],
    ids=["turned off", "one thread", "bound to its threads"],
)
def test_workers_run_all_of_it(leading: Leading, options: dict[str, Any]) -> None:
    process = leading(**options)
    peer = process.connect()
    warm(peer, CALLED_SHORT, times=100)
    assert (of(process, CALLED_SHORT).calls, by_loop(process, CALLED_SHORT)) == (100, 0)


def test_a_driver_bound_to_its_threads_has_one_for_each_seat(leading: Leading) -> None:
    peer = leading(driver="lead_bound").connect()
    said = {peer.call(i, CALLED_SHORT) for i in range(100)}
    assert len(said) == len({seat for _, seat in said}) == len({thread for thread, _ in said})


def test_requests_with_a_key_stay_with_their_worker(leading: Leading) -> None:
    process = leading()
    peer = process.connect()
    warm(peer)
    before = by_loop(process)
    said = {peer.call(i, RUN, (SHORTLY, 0), {KEY: 3}) for i in range(50)}
    assert len(said) == 1
    assert by_loop(process) == before


def test_what_the_driver_calls_long_is_the_workers(leading: Leading) -> None:
    process = leading()
    warm(process.connect(), CALLED_LONG, times=50)
    assert by_loop(process, CALLED_LONG) == 0


def test_what_the_driver_calls_short_is_the_loops_from_the_start(leading: Leading) -> None:
    process = leading()
    peer = process.connect()
    warm(peer, CALLED_LONG, times=8)  # workers begin
    warm(peer, CALLED_SHORT, times=50)
    assert by_loop(process, CALLED_SHORT) == 50


def test_a_command_that_takes_long_is_the_workers_from_then_on(leading: Leading) -> None:
    process = leading(short=100_000)
    peer = process.connect()
    for i in range(20):
        peer.call(i, RUN, (SPIN, 3))
    assert by_loop(process) == 0


def test_casts_are_run_by_the_loop_too(leading: Leading) -> None:
    process = leading()
    peer = process.connect()
    warm(peer, CALLED_LONG, times=8)
    peer.send(*(cast(CALLED_SHORT) for _ in range(200)), call(1000, CALLED_SHORT))
    assert peer.receive()[1] == 1000
    assert of(process, CALLED_SHORT).casts == 200
    assert by_loop(process, CALLED_SHORT) > 1


def test_no_more_threads_than_seats_are_ever_in_dispatch(leading: Leading) -> None:
    process = leading(threads=2)
    peers = [process.connect() for _ in range(8)]
    warm(peers[0], CALLED_LONG, times=8)
    for round_ in range(20):
        spins = round_ % 4
        for peer in peers[:spins]:
            peer.send(*(call(i, RUN, (SPIN, 1)) for i in range(3)))
        for peer in peers[spins:]:
            peer.send(*(call(i, CALLED_SHORT) for i in range(30)))
        for at, peer in enumerate(peers):
            count = 3 if at < spins else 30
            assert {peer.receive()[1] for _ in range(count)} == {*range(count)}
    assert by_loop(process, CALLED_SHORT) > 0
    assert peers[0].call(1, OTHER) <= 2


# --- a wrong guess -----------------------------------------------------------


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


def test_casts_that_the_loop_has_before_it_run_when_it_is_told_to_stop(leading: Leading) -> None:
    process = leading(queue=10_000)
    peer = process.connect()
    warm(peer, CALLED_LONG, times=8)
    peer.send(*(cast(CALLED_SHORT) for _ in range(5000)), (Atom("ping"), 1))
    assert peer.receive() == (Atom("pong"), 1)  # all are read
    peer.close()
    process.tell(Atom("stop"), 60_000)
    assert process.wait() == 0
    assert of(process, CALLED_SHORT).casts == 5000


def test_stop_ends_though_a_wrong_guess_never_does(leading: Leading, gate: Gate) -> None:
    process = leading()
    peer = process.connect()
    guess_wrong(process, peer, gate)
    process.tell(Atom("stop"), 100)
    assert peer.receive() == (FAILED, 1000, Atom("interrupted"))
    assert process.wait() == 0


# --- a crash in the loop's own run -------------------------------------------


@pytest.mark.parametrize(("how", "number"), [(CRASH, signal.SIGSEGV), (ABORT, signal.SIGABRT)], ids=["fault", "abort"])
def test_a_crash_in_the_loop_names_its_request(leading: Leading, how: int, number: int) -> None:
    process = leading()
    peer = process.connect()
    warm(peer)
    before = by_loop(process)
    peer.send(call(1000, RUN, (how, 0)))
    process.wait()
    assert by_loop(process) == before
    assert process.recorder is not None
    death = process.recorder.read().death
    assert death is not None
    assert death.request is not None
    assert (death.signal, death.request.id, death.request.command) == (number, 1000, RUN)


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


# --- an idle host ------------------------------------------------------------


def ticks(process: HostProcess) -> bool:
    """Whether the timer that watches the loop is set: proc(5), fdinfo."""
    infos = [file.read_text() for file in Path(f"/proc/{process.process.pid}/fdinfo").iterdir()]
    (timer,) = [info for info in infos if "clockid:" in info]
    return "it_interval: (0, 0)" not in timer


def test_an_idle_host_does_not_tick(leading: Leading) -> None:
    process = leading()
    warm(process.connect())
    assert by_loop(process) > 0
    until = time.monotonic() + DEADLINE
    while ticks(process):
        assert time.monotonic() < until
