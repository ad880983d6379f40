# SPDX-License-Identifier: MIT
"""A relay by itself: what it holds of one side while the other does not read, and whose time ends when."""

from __future__ import annotations

import os
import select
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from certificates import Authority
from gendriverd.client.tls import Tunnel
from gendriverd.tls_context import make_context
from gendriverd.tls_front.loop import Deadlines, Loop
from gendriverd.tls_front.records import AT_ONCE, IDLE_MAX, IDLE_PER, Records
from gendriverd.tls_front.relay import CHUNK, Relay
from key_updates import KeyUpdater

CUT = "too many records that bring nothing, as changes of keys"
SEALED = 5 * 64  # bytes that TLS adds to CHUNK at most, in as many records as it makes of it


class Bench:
    """A relay, whose owner this is, its client and its host, all in one thread."""

    def __init__(self, directory: Path, updater: KeyUpdater | None = None, updates: int = 0) -> None:
        """`updater` is its client; and says so many `updates` in one go with the end of its handshake."""
        authority = Authority(directory)
        own = authority.issue("own", hosts=["localhost"])
        self.heard: list[str] = []
        self.loop = Loop()
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.client = socket.create_connection(server.getsockname())
            accepted, address = server.accept()
        self.client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # what it sends is there at once
        self.ours, self.host = socket.socketpair()
        for sock in (self.client, accepted, self.ours, self.host):
            sock.setblocking(False)
        context = make_context(str(own.certificate), str(own.key), None, "none")
        self.relay = Relay(self.loop, self, accepted, address, "127.0.0.0/8", context)
        self.tunnel = Tunnel(ssl.create_default_context(cafile=authority.file), "localhost")
        self._shake(updater or self.tunnel, updates)

    def _shake(self, tunnel: Tunnel | KeyUpdater, updates: int) -> None:
        said = tunnel.shake(b"")
        while True:
            self.client.send(said)
            self.turn()
            if "shaken" in self.heard:
                return
            said = tunnel.shake(self.client.recv(CHUNK))
            if updates and isinstance(tunnel, KeyUpdater) and tunnel.shaken:
                said += tunnel.update(updates)

    def turn(self) -> None:
        """Let it do all that it can."""
        while self.loop.turn(0.01):
            pass

    def shaken(self, relay: Relay) -> None:
        self.heard.append("shaken")
        relay.begin(self.ours)

    def refused(self, relay: Relay, why: str) -> None:
        self.heard.append(why)

    def cut_off(self, relay: Relay, why: str) -> None:
        self.heard.append(why)

    def ending(self, relay: Relay) -> None:
        self.heard.append("ending")

    def leaving(self, relay: Relay) -> None:
        self.heard.append("leaving")

    def gone(self, relay: Relay) -> None:
        self.heard.append("gone")

    def held(self) -> int:
        """Bytes that wait in it."""
        assert self.relay._host is not None
        return len(self.relay._host.waiting) + len(self.relay._client.waiting)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    with bench.client, bench.host:
        yield bench
        bench.relay.close()
        bench.turn()


def push(bench: Bench, sock: socket.socket, data: bytes) -> int:
    """As much of it as is taken, when nobody reads on the other side."""
    sent, view = 0, memoryview(data)
    while sent < len(data):
        try:
            sent += sock.send(view[sent:])
        except BlockingIOError:
            before = bench.held()
            bench.turn()
            if bench.held() == before and not writable(sock):
                return sent
    return sent


def writable(sock: socket.socket) -> bool:
    return bool(select.select([], [sock], [], 0)[1])


