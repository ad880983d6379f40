# SPDX-License-Identifier: MIT
"""The front's door by itself: who makes room when it is full, and a listening socket that cannot accept."""

from __future__ import annotations

import errno
import gc
import os
import resource
import socket
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

from certificates import Authority
from gendriverd import etf
from gendriverd.etf import Atom
from gendriverd.tls_context import make_context
from gendriverd.tls_front.front import Front
from gendriverd.tls_front.loop import Loop
from gendriverd.tls_front.settings import Settings

ABOUT = {
    Atom("clients"): Atom("none"),
    Atom("handshake_ms"): 600_000,
    Atom("handshake_pending"): 3,
    Atom("connections"): 6,
}
LAST = "connections: the last are for those who have fewer"
GREEDY, ANOTHER = "192.0.2.1", "192.0.2.2"


class Door:
    """A front with its daemon's end of the channel; clients are played."""

    def __init__(self, directory: Path, pending: int = 256, connections: int = 1024, most: int = 1024) -> None:
        own = Authority(directory).issue("own", hosts=["localhost"])
        context = make_context(str(own.certificate), str(own.key), None, "none")
        self.loop = Loop()
        self.daemon, channel = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener = socket.create_server(("127.0.0.1", 0))
        settings = Settings(context, 600.0, pending, connections)
        self.front = Front(self.loop, channel, [self.listener], settings, most)
        self.channel = channel
        self.clients: list[socket.socket] = []

    def come(self, host: str) -> socket.socket:
        """A client from there, that says nothing."""
        ours, theirs = socket.socketpair()
        self.clients.append(ours)
        self.front._admit(theirs, (host, 4711))
        self.turn()
        return ours

    def turn(self) -> None:
        """Let it do all that it can, as often as it is told of something; an endless story is cut short."""
        for _ in range(100):
            if not self.loop.turn(0.01):
                return
        raise AssertionError("it goes round and round")

    def whys(self) -> list[str]:
        """Of those who were refused."""
        found = []
        self.daemon.setblocking(False)
        try:
            while True:
                found.append(etf.decode(self.daemon.recv(65536))[3].decode())
        except BlockingIOError:
            return found

    def close(self) -> None:
        for relay in list(self.front._relays):
            relay.close()
        self.loop.turn(0)
        for each in (*self.clients, self.daemon, self.channel, self.listener):
            each.close()


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Door]:
    door = Door(tmp_path, pending=3, connections=6)
    yield door
    door.close()


def is_open(client: socket.socket) -> bool:
    client.setblocking(False)
    try:
        return client.recv(4096) != b""
    except BlockingIOError:
        return True
    except OSError as error:
        return error.errno != errno.ECONNRESET


def test_whoever_fills_the_room_makes_room_for_others_and_not_they_for_him(full: Door) -> None:
    first = full.come(ANOTHER)
    greedy = [full.come(GREEDY) for _ in range(20)]
    assert is_open(first)
    assert [is_open(each) for each in greedy] == [False] * 18 + [True] * 2
    second = full.come("192.0.2.3")
    assert is_open(first)
    assert is_open(second)
    assert full.whys() == ["handshake_pending: others came"] * 19


def test_where_all_have_as_many_the_one_that_has_had_most_of_its_time_goes(full: Door) -> None:
    clients = [full.come(f"192.0.2.{number}") for number in range(5)]
    assert [is_open(each) for each in clients] == [False] * 2 + [True] * 3


def test_who_is_only_waited_for_takes_no_place_from_others(full: Door) -> None:
    """Its handshake has failed, and it stays."""
    refused = []
    for _ in range(6):
        client = full.come(GREEDY)
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        full.turn()
        refused.append(client)
    newcomer = full.come(ANOTHER)
    assert is_open(newcomer)
    assert len(full.front._relays) == 6
    assert "connections: there are as many as may be" not in full.whys()


def test_who_has_begun_by_an_old_certificate_begins_anew(full: Door, tmp_path: Path) -> None:
    client = full.come(ANOTHER)
    own = Authority(tmp_path, "new").issue("own", hosts=["localhost"])
    full.front._renew(ABOUT, [os.open(path, os.O_RDONLY) for path in (own.certificate, own.key)])
    full.turn()
    assert not is_open(client)
    assert is_open(full.come(ANOTHER))
    assert etf.decode(full.daemon.recv(65536)) == (Atom("renewed"),)


def test_a_certificate_that_it_cannot_use_ends_it(full: Door) -> None:
    with pytest.raises(SystemExit, match="cannot use the new certificate: "):
        full.front._renew(ABOUT, [os.open("/dev/null", os.O_RDONLY) for _ in range(2)])


def test_the_last_places_are_for_those_who_have_few(tmp_path: Path) -> None:
    door = Door(tmp_path, connections=16)
    greedy = [door.come(GREEDY) for _ in range(20)]
    assert [is_open(each) for each in greedy] == [True] * 14 + [False] * 6
    others = [door.come(ANOTHER), door.come("192.0.2.3"), door.come("192.0.2.4")]
    assert [is_open(each) for each in others] == [True, True, False]
    assert door.whys() == [LAST] * 6 + ["connections: there are as many as may be"]
    greedy[0].close()
    others[0].close()
    door.turn()
    assert not is_open(door.come(GREEDY))
    assert is_open(door.come("192.0.2.5"))
    door.close()


def test_nobody_who_leaves_gives_one_of_the_last_places_to_him_who_has_most(tmp_path: Path) -> None:
    door = Door(tmp_path, connections=16)
    for _ in range(14):
        door.come(GREEDY)
    for _ in range(2):
        leaving = door.come(ANOTHER)
        leaving.sendall(b"GET / HTTP/1.1\r\n\r\n")
        door.turn()
    assert len(door.front._leaving) == 2
    assert not is_open(door.come(GREEDY))
    assert door.whys()[-1] == LAST
    assert is_open(door.come("192.0.2.3"))
    assert sum(door.front._by_source.values()) == len(door.front._relays) == 16
    door.close()
    assert not door.front._by_source


def test_there_are_no_more_clients_than_descriptors_for_them(tmp_path: Path) -> None:
    door = Door(tmp_path, most=2)
    clients = [door.come(f"192.0.2.{number}") for number in range(3)]
    assert [is_open(each) for each in clients] == [True, True, False]
    door.close()


def test_what_the_daemon_passes_and_there_is_no_descriptor_for_ends_it(full: Door) -> None:
    with Path("/dev/null").open() as file:
        socket.send_fds(full.daemon, [etf.encode((Atom("renew"), ABOUT))], [file.fileno()] * 8)
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (file.fileno() + 3, before[1]))
        try:
            with pytest.raises(SystemExit, match="no descriptor is left"):
                full.turn()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_socket_that_cannot_accept_is_left_alone_for_a_while(full: Door, capsys: pytest.CaptureFixture[str]) -> None:
    full.listener.shutdown(socket.SHUT_RDWR)
    full.turn()
    assert capsys.readouterr().err == "cannot accept: Invalid argument\n"


def test_who_has_left_is_forgotten_at_once_and_not_when_garbage_is_collected(full: Door) -> None:
    """What OpenSSL keeps of it is much, and the collector does not see how much."""
    client = full.come(ANOTHER)
    client.sendall(b"GET / HTTP/1.1\r\n\r\n")
    full.turn()
    full.come(GREEDY)
    kept = [weakref.ref(relay._tls) for relay in full.front._relays]
    gc.disable()
    try:
        for each in full.clients:
            each.close()
        full.turn()
        assert [ref() for ref in kept] == [None, None]
    finally:
        gc.enable()
