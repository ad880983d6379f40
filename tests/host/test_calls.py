# SPDX-License-Identifier: MIT
"""Calls, casts, cancel, ping and deadlines, as a client of one host sees them."""

from __future__ import annotations

import pytest

from conftest import Gate, HostFactory
from gendriverd import etf
from gendriverd.etf import Atom
from host_process import call, cast

OK = Atom("ok")
ECHO = 1
WAIT, NOTE, NOTES, SEAT, UNTIL_CANCELLED, HAS_DEADLINE = range(1, 7)


@pytest.mark.parametrize("tcp", [False, True])
def test_a_call_is_answered_with_what_the_driver_put(host: HostFactory, tcp: bool) -> None:
    peer = host("echo").connect(tcp=tcp)
    term = {Atom("a"): [1, 2.5, b"x", (), {}, [], -(1 << 70)], b"k": (Atom("b"), [Atom("c")])}
    assert peer.call(7, ECHO, term) == (OK, term)


def test_many_pipelined_calls_get_one_answer_each(host: HostFactory) -> None:
    peer = host("echo").connect()
    peer.send(*(call(i, ECHO, (i, b"x" * (i % 300))) for i in range(2000)))
    peer.done_sending()
    replies = peer.receive_all()
    assert sorted(replies, key=lambda r: r[1]) == [(Atom("reply"), i, (OK, (i, b"x" * (i % 300)))) for i in range(2000)]


def test_ids_of_every_width_come_back(host: HostFactory) -> None:
    peer = host("echo").connect()
    for call_id in (0, 255, 256, 65536, (1 << 31) - 1):
        assert peer.call(call_id, ECHO, call_id) == (OK, call_id)


def test_a_large_term_passes_both_ways(host: HostFactory) -> None:
    peer = host("echo").connect()
    big = [b"\x00\xff" * (4 << 20), list(range(100_000))]
    assert peer.call(1, ECHO, big) == (OK, big)


def test_a_call_between_large_ones_keeps_its_bytes(host: HostFactory) -> None:
    peer = host("echo").connect()
    sizes = [10, 300_000, 3, 70_000, 159, 160, 161, 4096, 4097, 262_140, 1]
    peer.send(*(call(i, ECHO, bytes([i]) * size) for i, size in enumerate(sizes)))
    replies = {reply[1]: reply[2] for reply in (peer.receive() for _ in sizes)}
    assert replies == {i: (OK, bytes([i]) * size) for i, size in enumerate(sizes)}


def test_frames_in_single_bytes_are_put_together(host: HostFactory) -> None:
    peer = host("echo").connect(tcp=True)
    data = etf.frame(call(1, ECHO, b"abc")) + etf.frame(call(2, ECHO, b"de"))
    for i in range(len(data)):
        peer.sock.sendall(data[i : i + 1])
    assert {peer.receive()[1], peer.receive()[1]} == {1, 2}


def test_a_cast_is_never_answered_and_runs(host: HostFactory) -> None:
    peer = host("sum", threads=1).connect()
    peer.send(cast(2), cast(2), cast(1, [1, 2]), cast(99))
    assert peer.call(1, 3) == (OK, [(Atom("driver"), 4), (Atom("thread"), 4)])


def test_ping_is_answered_while_every_worker_is_busy(gated: HostFactory, gate: Gate) -> None:
    peer = gated().connect()
    peer.send(call(1, WAIT), (Atom("ping"), 77))
    assert peer.receive() == (Atom("pong"), 77)
    gate.open()
    assert peer.receive() == (Atom("reply"), 1, OK)


def test_a_queued_call_can_be_cancelled_and_never_runs(gated: HostFactory, gate: Gate) -> None:
    peer = gated().connect()
    peer.send(call(1, WAIT), call(2, NOTE, 5), (Atom("cancel"), 2))
    assert peer.receive() == (Atom("failed"), 2, Atom("cancelled"))
    gate.open()
    assert peer.receive() == (Atom("reply"), 1, OK)
    assert peer.call(3, NOTES) == []


def test_cancel_reaches_a_running_call_as_gd_cancelled(gated: HostFactory) -> None:
    peer = gated().connect()
    peer.send(call(1, UNTIL_CANCELLED), (Atom("cancel"), 1))
    assert peer.receive() in ((Atom("reply"), 1, OK), (Atom("failed"), 1, Atom("cancelled")))


