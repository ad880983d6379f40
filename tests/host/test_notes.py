# SPDX-License-Identifier: MIT
"""Notes go to the connections that asked for them, from any thread of the driver, and wait for none of them."""

from __future__ import annotations

import contextlib

import pytest

from conftest import HostFactory
from gendriverd.etf import Atom
from host_process import HostProcess, Peer, call
from streams import (
    BAD_NOTES,
    CLIENT,
    ETYPE,
    NOTE,
    NOTES,
    note,
    notes,
    parts,
    receive,
    reply,
    stream,
    synced,
)

NEWS = (Atom("news"), 1)


def listener(process: HostProcess, *, tcp: bool = False) -> Peer:
    peer = process.connect(tcp=tcp)
    peer.send(notes(True))
    assert synced(peer) == []
    return peer


def test_who_did_not_ask_gets_none(host: HostFactory) -> None:
    process = host("streams")
    peer = process.connect()
    assert peer.call(1, NOTES, (0, 5, NEWS)) == 0
    assert synced(peer) == []


def test_all_that_asked_get_it(host: HostFactory) -> None:
    process = host("streams")
    asked, other = [listener(process) for _ in range(3)], process.connect()
    assert other.call(1, NOTES, (0, 2, NEWS)) == 6
    for peer in asked:
        assert synced(peer) == [note(NEWS), note(NEWS)]
    assert synced(other) == []


def test_who_asks_no_longer_gets_no_more(host: HostFactory) -> None:
    process = host("streams")
    peer = listener(process)
    peer.send(notes(False), call(1, NOTES, (0, 1, NEWS)))
    assert peer.receive() == reply(1, 0)
    peer.send(notes(True), notes(True))
    assert synced(peer) == []
    peer.send(call(2, NOTES, (0, 1, NEWS)))
    assert receive(peer, 2) == [note(NEWS), reply(2, 1)]


def test_a_note_goes_to_one_client_alone(host: HostFactory) -> None:
    process = host("streams")
    first, second = listener(process), listener(process)
    first.send(call(1, NOTE, b"mine"))
    assert receive(first, 2) == [note(b"mine"), reply(1, 1)]
    client = second.call(1, CLIENT)
    assert first.call(2, NOTES, (client, 3, NEWS)) == 3
    assert synced(second) == [note(NEWS)] * 3
    assert synced(first) == []


def test_one_that_did_not_ask_gets_none_by_its_number_either(host: HostFactory) -> None:
    peer = host("streams").connect()
    assert peer.call(1, NOTE, NEWS) == 0
    assert synced(peer) == []


def test_a_number_is_never_0_and_never_given_again(host: HostFactory) -> None:
    process = host("streams", connections=3)
    other, steady = process.connect(), listener(process)
    seen = {other.call(1, CLIENT), steady.call(1, CLIENT)}
    for _ in range(50):  # all in one slot
        peer = listener(process)
        client = peer.call(1, CLIENT)
        assert client == peer.call(2, CLIENT)
        seen.add(client)
        peer.close()
        process.hear("closed")
    assert len(seen) == 52
    assert 0 not in seen
    newest = listener(process)
    assert sum(other.call(1, NOTES, (client, 1, NEWS)) for client in seen) == 1
    assert synced(steady) == [note(NEWS)]
    assert synced(newest) == []


@pytest.mark.parametrize("client", [2**32, 64, 65, 2**63 + 1, 2**64 - 1])
def test_a_number_that_is_nobodys_is_no_error(host: HostFactory, client: int) -> None:
    peer = listener(host("streams"))
    assert peer.call(1, NOTES, (client, 1, NEWS)) == 0


def test_what_is_no_note_is_said_to_the_driver(host: HostFactory) -> None:
    peer = listener(host("streams"))
    peer.send(call(1, BAD_NOTES))
    assert receive(peer, 2) == [note(Atom("whole")), reply(1, (ETYPE, ETYPE, 1))]


def test_a_note_larger_than_a_reply_may_be_is_none(host: HostFactory) -> None:
    peer = listener(host("streams", reply=1_000))
    assert peer.call(1, NOTES, (0, 1, b"x" * 2_000)) < 0
    assert synced(peer) == []


@pytest.mark.parametrize("wrong", [1, Atom("maybe"), b"true"])
def test_to_ask_for_them_in_another_way_ends_the_connection(host: HostFactory, wrong: object) -> None:
    peer = host("streams").connect()
    peer.send((Atom("notes"), wrong))
    assert peer.receive() == (Atom("goodbye"), Atom("bad_envelope"))


