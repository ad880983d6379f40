# SPDX-License-Identifier: MIT
"""Who floods a host makes the others wait for his turn, not for all that he sent; and the queue has room for them."""

from __future__ import annotations

from typing import Any

import pytest

from conftest import Gate, HostFactory
from gendriverd.etf import Atom
from host_process import HostProcess, Peer, call, cast

OK, KEY = Atom("ok"), Atom("key")
OVERLOADED = (Atom("failed"), Atom("overloaded"))
WAIT, NOTE, NOTES, LOOP_WAITS = 1, 2, 3, 10
MANY = 500
OTHERS = -1  # the number that the other connection notes
SURE = 1_000_000  # ns: the longest that `short` may be


def synced(peer: Peer) -> None:
    """All that was sent before is in its queue."""
    peer.send((Atom("ping"), 0))
    assert peer.receive() == (Atom("pong"), 0)


def flooded(process: HostProcess, gate: Gate, options: dict[Any, Any] | None) -> Peer:
    """A connection with many requests behind one that has the only worker."""
    flooder = process.connect()
    flooder.send(call(0, WAIT))
    gate.reached()
    flooder.send(*(cast(NOTE, i, options) for i in range(MANY)))
    synced(flooder)
    return flooder


def noted(peer: Peer) -> list[int]:
    """What ran, in order, once all of it did."""
    while len(notes := peer.call(9, NOTES)) < MANY + 1:
        pass
    return list(notes)


@pytest.mark.parametrize("of_flooder", [None, {KEY: 0}], ids=["flood without a key", "flood with a key"])
@pytest.mark.parametrize("of_other", [None, {KEY: 0}, {KEY: 1}], ids=["no key", "the same key", "another key"])
def test_a_flood_of_one_connection_makes_another_wait_for_one_turn(
    gated: HostFactory, gate: Gate, of_flooder: dict[Any, Any] | None, of_other: dict[Any, Any] | None
) -> None:
    process = gated(short=0)
    other = process.connect()
    flooder = flooded(process, gate, of_flooder)
    other.send(call(1, NOTE, OTHERS, of_other))
    synced(other)
    gate.open()
    assert other.receive() == (Atom("reply"), 1, OK)
    notes = noted(other)
    assert notes.index(OTHERS) <= 2
    assert [n for n in notes if n != OTHERS] == list(range(MANY))
    assert flooder.receive() == (Atom("reply"), 0, OK)


def test_many_connections_have_a_turn_each(gated: HostFactory, gate: Gate) -> None:
    process = gated(short=0)
    others = [process.connect() for _ in range(10)]
    flooded(process, gate, None)
    for number, other in enumerate(others):
        other.send(*(call(i, NOTE, MANY + 10 * number + i) for i in range(3)))
        synced(other)
    gate.open()
    for other in others:
        assert {other.receive()[1] for _ in range(3)} == {0, 1, 2}
    notes = noted(others[0])
    assert max(notes.index(MANY + 10 * number + 2) for number in range(10)) <= 3 * 11
    for number in range(10):
        ours = [MANY + 10 * number + i for i in range(3)]
        assert [n for n in notes if n in ours] == ours


def test_what_the_loop_runs_itself_and_what_it_reads_goes_in_turns_too(gated: HostFactory, gate: Gate) -> None:
    process = gated(threads=2, short=SURE)
    flooder, other = process.connect(), process.connect()
    for i in range(50):
        flooder.call(i, NOTES)
        flooder.send(cast(NOTE, 0))  # known to be short
    synced(flooder)
    before = len(flooder.call(1, NOTES))
    flooder.send(call(0, LOOP_WAITS))
    gate.reached()
    flooder.send(*(cast(NOTE, 1) for _ in range(4000)))
    other.send(call(1, NOTE, OTHERS))
    gate.open()
    assert other.receive() == (Atom("reply"), 1, OK)
    while len(notes := other.call(9, NOTES)) < before + 4001:
        pass
    assert notes.index(OTHERS) - before < 2000


# --- the queue ---------------------------------------------------------------


def fill(peer: Peer, number: int = 1) -> int:
    """Queue calls until one is refused; how many were not."""
    while True:
        peer.send(call(number, NOTE, number), (Atom("ping"), 0))
        if peer.receive()[0] == "failed":
            assert peer.receive() == (Atom("pong"), 0)
            return number
        number += 1


def test_one_connection_alone_may_fill_the_queue(gated: HostFactory, gate: Gate) -> None:
    peer = gated(queue=64).connect()
    peer.send(call(0, WAIT))
    gate.reached()
    assert fill(peer) >= 64
    gate.open()


def test_a_connection_that_has_nothing_in_a_full_queue_gets_in(gated: HostFactory, gate: Gate) -> None:
    process = gated(queue=64, connections=64, short=0)
    flooder, others = process.connect(), [process.connect() for _ in range(50)]
    flooder.send(call(0, WAIT))
    gate.reached()
    queued = fill(flooder)
    for number, other in enumerate(others):
        other.send(call(1, NOTE, 1000 + number))
        synced(other)  # nothing before the pong: it was not refused
    gate.open()
    assert {other.receive() for other in others} == {(Atom("reply"), 1, OK)}
    assert {flooder.receive()[1] for _ in range(queued)} == set(range(queued))


def test_of_a_queue_that_is_nearly_full_the_one_with_more_than_its_share_gets_none(
    gated: HostFactory, gate: Gate
) -> None:
    process = gated(queue=64)
    flooder, other = process.connect(), process.connect()
    flooder.send(call(0, WAIT))
    gate.reached()
    flooder.send(*(call(i, NOTE, i) for i in range(1, 61)))
    synced(flooder)
    other.send(call(1, NOTE, 1000))
    synced(other)
    assert flooder.call(61, NOTE, 61) == OVERLOADED
    for i in range(2, 8):
        other.send(call(i, NOTE, 1000 + i))
        synced(other)
    assert flooder.call(62, NOTE, 62) == OVERLOADED
    gate.open()
    assert {other.receive()[1] for _ in range(7)} == set(range(1, 8))


def test_casts_of_a_flooder_wait_where_others_calls_get_in(gated: HostFactory, gate: Gate) -> None:
    process = gated(queue=64, short=0)
    flooder, other = process.connect(), process.connect()
    flooder.send(call(0, WAIT))
    gate.reached()
    flooder.send(*(cast(NOTE, i) for i in range(MANY)))
    for i in range(3):
        other.send(call(1 + i, NOTE, OTHERS - i), (Atom("cancel"), 1 + i))
        assert other.receive() == (Atom("failed"), 1 + i, Atom("cancelled"))
    other.send(call(9, NOTE, OTHERS))
    synced(other)
    gate.open()
    assert other.receive() == (Atom("reply"), 9, OK)
    assert [n for n in noted(other) if n != OTHERS] == list(range(MANY))
    assert flooder.receive() == (Atom("reply"), 0, OK)