def test_a_call_whose_client_is_gone_hears_it_as_gd_cancelled(gated: HostFactory) -> None:
    process = gated()
    peer = process.connect(tcp=True)
    peer.send(call(1, UNTIL_CANCELLED), (Atom("ping"), 1))
    assert peer.receive() == (Atom("pong"), 1)
    peer.reset()
    assert process.connect().call(1, SEAT) == 0  # the only worker is back


def test_cancel_of_an_unknown_id_is_ignored(host: HostFactory) -> None:
    peer = host("echo").connect()
    peer.send((Atom("cancel"), 5))
    assert peer.call(5, ECHO, 1) == (OK, 1)


def test_a_queued_call_expires_at_its_deadline_and_never_runs(gated: HostFactory, gate: Gate) -> None:
    peer = gated().connect()
    peer.send(call(1, WAIT), call(2, NOTE, 5, {Atom("timeout"): 20}))
    assert peer.receive() == (Atom("failed"), 2, Atom("expired"))
    gate.open()
    assert peer.receive() == (Atom("reply"), 1, OK)
    assert peer.call(3, NOTES) == []


def test_a_call_without_time_left_never_runs(gated: HostFactory) -> None:
    peer = gated().connect()
    peer.send(call(1, NOTE, 5, {Atom("timeout"): 0}))
    assert peer.receive() == (Atom("failed"), 1, Atom("expired"))
    assert peer.call(2, NOTES) == []


def test_the_driver_sees_the_deadline(gated: HostFactory) -> None:
    peer = gated().connect()
    assert peer.call(1, HAS_DEADLINE, 0, {Atom("timeout"): 60_000}) is True
    assert peer.call(2, HAS_DEADLINE, 0, {}) is False


@pytest.mark.parametrize(
    ("cmd", "opts"),
    [
        (1 << 30, {}),
        (-1, {}),
        (1 << 40, {}),
        (Atom("sum"), {}),
        (1, {Atom("timeout"): -1}),
        (1, {Atom("timeout"): Atom("infinity")}),
        (1, {Atom("key"): 1 << 32}),
        (1, [1]),
    ],
)
def test_a_bad_request_fails_alone(host: HostFactory, cmd: object, opts: object) -> None:
    peer = host("echo").connect()
    peer.send((Atom("call"), 1, cmd, 0, opts))
    assert peer.receive() == (Atom("failed"), 1, Atom("bad_request"))
    assert peer.call(1, ECHO, 2) == (OK, 2)


def test_over_the_calls_in_flight_a_call_is_overloaded(gated: HostFactory, gate: Gate) -> None:
    peer = gated(in_flight=2).connect()
    peer.send(call(1, WAIT), call(2, SEAT), call(3, SEAT))
    assert peer.receive() == (Atom("failed"), 3, Atom("overloaded"))
    gate.open()
    assert {peer.receive()[1], peer.receive()[1]} == {1, 2}
    assert peer.call(3, SEAT) == 0


def test_over_the_bytes_in_flight_a_call_is_overloaded(host: HostFactory) -> None:
    peer = host("echo", in_flight_bytes=1000).connect()
    assert peer.call(1, ECHO, b"x" * 1001) == (Atom("failed"), Atom("overloaded"))
    assert peer.call(1, ECHO, b"x" * 900) == (OK, b"x" * 900)


def test_over_the_queue_calls_are_overloaded_and_casts_wait(gated: HostFactory, gate: Gate) -> None:
    process = gated(queue=10)
    blocker, peer = process.connect(), process.connect()
    blocker.send(call(1, WAIT), (Atom("ping"), 1))
    assert blocker.receive() == (Atom("pong"), 1)
    peer.send(*(call(i, SEAT) for i in range(100)))  # more than the host holds
    assert peer.receive()[2] == Atom("overloaded")
    blocker.send(*(cast(NOTE, i) for i in range(200)))
    gate.open()
    assert blocker.receive() == (Atom("reply"), 1, OK)
    outcomes = {peer.receive()[0] for _ in range(99)}
    assert outcomes == {Atom("reply"), Atom("failed")}
    while (notes := blocker.call(2, NOTES)) == (Atom("failed"), Atom("overloaded")):
        pass  # the last casts still fill the queue
    assert notes == list(range(200))
