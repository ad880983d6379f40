# SPDX-License-Identifier: MIT
"""The worker pool: seats, round robin, keys in order, thread state, and that one slow call holds up no other."""

from __future__ import annotations

import itertools
import random

from conftest import Gate, HostFactory
from gendriverd.etf import Atom
from host_process import call, cast

OK = Atom("ok")
WAIT, NOTE, NOTES, SEAT = range(1, 5)
THREAD_CALLS, NOTE_WAIT = 7, 8
KEY = Atom("key")


def test_requests_one_after_another_go_round_the_seats(gated: HostFactory) -> None:
    peer = gated(threads=4, short=0).connect()
    seats = [peer.call(i, SEAT) for i in range(12)]
    assert set(seats) == {0, 1, 2, 3}
    assert all(seat != after for seat, after in itertools.pairwise(seats))


def test_a_key_is_always_in_the_seat_key_modulo_threads(gated: HostFactory) -> None:
    peer = gated(threads=3).connect()
    for key in (0, 1, 2, 3, 7, 1000, (1 << 32) - 1):
        assert peer.call(1, SEAT, 0, {KEY: key}) == key % 3


def test_requests_of_one_key_run_in_order(gated: HostFactory) -> None:
    process = gated(threads=4)
    peer = process.connect()
    keys = [random.Random(7).randrange(4) for _ in range(2000)]
    peer.send(*(cast(NOTE, i, {KEY: keys[i]}) for i in range(2000)))
    for key in range(4):
        assert peer.call(key, SEAT, 0, {KEY: key}) == key  # behind all of its key
    notes = peer.call(9, NOTES)
    for key in range(4):
        ours = [i for i in range(2000) if keys[i] == key]
        assert [i for i in notes if keys[i] == key] == ours


def test_a_slow_call_holds_up_no_request_without_its_key(gated: HostFactory, gate: Gate) -> None:
    peer = gated(threads=2).connect()
    peer.send(call(0, WAIT))
    for i in range(1, 50):
        assert peer.call(i, SEAT) == 1
    gate.open()
    assert peer.receive() == (Atom("reply"), 0, OK)


def test_requests_behind_a_slow_one_of_their_key_wait_for_it(gated: HostFactory, gate: Gate) -> None:
    peer = gated(threads=2).connect()
    peer.send(call(0, NOTE_WAIT, 0, {KEY: 0}), call(1, NOTE, 1, {KEY: 0}), call(2, NOTE, 2, {KEY: 1}))
    assert peer.receive() == (Atom("reply"), 2, OK)
    gate.open()
    assert {peer.receive()[1], peer.receive()[1]} == {0, 1}
    notes = peer.call(3, NOTES)
    assert notes.index(0) < notes.index(1)


def test_thread_state_belongs_to_its_seat(gated: HostFactory) -> None:
    peer = gated(threads=3).connect()
    for round_ in range(1, 5):
        for seat in range(3):
            assert peer.call(1, THREAD_CALLS, 0, {KEY: seat}) == round_


def test_the_seeds_numbers_with_one_thread_and_with_four(host: HostFactory) -> None:
    for threads, thread_calls in ((1, 2), (4, 0)):
        peer = host("sum", threads=threads).connect()
        assert peer.call(1, 1, [1, 2, 3, 4]) == (OK, 10.0)
        assert peer.call(2, 2) == OK
        driver, thread = peer.call(3, 3)[1]
        assert driver == (Atom("driver"), 2)
        assert thread == (Atom("thread"), thread_calls)


def test_balance_decides_the_seat(host: HostFactory) -> None:
    peer = host("legacy_key", threads=4).connect()
    for _ in range(3):
        assert peer.call(1, 1026) == (OK, 1026)
    assert peer.call(2, 2) == (OK, [(Atom("calls"), 3), (Atom("casts"), 0)])
    assert peer.call(3, 3) == (OK, [(Atom("calls"), 0), (Atom("casts"), 0)])


def test_many_clients_at_once_get_their_own_answers(host: HostFactory) -> None:
    process = host("echo", threads=4)
    peers = [process.connect(tcp=n % 2 == 0) for n in range(20)]
    for n, peer in enumerate(peers):
        peer.send(*(call(i, 1, [n, i]) for i in range(200)))
        peer.done_sending()
    for n, peer in enumerate(peers):
        replies = {reply[1]: reply[2] for reply in peer.receive_all()}
        assert replies == {i: (OK, [n, i]) for i in range(200)}
