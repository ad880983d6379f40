# SPDX-License-Identifier: MIT
"""Clients that mean harm, or are just broken, many at once: the host serves everyone else, and keeps its memory."""

from __future__ import annotations

import contextlib
import random
import socket
import threading

from conftest import HostFactory
from gendriverd import etf
from gendriverd.etf import Atom
from host_process import HostProcess, Peer, call, cast, resident

OK = Atom("ok")


def good_bytes(rng: random.Random) -> bytes:
    messages = [
        call(rng.randrange(100), rng.choice([1, 2, 3, 99]), rng.choice([b"x" * rng.randrange(300), [1, {}], 1.5])),
        cast(1, (Atom("a"), [1, 2, 300])),
        (Atom("ping"), rng.randrange(1000)),
        (Atom("cancel"), rng.randrange(100)),
        call(rng.randrange(100), 1, [], {Atom("timeout"): rng.randrange(3), Atom("key"): rng.randrange(9)}),
    ]
    return b"".join(etf.frame(rng.choice(messages)) for _ in range(rng.randrange(1, 20)))


def damaged(data: bytes, rng: random.Random) -> bytes:
    mutable = bytearray(data)
    for _ in range(rng.randrange(1, 6)):
        mutable[rng.randrange(len(mutable))] = rng.randrange(256)
    return bytes(mutable[: rng.randrange(1, len(mutable) + 1)])


def drain(peer: Peer) -> None:
    """Read to the end, however it comes."""
    peer.sock.settimeout(30)
    with contextlib.suppress(ConnectionError):
        while peer.sock.recv(1 << 16):
            pass


def offend(process: HostProcess, seed: int) -> None:
    rng = random.Random(seed)
    peer = process.connect(tcp=True)
    with contextlib.suppress(ConnectionError):
        peer.sock.sendall(damaged(good_bytes(rng), rng))
        if rng.random() < 0.3:
            peer.reset()
            return
        peer.done_sending()
    drain(peer)
    peer.close()


def test_damaged_sessions_hurt_nobody_else(host: HostFactory) -> None:
    process = host("echo", threads=3)
    other = process.connect()
    for seed in range(1000):
        offend(process, seed)
        if seed % 50 == 0:
            assert other.call(seed, 1, seed) == (OK, seed)
    assert other.call(1, 1, b"still there") == (OK, b"still there")
    assert process.process.poll() is None


def test_a_flood_of_one_client_leaves_room_for_another(host: HostFactory) -> None:
    process = host("echo", threads=2)
    flooder, other = process.connect(tcp=True), process.connect()
    over = threading.Event()

    def flood() -> None:
        frames = b"".join(etf.frame(cast(1, b"x" * 100)) for _ in range(1000))
        with contextlib.suppress(OSError):
            while not over.is_set():
                flooder.sock.sendall(frames)

    thread = threading.Thread(target=flood)
    thread.start()
    try:
        for i in range(200):
            assert other.call(i, 1, i) == (OK, i)
    finally:
        over.set()
        thread.join()


def test_connections_that_come_and_go_in_the_middle_of_everything_leave_nothing(host: HostFactory) -> None:
    process = host("echo", threads=4, connections=8)

    def once(seed: int) -> None:
        rng = random.Random(seed)
        peer = process.connect(tcp=True)
        with contextlib.suppress(ConnectionError):
            peer.send(*(call(i, 1, b"y" * 50_000) for i in range(rng.randrange(1, 20))))
            if rng.random() < 0.5:
                peer.sock.recv(1000)
        peer.reset()
        process.hear("closed")

    for seed in range(50):
        once(seed)
    before = resident(process.process.pid)
    for seed in range(400):
        once(seed)
    assert resident(process.process.pid) - before < 32 << 20
    assert process.connect().call(1, 1, 1) == (OK, 1)


def test_slow_writers_are_served_when_they_are_done(host: HostFactory) -> None:
    process = host("echo")
    data = etf.frame(call(1, 1, b"z" * 2000))
    peers = [process.connect() for _ in range(30)]
    for i in range(0, len(data), 100):
        for peer in peers:
            peer.sock.sendall(data[i : i + 100])
    for peer in peers:
        assert peer.receive() == (Atom("reply"), 1, (OK, b"z" * 2000))
        peer.sock.shutdown(socket.SHUT_WR)
        assert peer.receive() is None