def test_a_client_that_does_not_read_loses_notes_and_holds_up_nobody(host: HostFactory) -> None:
    process = host("streams", unsent_bytes=50_000)
    deaf, other = listener(process), listener(process)
    client = other.call(1, CLIENT)
    deaf_client = deaf.call(1, CLIENT)
    given = other.call(2, NOTES, (deaf_client, 2_000, b"x" * 1_000))
    assert 50 <= given < 1_900
    other.send(call(3, NOTES, (client, 100, NEWS)))
    assert receive(other, 101) == [*[note(NEWS)] * 100, reply(3, 100)]
    _, level, event, values = process.hear("log")
    assert (level, event, values) == (Atom("warning"), b"notes_lost", {Atom("conn"): 1})
    assert synced(deaf) == [note(b"x" * 1_000)] * given  # the first ones, and it is well
    deaf.send(call(2, NOTES, (deaf_client, 1, NEWS)))
    assert receive(deaf, 2) == [note(NEWS), reply(2, 1)]
    deaf.close()
    assert process.hear("closed")[3][Atom("notes_lost")] == 2_000 - given


def test_notes_that_nobody_reads_end_the_connection_in_time(host: HostFactory) -> None:
    process = host("streams", unsent_bytes=50_000, unsent_ms=100)
    deaf, other = listener(process), process.connect()
    assert other.call(1, NOTES, (0, 2_000, b"x" * 1_000)) < 2_000
    assert process.hear("closed")[1:3] == (1, Atom("unread"))
    assert deaf is not other


def test_none_come_behind_the_half_close(host: HostFactory) -> None:
    process = host("streams", threads=1)
    peer, other = listener(process, tcp=True), process.connect()
    peer.send(call(1, NOTES, (0, 1, NEWS)))
    assert receive(peer, 2) == [note(NEWS), reply(1, 1)]
    peer.done_sending()
    assert peer.receive_all() == []
    assert other.call(1, NOTES, (0, 1, NEWS)) == 0


def test_none_come_behind_the_goodbye(host: HostFactory) -> None:
    process = host("streams")
    peer, other = listener(process), process.connect()
    peer.send((Atom("what"), 1))
    assert peer.receive() == (Atom("goodbye"), Atom("bad_envelope"))
    assert other.call(1, NOTES, (0, 1, NEWS)) == 0
    assert peer.receive_all() == []


def test_a_connection_that_drains_has_its_notes(host: HostFactory) -> None:
    process = host("streams")
    peer = listener(process, tcp=True)
    process.tell(Atom("drain"), 20_000)
    assert peer.receive() == (Atom("goodbye"), Atom("draining"))
    peer.send(call(1, NOTES, (0, 1, NEWS)))
    assert receive(peer, 2) == [note(NEWS), reply(1, 1)]
    peer.done_sending()
    assert peer.receive_all() == []
    assert process.wait() == 0


def test_a_thread_of_the_drivers_own_may_send_them_from_the_first_to_the_last(host: HostFactory) -> None:
    """It begins before there are connections, and ends when there are none; in between they come in order."""
    process = host("streams", settings={"ticks": "yes"}, connections=4, unsent_bytes=100_000)
    for attempt in range(6):
        peer = listener_amid(process)
        first = next_tick(peer)
        peer.send(stream(1, 2**32 - 1, parts(20)))
        ticks, rest = [first], 21
        while rest or len(ticks) < 50:
            frame = peer.receive()
            if frame[0] == "note":
                ticks.append(frame[1][1])
            else:
                rest -= 1
        assert ticks == sorted(set(ticks))
        if attempt % 2:
            peer.send(notes(False))
            synced(peer)
            assert synced(peer) == []
        peer.close()
    listener_amid(process)
    assert process.stop() == 0


def listener_amid(process: HostProcess) -> Peer:
    peer = process.connect(tcp=True)
    peer.send(notes(True))
    return peer


def next_tick(peer: Peer) -> int:
    tag, (tick, number) = peer.receive()
    assert (tag, tick) == ("note", "tick")
    assert isinstance(number, int)
    return number


def test_clients_come_and_go_amid_notes(host: HostFactory) -> None:
    process = host("streams", settings={"ticks": "yes"}, connections=8, unsent_bytes=20_000)
    steady = listener_amid(process)
    for number in range(100):
        peer = process.connect(tcp=True)
        peer.send(notes(True), call(1, CLIENT), call(2, NOTE, NEWS))
        with contextlib.suppress(ConnectionResetError):
            peer.receive()
        (peer.reset if number % 3 else peer.close)()
        next_tick(steady)
    steady.close()
    assert process.stop() == 0
