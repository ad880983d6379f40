# SPDX-License-Identifier: MIT
"""TLS, each direction until its own end: of a client, of its host, of the daemon."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gendriverd import etf
from gendriverd.etf import Atom
from running_daemon import RunningDaemon
from test_crash import BLOCK, WAITING
from tls_peer import House, Peer, call, dial, echoes, front_of

Start = Callable[..., RunningDaemon]
ECHO = {"echo": {"driver": "echo.so"}}
OK = Atom("ok")
RELEASE = 13


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path / "certificates")


def test_a_client_that_has_said_all_still_gets_all_its_answers(daemon: Start, house: House) -> None:
    running = daemon(ECHO, tls=house.settings())
    parts = [os.urandom(1_000_000) for _ in range(16)]
    with Peer(running.tls_url, house.trust()).welcomed("echo") as peer:
        asking = threading.Thread(target=peer.tcp.sendall, args=[peer.last(*map(call, range(16), [1] * 16, parts))])
        asking.start()
        answers = dict(peer.hear()[1:] for _ in parts)
        asking.join()
        assert answers == {number: (OK, part) for number, part in enumerate(parts)}
        assert peer.hear() is None
    assert running.wait_event("client_closed")["reason"] == "peer_closed"


def test_the_last_word_to_a_client_that_goes_on_talking_arrives(daemon: Start, house: House) -> None:
    running = daemon(ECHO, tls=house.settings())
    with Peer(running.tls_url, house.trust()) as peer:
        peer.say(etf.frame((Atom("hello"), 1, b"nobody", {})), b"x" * 3_000_000)
        assert peer.hear()[0] == Atom("gen_driver")
        assert peer.hear() == (Atom("refused"), Atom("unknown_instance"))
        assert peer.hear() is None


def test_a_client_that_is_cut_off_is_gone_for_its_host(daemon: Start, house: House) -> None:
    """An end of TCP without close_notify, which anybody on the way can make."""
    running = daemon(ECHO, tls=house.settings())
    with Peer(running.tls_url, house.trust()).welcomed("echo") as peer:
        peer.tcp.shutdown(socket.SHUT_WR)
        assert peer.tcp.recv(1 << 16) == b""
    running.wait_event("client_closed")


def test_a_client_that_resets_is_gone_for_its_host(daemon: Start, house: House) -> None:
    running = daemon(ECHO, tls=house.settings())
    with Peer(running.tls_url, house.trust()).welcomed("echo") as peer:
        peer.tcp.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    running.wait_event("client_closed")
    assert echoes(running, house)


def test_a_host_that_dies_is_told_to_its_clients(daemon: Start, house: House, drivers: Path) -> None:
    running = daemon({"crash": {"driver": str(drivers / "test/crash.so")}}, tls=house.settings())
    with Peer(running.tls_url, house.trust()).welcomed("crash") as peer:
        os.kill(running.host_pid("crash"), signal.SIGKILL)
        assert peer.hear() == (Atom("goodbye"), Atom("host_died"))
        assert peer.hear() is None


def test_calls_under_way_when_the_daemon_stops_are_answered(daemon: Start, house: House, drivers: Path) -> None:
    running = daemon({"crash": {"driver": str(drivers / "test/crash.so"), "threads": 2}}, tls=house.settings())
    with Peer(running.tls_url, house.trust()).welcomed("crash") as peer:
        peer.say(call(1, BLOCK, 0), call(2, WAITING, 1))
        assert peer.hear() == (Atom("reply"), 2, OK)
        running.terminate()
        assert peer.hear() == (Atom("goodbye"), Atom("draining"))
        assert nobody_listens(running.tls_url)
        peer.say(call(3, RELEASE, 1))
        assert {peer.hear() for _ in range(2)} == {(Atom("reply"), 1, OK), (Atom("reply"), 3, OK)}
        peer.say_all()
        assert peer.hear() is None
    running.stop()


def nobody_listens(url: str) -> bool:
    """Before long."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            dial(url).close()
        except ConnectionRefusedError:
            return True
    return False


def test_what_a_host_has_said_before_the_daemon_ends_still_arrives(daemon: Start, house: House) -> None:
    soon = {"drain_timeout": "100ms", "stop_timeout": "100ms"}
    running = daemon(ECHO, settings=soon, tls=house.settings())
    front = front_of(running)
    with Peer(running.tls_url, house.trust()).welcomed("echo") as peer:
        os.kill(front, signal.SIGSTOP)
        running.terminate()
        running.wait_event("tls_front_leaves")
        os.kill(front, signal.SIGCONT)
        heard = list(iter(peer.hear, None))
        assert heard == [(Atom("goodbye"), Atom("draining")), (Atom("goodbye"), Atom("stopping"))]
    running.stop()
