# SPDX-License-Identifier: MIT
"""Parts of a reply come in order, ahead of it, and never more of them than the caller has given credit for."""

from __future__ import annotations

import select

import pytest

from conftest import Gate, HostFactory
from gendriverd.etf import Atom
from host_process import HostProcess, Peer, call, cast, resident
from streams import (
    ALL,
    BAD_PARTS,
    CODES,
    EGONE,
    ELIMIT,
    ENOPARTS,
    ETYPE,
    GATE,
    NOTES,
    OK,
    OWN_WRITER,
    RUN,
    TAKES,
    UNTIL_CANCELLED,
    cancel,
    credit,
    failed,
    part,
    parts,
    receive,
    replies,
    reply,
    stream,
    synced,
)

SHORT = 100  # ms


def told(process: HostProcess, count: int = 1) -> list[int]:
    """How the first so many runs came to their end; another connection asks."""
    codes = process.connect().call(1, CODES, count)
    assert isinstance(codes, list)
    return codes


def begun(peer: Peer, call_id: int, given: int) -> None:
    """All that was given credit for is there, and no more comes."""
    assert receive(peer, given) == [part(call_id, number) for number in range(given)]
    assert synced(peer) == []


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


# --- when nobody takes them any more ------------------------------------------


def test_a_stream_that_waits_is_told_of_its_cancel(host: HostFactory) -> None:
    process = host("streams")
    peer = process.connect()
    peer.send(stream(1, 2, parts(5)))
    begun(peer, 1, 2)
    peer.send(cancel(1))
    assert peer.receive() == failed(1, "interrupted")
    assert told(process) == [EGONE]
    peer.send(credit(1, 5))
    assert synced(peer) == []


def test_a_stream_that_computes_finds_that_it_was_cancelled(host: HostFactory) -> None:
    process = host("streams")
    peer = process.connect()
    peer.send(stream(1, 9, UNTIL_CANCELLED, parts(5)), cancel(1))
    assert peer.receive() in (failed(1, "interrupted"), failed(1, "cancelled"))  # the other: it had not begun
    assert synced(peer) == []


def test_a_client_that_has_half_closed_gets_what_it_gave_credit_for(host: HostFactory) -> None:
    process = host("streams")
    peer = process.connect(tcp=True)
    peer.send(stream(1, 2, parts(100)), credit(1, 98))
    peer.done_sending()
    assert peer.receive_all() == [*(part(1, number) for number in range(100)), reply(1)]


def test_credit_that_waits_to_be_read_counts_behind_a_half_close(host: HostFactory) -> None:
    """What the client has not read holds it up."""
    process = host("streams", unsent_bytes=1_000)
    peer = process.connect(tcp=True)
    peer.send(stream(1, 1, parts(3, 4_000_000)))
    first = peer.sock.recv(1)
    peer.send(credit(1, 1), credit(1, 1))
    peer.done_sending()
    peer.unread(first)
    assert peer.receive_all() == [*[part(1, bytes(4_000_000))] * 3, reply(1)]


def test_a_client_that_half_closes_short_of_credit_is_told_that_parts_are_missing(host: HostFactory) -> None:
    process = host("streams")
    peer = process.connect(tcp=True)
    peer.send(stream(1, 2, parts(3)))
    begun(peer, 1, 2)
    peer.done_sending()
    assert peer.receive_all() == [failed(1, "interrupted")]
    assert told(process) == [EGONE]


@pytest.mark.parametrize("tcp", [False, True])
def test_a_stream_whose_client_is_gone_ends(host: HostFactory, tcp: bool) -> None:
    process = host("streams")
    peer = process.connect(tcp=tcp)
    peer.send(stream(1, 1, parts(2)))
    begun(peer, 1, 1)
    peer.reset() if tcp else peer.close()
    assert told(process) == [EGONE]


def test_a_stream_whose_client_ended_without_reading_ends(host: HostFactory) -> None:
    process = host("streams", unsent_bytes=10_000)
    peer = process.connect(tcp=True)
    peer.send(stream(1, ALL, parts(100_000, 10_000)))
    assert peer.receive() == part(1, bytes(10_000))
    peer.reset()
    assert told(process) == [EGONE]


def test_a_bad_frame_cuts_a_stream_that_lacks_credit(host: HostFactory) -> None:
    process = host("streams")
    peer = process.connect()
    peer.send(stream(1, 1, parts(2)))
    begun(peer, 1, 1)
    peer.send((Atom("what"), 1))
    assert peer.receive_all() == [failed(1, "interrupted"), (Atom("goodbye"), Atom("bad_envelope"))]


def test_who_gives_no_credit_for_too_long_is_told_timeout(host: HostFactory) -> None:
    process = host("streams", unsent_ms=SHORT)
    peer = process.connect()
    peer.send(stream(1, 2, parts(3)))
    assert receive(peer, 3) == [part(1, 0), part(1, 1), failed(1, "timeout")]
    assert told(process) == [EGONE]
    assert peer.call(1, TAKES) is False  # the connection is well, and the id is free


