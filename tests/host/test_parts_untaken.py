# SPDX-License-Identifier: MIT
"""Parts that nobody takes any more, or not in time, or whose host leaves: the stream ends, and its caller is told."""

from __future__ import annotations

import select

import pytest

from conftest import Gate, HostFactory
from gendriverd.etf import Atom
from host_process import call
from streams import (
    ALL,
    EGONE,
    GATE,
    NOTES,
    OK,
    TAKES,
    UNTIL_CANCELLED,
    begun,
    cancel,
    credit,
    failed,
    part,
    parts,
    receive,
    reply,
    stream,
    synced,
    told,
)

SHORT = 100  # ms


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