def pull(bench: Bench, sock: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        bench.turn()
        data += sock.recv(CHUNK)
    return bytes(data)


def test_what_a_host_says_waits_in_the_host_while_its_client_does_not_read(bench: Bench) -> None:
    said = os.urandom(32_000_000)
    sent = push(bench, bench.host, said)
    assert sent < len(said)
    assert 0 < bench.held() <= CHUNK + SEALED
    heard = bytearray()
    while len(heard) < sent:
        bench.turn()
        heard += bench.tunnel.decrypt(bench.client.recv(CHUNK))
    assert heard == said[:sent]
    assert bench.held() == 0


def test_what_a_client_says_waits_in_the_client_while_its_host_does_not_read(bench: Bench) -> None:
    said = os.urandom(32_000_000)
    sealed = bench.tunnel.encrypt(said)
    sent = push(bench, bench.client, sealed)
    assert sent < len(sealed)
    assert 0 < bench.held() <= CHUNK
    heard = pull(bench, bench.host, 1_000_000)
    assert heard == said[: len(heard)]


def test_a_client_that_does_not_read_is_still_heard(bench: Bench) -> None:
    """It may be sending a request of which the answers are in its way."""
    push(bench, bench.host, os.urandom(32_000_000))
    said = os.urandom(4_000_000)
    sealed, heard = bench.tunnel.encrypt(said), bytearray()
    while len(heard) < len(said):
        if sealed:
            sealed = sealed[bench.client.send(sealed[:CHUNK]) :]
        bench.turn()
        heard += bench.host.recv(2 * CHUNK)
    assert heard == said
    assert bench.held() <= CHUNK + SEALED


def test_a_client_that_does_not_read_what_its_host_said_last_is_not_waited_for_for_ever(bench: Bench) -> None:
    push(bench, bench.host, os.urandom(32_000_000))
    assert "ending" not in bench.heard
    bench.host.close()
    bench.turn()
    assert "ending" in bench.heard
    assert "leaving" not in bench.heard  # there is more to say
    assert not bench.loop.turn(0)  # and nothing turns in circles meanwhile


def test_a_host_that_is_gone_is_told_once_and_the_client_read_away(bench: Bench) -> None:
    bench.host.send(b"last words")
    bench.host.close()
    bench.client.send(bench.tunnel.encrypt(b"x" * 100_000)[:50_000])
    bench.turn()
    assert bench.tunnel.decrypt(bench.client.recv(CHUNK)) == b"last words"
    assert bench.tunnel.ended
    assert "leaving" in bench.heard
    assert "gone" not in bench.heard
    bench.client.shutdown(socket.SHUT_WR)
    bench.turn()
    assert bench.heard[-1] == "gone"


def test_what_a_client_says_to_nobody_is_not_decrypted(bench: Bench) -> None:
    bench.host.close()
    bench.client.send(b"\x17\x03\x03\x00\x20" + bytes(32))  # which is no record of its key
    bench.turn()
    assert "leaving" in bench.heard
    assert "gone" not in bench.heard
    bench.client.shutdown(socket.SHUT_WR)
    bench.turn()
    assert bench.heard[-1] == "gone"


@pytest.fixture
def updating(tmp_path: Path) -> Iterator[tuple[KeyUpdater, Bench]]:
    updater = KeyUpdater()
    bench = Bench(tmp_path, updater)
    with bench.client, bench.host:
        yield updater, bench
        bench.relay.close()
        bench.turn()


def test_a_client_may_change_its_key_some_times_and_more_often_the_more_it_says(
    updating: tuple[KeyUpdater, Bench],
) -> None:
    updater, bench = updating
    said, sealed = b"", b""
    for times in (IDLE_MAX, 1, 1, 1):
        part = os.urandom(IDLE_PER)
        sealed += updater.update(times) + updater.encrypt(part)
        said += part
    push(bench, bench.client, sealed)
    assert pull(bench, bench.host, len(said)) == said
    assert "gone" not in bench.heard
    bench.client.send(updater.update(5))
    bench.turn()
    assert bench.heard[-2:] == [CUT, "gone"]


@pytest.mark.parametrize("updates", [0, 2000])
def test_a_flood_of_changes_of_a_key_is_cut_off_before_it_has_cost_much(tmp_path: Path, updates: int) -> None:
    """After the handshake, and in one go with it."""
    updater = KeyUpdater()
    bench = Bench(tmp_path, updater, updates)
    with bench.client, bench.host:
        if not updates:
            bench.client.send(updater.update(2000))
            bench.turn()
        assert bench.heard == ["shaken", CUT, "gone"]
        assert bench.relay._records.idle <= IDLE_MAX + AT_ONCE


def test_a_flood_between_which_little_is_said_is_cut_off_too(updating: tuple[KeyUpdater, Bench]) -> None:
    updater, bench = updating
    sealed = b"".join(updater.update(1) + updater.encrypt(b"x" * 100) for _ in range(IDLE_MAX + 2))
    push(bench, bench.client, sealed)
    bench.turn()
    assert CUT in bench.heard


def test_small_records_of_data_are_none_that_bring_nothing(bench: Bench) -> None:
    said = os.urandom(10_000)
    sealed = b"".join(bench.tunnel.encrypt(said[at : at + 1]) for at in range(len(said)))
    push(bench, bench.client, sealed)
    assert pull(bench, bench.host, len(said)) == said


@pytest.mark.parametrize("size", [1, 3, 5, 7, 1000])
def test_records_are_found_however_they_come(size: int) -> None:
    lengths = [0, 1, 17, 300, 16_384, 5]
    said = memoryview(b"".join(b"\x17\x03\x03" + length.to_bytes(2, "big") + bytes(length) for length in lengths))
    records, found = Records(), 0
    for at in range(0, len(said), size):
        part = said[at : at + size]
        while part:
            place, ended = records.cut(part)
            part, found = part[place:], found + ended
    assert found == len(lengths)
    assert Records().cut(memoryview(b"\x17\x03\x03\0\0" * 100)) == (5 * AT_ONCE, AT_ONCE)


def test_a_certificate_that_cannot_be_read_has_no_names(bench: Bench) -> None:
    class Unreadable:
        def getpeercert(self) -> None:
            raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")

    assert bench.relay.names() is None
    bench.relay._tls = cast(ssl.SSLObject, Unreadable())
    assert bench.relay.names() == []


def test_who_came_first_is_due_first_and_once() -> None:
    due: list[str] = []
    deadlines = Deadlines[str](10.0, due.append)
    for who in ("a", "b", "c"):
        deadlines.start(who)
    deadlines.stop("b")
    assert deadlines.pop_first() == "a"
    left = deadlines.expire(0.0)
    assert left is not None
    assert due == []
    assert deadlines.expire(left + 1.0) is None
    assert due == ["c"]
