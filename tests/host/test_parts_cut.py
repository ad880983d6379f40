# SPDX-License-Identifier: MIT
"""A stream whose thread is written off, or whose host dies: its caller hears that once, and no part behind it."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator

import pytest

from conftest import Gate, HostFactory
from gendriverd import etf
from gendriverd.aftermath import culprit, ends_whole, last_words
from gendriverd.etf import Atom
from gendriverd.launch import Exit
from gendriverd.recorder import Record
from host_process import HostProcess, Peer, call
from streams import (
    ALL,
    CODES,
    EGONE,
    GATE,
    HANG,
    RUN,
    SEGV,
    TAKES,
    UNTIL_CANCELLED,
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

# ms; what a sanitizer slows down must not be taken for a hang.
SHORT = 1_000 if "GENDRIVERD_SANITIZER" in os.environ else 200


def a_limit_passes(process: HostProcess) -> None:
    """Another request begins, and runs too long."""
    peer = process.connect()
    peer.send(call(1, RUN, [HANG]))
    assert peer.receive() == failed(1, "timeout")


# --- the time a request may run ---------------------------------------------------


def test_to_wait_for_credit_is_not_to_run(host: HostFactory) -> None:
    process = host("streams", threads=2, max_run=SHORT, max_abandoned=8)
    peer = process.connect()
    peer.send(stream(1, 1, parts(3), replies(7)))
    for number in range(3):
        assert peer.receive() == part(1, number)
        a_limit_passes(process)
        peer.send(credit(1, 1))
    assert peer.receive() == reply(1, 7)


def test_nor_is_it_to_wait_for_a_client_to_read(host: HostFactory) -> None:
    process = host("streams", threads=2, max_run=SHORT, max_abandoned=8, unsent_bytes=1)
    peer = process.connect()
    peer.send(stream(1, ALL, parts(3, 1_000_000)))
    for _ in range(3):
        a_limit_passes(process)
        assert peer.receive() == part(1, bytes(1_000_000))
    assert peer.receive() == reply(1)


def test_what_it_runs_between_its_parts_counts(host: HostFactory) -> None:
    process = host("streams", threads=2, max_run=SHORT, max_abandoned=8)
    peer = process.connect()
    peer.send(stream(1, 1, parts(2), HANG))
    assert peer.receive() == part(1, 0)
    a_limit_passes(process)
    peer.send(credit(1, 1))
    assert receive(peer, 2) == [part(1, 1), failed(1, "timeout")]


def test_a_stream_that_hangs_takes_its_host_down_where_that_is_so(host: HostFactory) -> None:
    process = host("streams", max_run=SHORT, recorded=True)
    peer = process.connect()
    peer.send(stream(1, 2, parts(2), HANG))
    assert list(frames(peer)) == [part(1, 0), part(1, 1)]
    assert process.wait() == -signal.SIGABRT
    assert words(process, 1, Exit(None, "SIGABRT")) == [failed(1, "timeout")]


# --- threads that were written off -------------------------------------------------


def test_a_thread_that_was_written_off_sends_no_part(host: HostFactory, gate: Gate) -> None:
    settings = {"gate": str(gate.path)}
    process = host("streams", threads=1, max_run=SHORT, max_abandoned=1, settings=settings)
    peer, other = process.connect(), process.connect()
    peer.send(stream(1, 9, parts(1), GATE, parts(3)))
    assert receive(peer, 2) == [part(1, 0), failed(1, "timeout")]
    gate.open()
    assert other.call(1, CODES, 1) == [EGONE]
    assert synced(peer) == []


def test_nor_when_its_id_is_in_use_again(host: HostFactory, gate: Gate) -> None:
    settings = {"gate": str(gate.path)}
    process = host("streams", threads=1, max_run=SHORT, max_abandoned=2, settings=settings)
    peer, other = process.connect(), process.connect()
    peer.send(stream(1, 9, parts(1), GATE, parts(3)))
    assert receive(peer, 2) == [part(1, 0), failed(1, "timeout")]
    peer.send(stream(1, 2, parts(3)))
    assert receive(peer, 2) == [part(1, 0), part(1, 1)]
    gate.open()
    process.hear("log")
    while b"worker_back" not in (said := process.hear("log")):
        assert said
    assert synced(peer) == []
    peer.send(credit(1, 1))
    assert receive(peer, 2) == [part(1, 2), reply(1)]
    assert other.call(1, CODES, 2) == [EGONE, 0]


# --- the host's death ---------------------------------------------------------------


def frames(peer: Peer) -> Iterator[object]:
    """Those up to the end of file."""
    yield from peer.receive_all()


def record(process: HostProcess) -> Record:
    assert process.recorder is not None
    return process.recorder.read()


def words(process: HostProcess, conn: int, end: Exit) -> list[object]:
    """What the daemon would say on that connection, without its goodbye."""
    dead = record(process)
    calls = [each for each in dead.requests if each.conn == conn]
    data = last_words(calls, culprit(dead.death, end), dead.connections[conn].sent)
    said = []
    while data:
        size = 4 + int.from_bytes(data[:4], "big")
        said.append(etf.decode(data[4:size]))
        data = data[size:]
    assert said.pop() == (Atom("goodbye"), Atom("host_died"))
    return said


def test_a_stream_that_crashes_ends_with_crashed_and_its_neighbour_with_interrupted(host: HostFactory) -> None:
    process = host("streams", threads=2, recorded=True)
    peer, other = process.connect(), process.connect()
    other.send(stream(5, 1, parts(2)))
    assert other.receive() == part(5, 0)
    peer.send(stream(1, 9, parts(3), SEGV))
    assert list(frames(peer)) == [part(1, 0), part(1, 1), part(1, 2)]
    assert process.wait() == -signal.SIGSEGV
    assert words(process, 1, Exit(None, "SIGSEGV")) == [failed(1, "crashed")]
    assert words(process, 2, Exit(None, "SIGSEGV")) == [failed(5, "interrupted")]


def test_a_host_that_is_killed_while_a_stream_waits_leaves_whole_frames(host: HostFactory) -> None:
    process = host("streams", recorded=True)
    peer = process.connect()
    peer.send(stream(1, 2, parts(3)))
    assert receive(peer, 2) == [part(1, 0), part(1, 1)]
    assert synced(peer) == []
    process.process.kill()
    process.process.wait()
    assert ends_whole(record(process).connections[1])
    assert words(process, 1, Exit(None, "SIGKILL")) == [failed(1, "interrupted")]


@pytest.mark.parametrize("tcp", [False, True])
@pytest.mark.parametrize("size", [0, 3_000, 50_000])
def test_whenever_a_host_is_killed_in_mid_stream_it_is_known_what_left(host: HostFactory, tcp: bool, size: int) -> None:
    """Two streams and small calls on one connection."""
    for attempt in range(1, 16):
        process = host("streams", recorded=True, threads=3)
        peer = process.connect(tcp=tcp, kept=True)
        peer.send(stream(1, ALL, parts(10**9, size)), stream(2, 20 * attempt, parts(10**9, size)))
        data = b""
        for number in range(3, 3 + attempt):
            peer.send(call(number, TAKES))
            data += peer.sock.recv(1 << 16)
        process.process.kill()
        process.process.wait()
        process.kept[-1].shutdown(socket.SHUT_WR)
        while more := peer.sock.recv(1 << 20):
            data += more
        output = record(process).connections[1]
        assert output.sent == len(etf.frame((Atom("welcome"), 1, {}))) + len(data)
        whole, begun = check_frames(data)
        assert not output.whole or whole
        if ends_whole(output):
            said = set(words(process, 1, Exit(None, "SIGKILL")))
            assert {failed(call_id, "interrupted") for call_id in begun} <= said


def check_frames(data: bytes) -> tuple[bool, set[int]]:
    """The parts of each stream are in order. Whether the last frame is whole, and of which streams there are parts."""
    came = {1: 0, 2: 0}
    while len(data) >= 4 and len(data) - 4 >= (size := int.from_bytes(data[:4], "big")):
        tag, call_id, term = etf.decode(data[4 : 4 + size])
        data = data[4 + size :]
        if tag == "part":
            assert not isinstance(term, int) or term == came[call_id]
            came[call_id] += 1
        else:
            assert tag == "reply"
    return not data, {call_id for call_id, count in came.items() if count}


def test_a_stream_that_is_cancelled_frees_its_worker(host: HostFactory) -> None:
    process = host("streams", threads=1)
    peer = process.connect()
    peer.send(stream(1, 1, parts(2)))
    assert peer.receive() == part(1, 0)
    peer.send(call(2, TAKES), (Atom("cancel"), 1))
    assert receive(peer, 2) == [failed(1, "interrupted"), reply(2, False)]


def test_what_a_driver_puts_when_nobody_takes_its_parts_is_not_taken_for_the_whole(host: HostFactory) -> None:
    process = host("streams")
    peer = process.connect()
    peer.send(stream(1, 1, parts(1), UNTIL_CANCELLED, replies(5)))
    assert peer.receive() == part(1, 0)
    peer.send((Atom("cancel"), 1))
    assert peer.receive() == reply(1, 5)  # it was never told of a part that was not taken
