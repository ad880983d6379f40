# SPDX-License-Identifier: MIT
"""Who runs a request: the loop what was short lately, the workers the rest."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import pytest

from gendriverd.etf import Atom
from host_process import DEADLINE, HostProcess, call, cast
from leading_loop import (
    ABORT,
    CALLED_LONG,
    CALLED_SHORT,
    CRASH,
    KEY,
    OTHER,
    RUN,
    SHORTLY,
    SPIN,
    Leading,
    by_loop,
    of,
    warm,
)


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
