# SPDX-License-Identifier: MIT
"""Parts of a reply come in order, ahead of it, and never more of them than the caller has given credit for."""

from __future__ import annotations

import pytest

from conftest import Gate, HostFactory
from gendriverd.etf import Atom
from host_process import call, cast, resident
from streams import (
    ALL,
    BAD_PARTS,
    ELIMIT,
    ENOPARTS,
    ETYPE,
    GATE,
    OK,
    OWN_WRITER,
    RUN,
    TAKES,
    begun,
    credit,
    part,
    parts,
    receive,
    replies,
    reply,
    stream,
    synced,
    told,
)


def test_parts_come_in_order_and_then_the_reply(host: HostFactory) -> None:
    peer = host("streams").connect()
    peer.send(stream(7, ALL, parts(1000), replies((OK, 1000))))
    assert receive(peer, 1001) == [*(part(7, number) for number in range(1000)), reply(7, (OK, 1000))]


def test_a_stream_that_says_nothing_more_ends_with_ok(host: HostFactory) -> None:
    peer = host("streams").connect()
    peer.send(stream(1, 2, parts(2)))
    assert receive(peer, 3) == [part(1, 0), part(1, 1), reply(1)]


def test_no_part_comes_beyond_the_credit(host: HostFactory) -> None:
    peer = host("streams").connect()
    peer.send(stream(1, 3, parts(10)))
    begun(peer, 1, 3)
    peer.send(credit(1, 2))
    assert receive(peer, 2) == [part(1, 3), part(1, 4)]
    assert synced(peer) == []
    peer.send(credit(1, 4), credit(1, 1))
    assert receive(peer, 6) == [*(part(1, number) for number in range(5, 10)), reply(1)]


def test_credit_that_is_given_one_by_one_is_used_one_by_one(host: HostFactory) -> None:
    peer = host("streams").connect()
    peer.send(stream(1, 1, parts(500)))
    for number in range(500):
        assert peer.receive() == part(1, number)
        peer.send(credit(1, 1))
    assert peer.receive() == reply(1)


def test_credit_stays_at_its_most(host: HostFactory, gate: Gate) -> None:
    peer = host("streams", settings={"gate": str(gate.path)}).connect()
    peer.send(stream(1, ALL, GATE, parts(3)), credit(1, 1))
    assert synced(peer) == []
    gate.open()
    assert receive(peer, 4) == [part(1, 0), part(1, 1), part(1, 2), reply(1)]


def test_credit_may_follow_its_call_at_once(host: HostFactory, gate: Gate) -> None:
    process = host("streams", threads=1, settings={"gate": str(gate.path)})
    peer = process.connect()
    peer.send(stream(1, 1, GATE), stream(2, 1, parts(3)), credit(2, 2))  # it has not begun
    gate.open()
    assert receive(peer, 5) == [reply(1), part(2, 0), part(2, 1), part(2, 2), reply(2)]


def test_credit_for_what_takes_no_parts_is_ignored(host: HostFactory, gate: Gate) -> None:
    process = host("streams", threads=1, settings={"gate": str(gate.path)})
    peer = process.connect()
    peer.send(credit(5, 1), call(1, RUN, [GATE, parts(1)]), credit(1, 10))
    assert synced(peer) == []
    gate.open()
    assert peer.receive() == reply(1, 0)  # nothing was taken from what was put: it is the reply
    assert told(process) == [ENOPARTS]


def test_who_asks_for_no_parts_gets_none(host: HostFactory) -> None:
    process = host("streams")
    peer = process.connect()
    assert peer.call(1, TAKES) is False
    assert peer.call(2, TAKES, [], {Atom("parts"): 1}) is True
    assert peer.call(3, RUN, [parts(1)]) == 0
    assert told(process) == [ENOPARTS]


def test_a_cast_has_no_parts(host: HostFactory) -> None:
    process = host("streams")
    peer = process.connect()
    peer.send(cast(RUN, [parts(1)], {Atom("parts"): 5}))
    assert told(process) == [ENOPARTS]
    assert synced(peer) == []


