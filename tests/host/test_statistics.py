# SPDX-License-Identifier: MIT
"""What a host counts of its commands, read by the daemon's reader: exact, cheap, harmless whatever the memory holds."""

from __future__ import annotations

import os
import random
import time

import pytest

from conftest import Gate, HostFactory
from gendriverd import statistics
from gendriverd.etf import Atom
from gendriverd.recorder import HEADER, Recorder, State, Untrusted
from gendriverd.statistics import COMMANDS, SEAT, Command, Statistics, Timing
from host_process import DEADLINE, HostProcess, call, cast

ECHO, SIZE, REVERSE, UNKNOWN = 1, 2, 3, 99
WAIT, NOTE, LOOP_WAITS = 1, 2, 10
OK = Atom("ok")


def recorder_of(process: HostProcess) -> Recorder:
    assert process.recorder is not None
    return process.recorder


def counts(found: Statistics) -> dict[int | None, tuple[int, int, int]]:
    return {number: (each.calls, each.casts, each.failed) for number, each in found.commands.items()}


def test_calls_casts_and_failures_are_counted_by_command_over_all_seats(host: HostFactory) -> None:
    process = host("echo", recorded=True, threads=3)
    peer = process.connect()
    assert counts(recorder_of(process).statistics()) == {}
    for seat in range(3):
        key = {Atom("key"): seat}
        for number in range(10 + seat):
            assert peer.call(number, ECHO, b"x", key) == (OK, b"x")
        peer.send(*(cast(SIZE, b"four", key) for _ in range(5)), cast(REVERSE, 1, key))
        assert peer.call(1, REVERSE, 1, key) == (Atom("error"), Atom("badarg"))
        assert peer.call(1, UNKNOWN, [], key) == (Atom("error"), Atom("command"))
    found = recorder_of(process).statistics()
    assert counts(found) == {ECHO: (33, 0, 0), SIZE: (0, 15, 0), REVERSE: (3, 3, 6), None: (3, 0, 3)}
    for each in found.commands.values():
        for timing in (each.waited, each.ran):
            assert sum(timing.buckets) == each.calls + each.casts
            assert timing.most_ns <= timing.sum_ns <= timing.most_ns * sum(timing.buckets)
            assert (timing.quantile(0.5) or 0) <= (timing.quantile(0.99) or 0) <= timing.most < DEADLINE


def test_a_reply_that_is_none_has_failed_and_what_never_began_is_not_counted(
    host: HostFactory, gated: HostFactory, gate: Gate
) -> None:
    process = host("badputs", recorded=True, threads=1)
    assert process.connect().call(1, 1)[0] == "failed"
    assert counts(recorder_of(process).statistics()) == {1: (1, 0, 1)}
    process = gated(recorded=True)
    peer = process.connect()
    peer.send(call(1, WAIT))
    gate.reached()
    peer.send(call(2, NOTE, 1), (Atom("cancel"), 2))
    assert peer.receive() == (Atom("failed"), 2, Atom("cancelled"))
    assert counts(recorder_of(process).statistics()) == {}  # the first still runs
    gate.open()
    assert peer.receive() == (Atom("reply"), 1, OK)
    assert counts(recorder_of(process).statistics()) == {WAIT: (1, 0, 0)}


def test_drivers_of_the_original_declare_no_commands(host: HostFactory) -> None:
    process = host("legacy", recorded=True, threads=1)
    peer = process.connect()
    for number in range(3):
        peer.call(number, number + 1)
    assert set(counts(recorder_of(process).statistics())) == {None}


def test_times_are_those_that_went_by(gated: HostFactory, gate: Gate) -> None:
    process = gated(recorded=True)
    peer = process.connect()
    sent = time.monotonic_ns()
    peer.send(call(1, WAIT), call(2, NOTE, 1))
    gate.reached()
    while [each for each in recorder_of(process).read().requests if each.state is State.QUEUED] == []:
        assert time.monotonic_ns() < sent + DEADLINE * 1e9
    both = time.monotonic_ns()
    recorder_of(process).statistics()  # takes its time
    opened = time.monotonic_ns()
    gate.open()
    assert {peer.receive()[1], peer.receive()[1]} == {1, 2}
    answered = time.monotonic_ns()
    found = recorder_of(process).statistics().commands
    for timing in (found[WAIT].ran, found[NOTE].waited):
        assert opened - both < timing.most_ns == timing.sum_ns < answered - sent
        for share in (0.01, 0.5, 1.0):  # of one: the very one, as near as its bucket tells
            assert timing.quantile(share) == pytest.approx(timing.most, rel=0.125)


