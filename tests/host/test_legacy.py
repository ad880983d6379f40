# SPDX-License-Identifier: MIT
"""Drivers written for the original: what its README promises holds, and its known faults are not ours."""

from __future__ import annotations

import signal

import pytest

from conftest import Gate, HostFactory
from gendriverd.etf import Atom
from host_process import call, cast, resident

OK, ERROR = Atom("ok"), Atom("error")
SUM, PING, STATS, QUESTION, BIGRESULT, OVERFLOW, OVERFLOW_HUGE, LONGERROR, PARTIAL, IGNORE, BADREPLY = range(1, 12)


def test_the_transcript_of_the_originals_readme(host: HostFactory) -> None:
    peer = host("legacy", threads=1).connect()
    assert peer.call(1, SUM, [1, 2, 3, 4]) == (OK, 10.0)
    assert peer.call(2, PING) == OK
    assert peer.call(3, STATS) == (OK, [(Atom("driver"), 2), (Atom("thread"), 2)])


def test_a_tuple_is_decoded_and_encoded_with_ei(host: HostFactory) -> None:
    peer = host("legacy").connect()
    question = (Atom("question"), list(b"Why are we here?"))
    assert peer.call(1, QUESTION, question)[0] == Atom("answer")


def test_an_unknown_command_is_the_drivers_own_error(host: HostFactory) -> None:
    assert host("legacy").connect().call(1, 99) == (ERROR, Atom("command"))


def test_params_read_in_part_are_a_decode_error(host: HostFactory) -> None:
    assert host("legacy").connect().call(1, PARTIAL, (1, 2)) == (ERROR, Atom("decode"))


def test_a_driver_that_ignores_its_params_is_fine(host: HostFactory) -> None:
    peer = host("legacy").connect()
    assert peer.call(1, IGNORE) == (OK, Atom("ignored"))
    assert peer.call(2, IGNORE, [1, 2]) == (OK, Atom("ignored"))


def test_an_ill_formed_reply_is_not_sent(host: HostFactory) -> None:
    peer = host("legacy").connect()
    assert peer.call(1, BADREPLY) == (Atom("failed"), Atom("bad_reply"))
    assert peer.call(2, PING) == OK


# --- the original's faults -----------------------------------------------


@pytest.mark.parametrize("cmd", [256, 512, 65536, (1 << 30) - 256])
def test_a_command_divisible_by_256_is_a_call_when_called(host: HostFactory, cmd: int) -> None:
    """The original kept the flag in one byte: such a call was taken for a cast, and its caller hung."""
    peer = host("legacy_key", threads=1).connect()
    assert peer.call(1, cmd) == (OK, cmd)
    peer.send(cast(cmd))
    assert peer.call(2, 1) == (OK, [(Atom("calls"), 1), (Atom("casts"), 1)])


def test_several_calls_are_in_flight_at_once(gated: HostFactory, gate: Gate) -> None:
    """The original's server waited for one answer before it took the next request."""
    peer = gated(threads=2).connect()
    peer.send(call(1, 1), call(2, 4))
    assert peer.receive() == (Atom("reply"), 2, 1)
    gate.open()
    assert peer.receive() == (Atom("reply"), 1, OK)


@pytest.mark.parametrize("numbers", [1, 100, 5_000, 200_000])
def test_a_reply_larger_than_64_bytes_comes_whole(host: HostFactory, numbers: int) -> None:
    peer = host("legacy").connect()
    ok, values = peer.call(1, BIGRESULT, numbers)
    assert ok == OK
    assert len(values) == numbers


def test_40_kilobytes_encoded_without_a_look_are_a_reply(host: HostFactory) -> None:
    ok, value = host("legacy").connect().call(1, OVERFLOW)
    assert (ok, len(value)) == (OK, 40 * 1024)


def test_an_overflow_is_a_clean_crash_and_not_silent_corruption(host: HostFactory) -> None:
    process = host("legacy")
    peer = process.connect()
    peer.send(call(1, OVERFLOW_HUGE))
    status = process.wait()
    if b"Sanitizer" in process.output:  # which takes the signal, and reports the guard
        process.output = b""
    else:
        assert status == -signal.SIGSEGV


def test_an_error_longer_than_its_field_is_cut(host: HostFactory) -> None:
    """The original copied it with strcpy into 64 bytes."""
    error, atom = host("legacy").connect().call(1, LONGERROR)
    assert error == ERROR
    assert len(atom) == 63


def test_early_returns_leak_nothing(host: HostFactory) -> None:
    """The original leaked its request on some of them; the host's memory stays."""
    process = host("legacy", threads=1)
    peer = process.connect()

    def fail(times: int) -> None:
        for i in range(times):
            assert peer.call(i, PARTIAL, (1, b"x" * 2000)) == (ERROR, Atom("decode"))

    fail(4000)  # as much as a sanitizer keeps of what was freed, and more
    before = resident(process.process.pid)
    fail(8000)  # 16 MB of params
    assert resident(process.process.pid) - before < 4 << 20


def test_every_thread_gets_a_state_of_its_own_at_once(host: HostFactory) -> None:
    """The original's threads took their slots without a lock."""
    process = host("legacy", threads=16)
    peer = process.connect()
    peer.send(*(call(i, STATS) for i in range(3200)))
    seen = [peer.receive()[2][1] for _ in range(3200)]
    driver_counts = sorted(stats[0][1] for stats in seen)
    assert driver_counts == list(range(3200))
    firsts = sum(1 for stats in seen if stats[1][1] == 0)
    assert 1 <= firsts <= 16


def test_init_may_return_null(host: HostFactory) -> None:
    """The original refused it, though its own skeleton does it."""
    peer = host("legacy_null").connect()
    assert peer.call(1, 1) == (ERROR, Atom("command"))


def test_a_list_of_small_numbers_is_not_signed(host: HostFactory) -> None:
    """sum([200]) was -56.0."""
    for driver in ("legacy", "sum"):
        assert host(driver).connect().call(1, SUM, [200]) == (OK, 200.0)