def test_small_talk_does_not_prolong_the_time_for_credit(host: HostFactory) -> None:
    process = host("streams", unsent_ms=SHORT)
    peer = process.connect()
    peer.send(stream(1, 1, parts(2)))
    assert peer.receive() == part(1, 0)
    number = 2
    while True:  # the test's own limit ends it if not the host
        peer.send(call(number, TAKES))
        if (frame := peer.receive()) == failed(1, "timeout"):
            break
        assert frame == reply(number, False)
        number += 1


def test_a_client_that_takes_no_byte_for_too_long_ends_with_its_stream(host: HostFactory) -> None:
    process = host("streams", unsent_bytes=100_000, unsent_ms=SHORT)
    deaf = process.connect()
    deaf.send(stream(1, ALL, parts(10_000, 10_000)))
    assert process.hear("closed")[2] == "unread"
    assert told(process) == [EGONE]


def test_a_slow_reader_is_waited_for_as_long_as_it_reads(host: HostFactory) -> None:
    """Another stream, that is given no credit, tells when what one may wait without a sign has passed."""
    process = host("streams", unsent_bytes=1, unsent_ms=1_000, threads=3)
    slow, clock, other = process.connect(), process.connect(), process.connect()
    size, read = 32 << 20, b""
    slow.send(stream(1, ALL, parts(2, size)))
    for struck in range(2):
        clock.send(stream(struck, 1, parts(2)))
        assert clock.receive() == part(struck, 0)
        while not select.select([clock.sock], [], [], 0)[0]:
            read += slow.sock.recv(1 << 14)
            assert other.call(1, NOTES, (0, 0, OK)) == 0
            for number in range(50):
                other.send(cancel(number))
            assert synced(other) == []
        assert clock.receive() == failed(struck, "timeout")
    assert len(read) < size  # the second part waits all the time
    slow.unread(read)
    assert receive(slow, 3) == [part(1, bytes(size)), part(1, bytes(size)), reply(1)]


# --- drain and stop ---------------------------------------------------------------


def test_a_stream_goes_on_while_its_host_drains(host: HostFactory) -> None:
    process = host("streams")
    peer = process.connect(tcp=True)
    peer.send(stream(1, 1, parts(50)))
    assert peer.receive() == part(1, 0)
    process.tell(Atom("drain"), 20_000)
    assert peer.receive() == (Atom("goodbye"), Atom("draining"))
    for number in range(1, 50):
        peer.send(credit(1, 1))
        assert peer.receive() == part(1, number)
    assert peer.receive() == reply(1)
    peer.done_sending()
    assert peer.receive_all() == []
    assert process.wait() == 0


def test_credit_for_all_lets_a_client_half_close_at_once_when_its_host_drains(host: HostFactory) -> None:
    process = host("streams")
    peer = process.connect(tcp=True)
    peer.send(stream(1, 1, parts(5_000, 1_000)))
    assert peer.receive() == part(1, bytes(1_000))
    process.tell(Atom("drain"), 20_000)
    assert peer.receive() == (Atom("goodbye"), Atom("draining"))
    peer.send(credit(1, ALL))
    peer.done_sending()
    assert peer.receive_all() == [*[part(1, bytes(1_000))] * 4_999, reply(1)]
    assert process.wait() == 0


def test_past_the_drain_limit_a_stream_without_credit_is_cut(host: HostFactory) -> None:
    process = host("streams")
    peer = process.connect()
    peer.send(stream(1, 1, parts(5)))
    begun(peer, 1, 1)
    process.tell(Atom("drain"), SHORT)
    assert peer.receive() == (Atom("goodbye"), Atom("draining"))
    assert peer.receive_all() == [failed(1, "interrupted"), (Atom("goodbye"), Atom("stopping"))]
    peer.close()
    assert process.wait() == 0


def test_stop_cuts_what_lacks_credit_and_lets_the_rest_come_to_its_end(host: HostFactory, gate: Gate) -> None:
    process = host("streams", threads=2, settings={"gate": str(gate.path)})
    peer = process.connect()
    peer.send(stream(1, 1, parts(5)))
    begun(peer, 1, 1)
    peer.send(stream(2, 5, GATE, parts(5)))
    gate.reached()
    process.tell(Atom("stop"), 20_000)
    assert peer.receive() == failed(1, "interrupted")
    gate.open()
    goodbye = (Atom("goodbye"), Atom("stopping"))
    assert peer.receive_all() == [*(part(2, number) for number in range(5)), reply(2), goodbye]
    peer.close()
    assert process.wait() == 0


def test_past_the_stop_limit_a_stream_that_sends_is_interrupted(host: HostFactory) -> None:
    """One that its client does not read: it has credit, so stop alone does not cut it."""
    process = host("streams", unsent_bytes=1_000)
    peer = process.connect()
    peer.send(stream(1, ALL, parts(100_000, 50_000)))
    assert peer.receive() == part(1, bytes(50_000))
    process.tell(Atom("stop"), SHORT)
    assert process.wait() == 0