@pytest.mark.parametrize("wrong", [0, 2**32, -1, Atom("all")])
def test_credit_out_of_range_is_a_bad_request(host: HostFactory, wrong: object) -> None:
    peer = host("streams").connect()
    assert peer.call(1, RUN, [parts(1)], {Atom("parts"): wrong}) == (Atom("failed"), Atom("bad_request"))
    assert peer.call(1, TAKES) is False


@pytest.mark.parametrize("wrong", [0, 2**32, Atom("all")])
def test_more_credit_out_of_range_ends_the_connection(host: HostFactory, wrong: object) -> None:
    peer = host("streams").connect()
    peer.send((Atom("credit"), 1, wrong))
    assert peer.receive() == (Atom("goodbye"), Atom("bad_envelope"))


def test_what_is_no_part_is_said_to_the_driver_and_not_to_the_caller(host: HostFactory) -> None:
    peer = host("streams", reply=10_000).connect()
    assert peer.call(1, BAD_PARTS, [], {Atom("parts"): 9}) == (ETYPE, ETYPE, ELIMIT)


def test_a_writer_of_the_drivers_own_serves_as_well(host: HostFactory) -> None:
    peer = host("streams").connect()
    peer.send(call(1, OWN_WRITER, [], {Atom("parts"): 9}))
    assert receive(peer, 3) == [part(1, list(b"part")), part(1, list(b"part")), reply(1, (OK, 2))]


@pytest.mark.parametrize("size", [1_000, 3_000, 100_000, 5_000_000])  # copied, handed over
def test_large_parts_arrive_whole(host: HostFactory, size: int) -> None:
    peer = host("streams", unsent_bytes=50_000).connect(tcp=True)
    peer.send(stream(1, ALL, parts(20, size)))
    assert receive(peer, 21) == [*[part(1, bytes(size))] * 20, reply(1)]


def test_streams_and_calls_share_a_connection(host: HostFactory) -> None:
    process = host("streams", threads=3)
    peer = process.connect()
    peer.send(stream(1, 5, parts(400)), stream(2, 5, parts(400, 5_000)))
    came: dict[int, int] = {1: 0, 2: 0}
    replies_of = []
    for _ in range(800 + 2 + 800):  # parts, their streams' replies, and a call for each part
        tag, call_id, term = peer.receive()
        if tag == "part":
            assert term == (came[call_id] if call_id == 1 else bytes(5_000))
            came[call_id] += 1
            peer.send(credit(call_id, 1), call(1_000 + came[1] + came[2], TAKES))
        else:
            assert (tag, term) == ("reply", OK if call_id < 1_000 else False)
            assert call_id > 2 or came[call_id] == 400
            replies_of.append(call_id)
    assert sorted(replies_of) == [1, 2, *range(1_001, 1_801)]


def test_a_stream_that_waits_holds_nobody_up(host: HostFactory) -> None:
    process = host("streams", threads=2)
    peer = process.connect()
    peer.send(stream(1, 1, parts(2)))
    assert peer.receive() == part(1, 0)
    for number in range(2, 200):
        assert peer.call(number, TAKES) is False
    peer.send(credit(1, 1))
    assert receive(peer, 2) == [part(1, 1), reply(1)]


def test_a_client_that_does_not_read_is_waited_for_and_costs_no_memory(host: HostFactory) -> None:
    process = host("streams", unsent_bytes=100_000)
    peer, other = process.connect(tcp=True), process.connect()
    before = resident(process.process.pid)
    peer.send(stream(1, ALL, parts(3_000, 100_000)))
    assert peer.receive() == part(1, bytes(100_000))
    most = 0
    for number in range(500):
        assert other.call(number, TAKES) is False
        most = max(most, resident(process.process.pid))
    assert most - before < 50 << 20
    assert len(receive(peer, 3_000)) == 3_000
