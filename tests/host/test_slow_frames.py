# SPDX-License-Identifier: MIT
"""Frames that do not come whole: they have a time, take no more memory than what has come, and all together a bound."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from pathlib import Path

from conftest import Gate, HostFactory
from gendriverd import etf
from gendriverd.etf import Atom
from host_process import DEADLINE, HostProcess, Peer, call

OK = Atom("ok")
ECHO, SIZE = 1, 2  # of examples/echo
WAIT = 1  # of tests/drivers/gate.c
MIB = 1 << 20
SLOW = (Atom("goodbye"), Atom("slow_frame"))


def address_space(process: HostProcess) -> int:
    """Bytes."""
    return int(Path(f"/proc/{process.process.pid}/statm").read_text().split()[0]) * 4096


def synced(peer: Peer) -> None:
    peer.send((Atom("ping"), 0))
    assert peer.receive() == (Atom("pong"), 0)


def push(peer: Peer, data: bytes) -> bytes:
    """Send what is taken at once, until nothing is; the rest."""
    peer.sock.settimeout(0.5)
    with contextlib.suppress(TimeoutError):
        while data:
            data = data[peer.sock.send(data) :]
    peer.sock.settimeout(30)
    return data


def test_a_frame_that_is_not_whole_in_its_time_ends_the_connection(host: HostFactory) -> None:
    process = host("echo", frame_ms=100)
    other, peer = process.connect(), process.connect()
    peer.sock.sendall(etf.frame(call(1, ECHO, 1)) + etf.frame(call(2, ECHO, 2))[:-1])
    assert peer.receive_all() == [(Atom("reply"), 1, (OK, 1)), SLOW]
    assert process.hear("closed")[2] == "slow_frame"
    assert other.call(1, ECHO, 1) == (OK, 1)


def test_not_even_a_length_may_take_long(host: HostFactory) -> None:
    peer = host("echo", frame_ms=100).connect(tcp=True)
    peer.sock.sendall(b"\0")
    assert peer.receive_all() == [SLOW]


def test_bytes_that_trickle_buy_no_time(host: HostFactory) -> None:
    """One at a time, as fast as they are read: but there is always one more to come."""
    process = host("echo", frame_ms=200)
    peer, trickled = process.connect(), 0
    data = etf.frame(call(1, ECHO, b"x" * 60_000))
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        while not peer.has_more():
            peer.sock.sendall(data[trickled : trickled + 1])
            trickled = min(trickled + 1, len(data) - 2)
            process.tell(Atom("ping"), 1)
            process.hear("pong")
    assert peer.receive() == SLOW


def test_what_was_asked_before_is_answered_before_the_goodbye(gated: HostFactory, gate: Gate) -> None:
    process = gated(frame_ms=100)
    peer, other = process.connect(), process.connect()
    peer.sock.sendall(etf.frame(call(1, WAIT)) + b"\0\0")
    gate.reached()
    other.sock.sendall(b"\0\0")
    assert other.receive_all() == [SLOW]  # so the other's time is up as well
    gate.open()
    assert peer.receive_all() == [(Atom("reply"), 1, OK), SLOW]


def test_a_large_frame_has_more_time(host: HostFactory) -> None:
    process = host("echo", frame_ms=100)
    large, small = process.connect(), process.connect()
    data = etf.frame(call(1, SIZE, b"x" * MIB))  # 16 seconds more
    large.sock.sendall(data[:100])
    synced(small)
    small.sock.sendall(b"\0")
    assert small.receive_all() == [SLOW]
    large.sock.sendall(data[100:])
    assert large.receive() == (Atom("reply"), 1, (OK, MIB))


def test_idle_connections_have_all_the_time(host: HostFactory) -> None:
    process = host("echo", frame_ms=100)
    idle, slow = process.connect(), process.connect()
    assert idle.call(1, ECHO, 1) == (OK, 1)
    slow.sock.sendall(b"\0")
    assert slow.receive_all() == [SLOW]
    assert idle.call(2, ECHO, 2) == (OK, 2)


def test_a_length_alone_makes_no_buffer(host: HostFactory) -> None:
    process = host("echo", connections=64, threads=1)
    peers = [process.connect() for _ in range(50)]
    assert peers[0].call(1, ECHO, 1) == (OK, 1)  # the threads' own memory is there
    before = address_space(process)
    for peer in peers:
        peer.sock.sendall(struct.pack(">I", 16 * MIB) + b"\x83")
    synced(process.connect())
    for peer in peers:
        peer.sock.sendall(b"h")  # now it is known how long it claims to be
    synced(process.connect())
    assert address_space(process) - before < 16 * MIB


def test_unfinished_frames_of_all_connections_are_bounded_and_each_is_finished(host: HostFactory) -> None:
    process = host("echo", frame=4 * MIB, frame_ms=300_000, frames_bytes=8 * MIB, threads=2)
    data = etf.frame(call(1, SIZE, b"x" * (4 * MIB - 100)))
    peers = [process.connect() for _ in range(16)]
    rest = [push(peer, data[:-1]) for peer in peers]
    assert 16 * len(data) - sum(map(len, rest)) < 24 * MIB  # were taken, by host and kernel, of 64
    assert sum(len(left) > 0 for left in rest) >= 12
    other = process.connect()
    small = etf.frame(call(1, ECHO, b"y" * 60_000))
    other.sock.sendall(small[:-1])  # as small ones are always read
    synced(process.connect())
    other.sock.sendall(small[-1:])
    assert other.receive() == (Atom("reply"), 1, (OK, b"y" * 60_000))

    answers: dict[int, object] = {}

    def finish(number: int) -> None:
        peers[number].sock.sendall(rest[number] + data[-1:])
        answers[number] = peers[number].receive()

    threads = [threading.Thread(target=finish, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == dict.fromkeys(range(16), (Atom("reply"), 1, (OK, 4 * MIB - 100)))


def test_who_waits_for_room_gets_it_when_another_leaves(host: HostFactory) -> None:
    process = host("echo", frame=MIB, frames_bytes=MIB, frame_ms=300_000)
    data = etf.frame(call(1, SIZE, b"x" * (MIB - 100)))
    holder, waiting = process.connect(), process.connect()
    assert push(holder, data[:900_000]) == b""
    rest = push(waiting, data)
    assert rest
    holder.sock.shutdown(socket.SHUT_RDWR)
    waiting.sock.sendall(rest)
    assert waiting.receive() == (Atom("reply"), 1, (OK, MIB - 100))


def test_whose_frame_stalls_while_others_wait_for_its_room_ends(host: HostFactory) -> None:
    """Four hold all room for frames and send a byte now and then: alone they would have four minutes."""
    process = host("echo", frames_bytes=32 * MIB, frame_ms=1000)
    data = etf.frame(call(1, SIZE, b"x" * (16 * MIB - 100)))
    holders = [process.connect() for _ in range(4)]
    for holder in holders:
        holder.sock.setblocking(False)
    sent = [holder.sock.send(data[: 3 * MIB]) for holder in holders]
    asker = process.connect()
    asker.sock.setblocking(False)
    rest = etf.frame(call(1, SIZE, b"y" * 200_000))
    end = time.monotonic() + DEADLINE
    while not (asker.has_more() and any(message[0] == "closed" for message in process.messages)):
        assert time.monotonic() < end
        with contextlib.suppress(BlockingIOError):
            rest = rest[asker.sock.send(rest) :]
        for number, holder in enumerate(holders):
            with contextlib.suppress(BlockingIOError, BrokenPipeError):
                sent[number] += holder.sock.send(data[sent[number] : sent[number] + 1])
        process.tell(Atom("ping"), 1)
        process.hear("pong")
    asker.sock.settimeout(30)
    assert asker.receive() == (Atom("reply"), 1, (OK, 200_000))
    assert process.hear("closed")[2] == "slow_frame"