def test_what_nobody_uses_costs_no_memory(host: HostFactory) -> None:
    process = host("echo", recorded=True, threads=64, queue=100)
    peer = process.connect()
    recorder = recorder_of(process)
    before = os.fstat(recorder.fd).st_blocks * 512
    assert before < recorder.size - 64 * SEAT
    assert peer.call(1, ECHO, b"x", {Atom("key"): 63}) == (OK, b"x")
    assert os.fstat(recorder.fd).st_blocks * 512 <= before + 4 * 4096  # an entry, and the request's params at most
    assert counts(recorder.statistics()) == {ECHO: (1, 0, 0)}


def test_several_hosts_add_up() -> None:
    def once(ns: int, at: int) -> Timing:
        return Timing(ns, ns, tuple(int(bucket == at) for bucket in range(106)))

    quick, slow = once(1024, 1), once(4096, 9)
    one = Statistics({1: Command(1, 1, 0, 0, 1, 0, quick, quick), None: Command(None, 0, 1, 1, 0, 1, slow, slow)})
    other = Statistics({1: Command(1, 0, 1, 1, 0, 0, slow, slow)})
    both = one + other + Statistics()
    assert counts(both) == {1: (1, 1, 1), None: (0, 1, 1)}
    assert (both.commands[1].ran.sum_ns, both.commands[1].ran.most_ns) == (5120, 4096)
    assert both.commands[1].ran.quantile(0.5) == pytest.approx(1.152e-6)
    assert both.commands[1].ran.quantile(0.51) == both.commands[1].ran.most
    assert Timing().quantile(0.5) is None
    last = Timing(2 * 10**12, 10**12, (*(0,) * 105, 2))  # beyond what buckets tell: the longest
    assert last.quantile(0.5) == 1000


@pytest.mark.parametrize("seed", range(20))
def test_whatever_the_memory_holds_the_reader_lives(host: HostFactory, seed: int) -> None:
    process = host("echo", recorded=True, threads=4, queue=100)
    assert process.connect().call(1, ECHO, b"x") == (OK, b"x")
    recorder, chance = recorder_of(process), random.Random(seed)
    begin = recorder.size - 4 * SEAT
    process.process.kill()
    process.process.wait(DEADLINE)
    if seed < 10:  # anything; then, what a count may be
        os.pwrite(recorder.fd, chance.randbytes(4 * SEAT), begin)
    else:
        most = 1 << chance.randint(1, 64)
        words = (chance.randrange(most).to_bytes(8, "little") for _ in range(4 * SEAT // 8))
        os.pwrite(recorder.fd, b"".join(words), begin)
    os.pwrite(recorder.fd, chance.randbytes(4 * COMMANDS), 364)
    found = recorder.statistics()
    assert len(found.commands) <= COMMANDS + 1
    for each in found.commands.values():
        assert 0 < each.calls + each.casts < 2 * 4 * (COMMANDS + 1) << 63
        for timing in (each.waited, each.ran):
            assert 0 <= (timing.quantile(0.99) or 0) <= timing.most < 1 << 63
    os.pwrite(recorder.fd, (COMMANDS + 1 + chance.randrange(1 << 31)).to_bytes(4, "little"), 360)
    with pytest.raises(Untrusted, match="number of commands"):
        recorder.statistics()
    os.pwrite(recorder.fd, chance.randbytes(HEADER), 0)
    with pytest.raises(Untrusted, match="head"):
        recorder.statistics()
    assert (recorder.loop_busy() or 0) >= 0


def test_only_seats_that_were_written_to_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(1, 1024, 1)
    begin = recorder.size - 1024 * SEAT
    os.pwrite(recorder.fd, b"\1", begin + 500 * SEAT)
    os.pwrite(recorder.fd, b"\1", begin + 1024 * SEAT - 1)  # in its last entry's last word or behind: no count
    read: list[int] = []
    pread = os.pread

    def noted(fd: int, size: int, at: int) -> bytes:
        read.append(at)
        return pread(fd, size, at)

    monkeypatch.setattr("os.pread", noted)
    assert counts(statistics.read(recorder.fd, begin, 1024, [7])) == {7: (1, 0, 0)}
    assert read == [begin + 500 * SEAT, begin + 1023 * SEAT]
    assert recorder.statistics() == Statistics()  # no host has opened it
    assert recorder.loop_busy() is None
    recorder.close()


def test_the_loop_says_since_when_it_is_at_work_or_that_it_waits(gated: HostFactory, gate: Gate) -> None:
    process = gated(recorded=True)
    peer = process.connect()
    wait_idle(recorder_of(process))
    peer.send(call(1, LOOP_WAITS))
    gate.reached()
    before = recorder_of(process).loop_busy()
    began = time.monotonic()
    now = recorder_of(process).loop_busy()
    assert before is not None
    assert now is not None
    assert before < now < before + (time.monotonic() - began) + DEADLINE
    gate.open()
    assert peer.receive() == (Atom("reply"), 1, OK)
    wait_idle(recorder_of(process))


def wait_idle(recorder: Recorder) -> None:
    end = time.monotonic() + DEADLINE
    while recorder.loop_busy() is not None:
        assert time.monotonic() < end
