# SPDX-License-Identifier: MIT
"""The daemon's certificate and its clients' authorities: renewed by a reload, refused, and said by status."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from certificates import Authority
from gendriverd import etf
from gendriverd.cli import main
from gendriverd.client.tls import Tunnel
from gendriverd.etf import Atom
from running_daemon import RunningDaemon, configuration
from tls_peer import House, Peer, call, dial, echoes, front_of

Start = Callable[..., RunningDaemon]
ECHO = {"echo": {"driver": "echo.so"}}
OK = Atom("ok")


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path / "certificates")


def test_a_reload_takes_a_new_certificate_for_new_connections(daemon: Start, house: House) -> None:
    running = daemon(ECHO, tls=house.settings())
    front = front_of(running)
    before = shown(running, house)
    with Peer(running.tls_url, house.trust()).welcomed("echo") as peer:
        house.authority.issue("localhost", hosts=["localhost", "127.0.0.1"])
        running.process.send_signal(signal.SIGHUP)
        running.wait_event("tls_renewed")
        assert shown(running, house) != before
        peer.say(call(1, 1, b"still"))
        assert peer.hear() == (Atom("reply"), 1, (OK, b"still"))
    assert front_of(running) == front


def test_a_reload_takes_new_authorities_of_clients(daemon: Start, house: House, tmp_path: Path) -> None:
    running = daemon(ECHO, tls=house.asking())
    other = Authority(tmp_path, "other")
    house.authority.file.write_bytes(house.authority.file.read_bytes() + other.file.read_bytes())
    running.process.send_signal(signal.SIGHUP)
    running.wait_event("tls_renewed")
    with Peer(running.tls_url, house.trust(other.issue("berta"))).welcomed("echo"):
        assert running.wait_event("tls_client")["certificate"] == ["CN=berta"]


def reload(running: RunningDaemon) -> None:
    since = len(running.events)
    running.process.send_signal(signal.SIGHUP)
    running.wait_event("reloaded", since=since)


def take_away_the_authority(house: House, directory: Path) -> None:
    house.authority.file.write_bytes(Authority(directory, "other").file.read_bytes())


@pytest.mark.parametrize("auth", ["none", "hmac"])
def test_who_came_in_by_an_authority_that_is_none_any_more_gets_no_host(
    daemon: Start, house: House, tmp_path: Path, auth: str
) -> None:
    keys = {"anna": {"certificates": ["CN=anna"]}} if auth == "hmac" else {}
    running = daemon(ECHO, settings={"auth": auth}, keys=keys, tls=house.asking())
    anna = house.trust(house.authority.issue("anna"))
    with Peer(running.tls_url, anna) as peer, Peer(running.tls_url, anna).welcomed("echo") as served:
        assert peer.hear()[0] == Atom("gen_driver")
        take_away_the_authority(house, tmp_path)
        reload(running)
        peer.say(etf.frame((Atom("hello"), 1, b"echo", {})))
        assert peer.hear() == (Atom("refused"), Atom("busy"))
        served.say(call(1, 1, b"still"))
        assert served.hear() == (Atom("reply"), 1, (OK, b"still"))
    assert running.wait_event("client_refused")["why"] == "certificates were renewed meanwhile"


def test_who_showed_no_certificate_before_one_was_required_gets_no_host(
    daemon: Start, house: House, tmp_path: Path
) -> None:
    running = daemon(ECHO, tls=house.settings())
    with Peer(running.tls_url, house.trust()) as peer:
        assert peer.hear()[0] == Atom("gen_driver")
        drop_in = tmp_path / "daemon-1/conf.d/tls.toml"
        drop_in.parent.mkdir()
        drop_in.write_text(f'[tls]\nclients = "required"\nclient_ca = "{house.authority.file}"\n')
        reload(running)
        peer.say(etf.frame((Atom("hello"), 1, b"echo", {})))
        assert peer.hear() == (Atom("refused"), Atom("busy"))


def test_who_is_in_its_handshake_of_tls_when_authorities_change_does_not_get_through_it(
    daemon: Start, house: House, tmp_path: Path
) -> None:
    running = daemon(ECHO, tls=house.asking())
    tunnel = Tunnel(house.trust(house.authority.issue("anna")), "localhost")
    with dial(running.tls_url) as raw:
        raw.sendall(tunnel.shake(b""))
        while not tunnel.shaken:
            last = tunnel.shake(raw.recv(1 << 16))
        take_away_the_authority(house, tmp_path)
        reload(running)
        with contextlib.suppress(ConnectionError):
            raw.sendall(last)
            assert raw.recv(1 << 16) == b""
    assert not [event for event in running.events if event["event"] == "tls_client"]


def test_a_reload_that_changes_nothing_of_tls_disturbs_nobody_in_the_handshake(daemon: Start, house: House) -> None:
    running = daemon(ECHO, tls=house.asking())
    with Peer(running.tls_url, house.trust(house.authority.issue("anna"))) as peer:
        reload(running)
        peer.welcomed("echo")


def test_a_front_that_has_as_many_clients_as_descriptors_can_be_renewed(daemon: Start, house: House) -> None:
    running = daemon(ECHO, tls=house.settings(handshake_timeout="10m"), under=["prlimit", "--nofile=120:120"])
    front_of(running)
    with ExitStack() as stack:
        clients = [stack.enter_context(dial(running.tls_url)) for _ in range(150)]
        wait_closed(clients, 150 - (120 - 64) // 3)
        house.authority.issue("localhost", hosts=["localhost", "127.0.0.1"])
        reload(running)
        wait_closed(clients, 150)
        assert echoes(running, house)
    assert not [event for event in running.events if event["event"] in {"tls_front_backoff", "tls_front_output"}]


def wait_closed(clients: list[socket.socket], count: int) -> None:
    end, closed = time.monotonic() + 60, 0
    while closed < count:
        assert time.monotonic() < end
        closed = len(select.select(clients, [], [], 1)[0])


def test_a_new_certificate_that_will_not_do_changes_nothing(daemon: Start, house: House) -> None:
    running = daemon(ECHO, tls=house.settings())
    before = shown(running, house)
    house.authority.issue("localhost", hosts=["localhost"], days=-1)
    running.process.send_signal(signal.SIGHUP)
    (problem,) = running.wait_event("reload_failed")["problems"]
    assert problem == f"[tls] certificate: file {house.own.certificate}: certificate has expired"
    assert shown(running, house) == before


def shown(running: RunningDaemon, house: House) -> bytes:
    """The daemon's certificate, as a new client sees it."""
    with dial(running.tls_url) as raw, house.trust().wrap_socket(raw, server_hostname="localhost") as tls:
        return tls.getpeercert(binary_form=True) or b""


def test_a_front_that_dies_after_a_reload_comes_back_with_the_new_certificate(daemon: Start, house: House) -> None:
    running = daemon(ECHO, tls=house.settings())
    front = front_of(running)
    house.authority.issue("localhost", hosts=["localhost", "127.0.0.1"])
    running.process.send_signal(signal.SIGHUP)
    running.wait_event("tls_renewed")
    new, since = shown(running, house), len(running.events)
    os.kill(front, signal.SIGKILL)
    front_of(running, since)
    assert shown(running, house) == new


@pytest.mark.parametrize("command", ["check", "serve"])
def test_a_certificate_that_will_not_do_is_one_sentence_and_ends_with_78(
    tmp_path: Path, house: House, command: str
) -> None:
    house.own.key.chmod(0o644)
    path = tmp_path / "c.toml"
    path.write_text(configuration({"listen": [], "admin": ""}, ECHO, tls=house.settings(listen=["tcp://127.0.0.1:0"])))
    asked = [sys.executable, "-m", "gendriverd", command, "--config", str(path)]
    done = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 78
    assert done.stderr == (
        f"gendriverd: [tls] key: file {house.own.key}: its mode is 0644, so others have a hand in it: chmod 600\n"
    )


def test_status_says_who_ends_tls_and_until_when_its_certificate_is_good(
    daemon: Start, house: House, capsys: pytest.CaptureFixture[str]
) -> None:
    running = daemon({"echo": {"driver": "echo.so"}}, tls=house.settings())
    ready = running.wait_event("tls_ready")
    assert echoes(running, house)
    assert main(["status", "--admin", running.admin]) == 0
    line = capsys.readouterr().out.splitlines()[1]
    certificate = f"certificate CN=localhost, DNS:localhost, until {ready['until']}"
    assert line == f"TLS running, pid {ready['pid']}, 1 clients handed over; {certificate}"
    renewed = house.authority.issue("renewed", hosts=["localhost"])
    house.own.certificate.write_bytes(renewed.certificate.read_bytes())
    house.own.key.write_bytes(renewed.key.read_bytes())
    os.kill(running.pid, signal.SIGHUP)
    running.wait_event("reloaded")
    assert main(["status", "--admin", running.admin, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tls"]["certificate"] == ["CN=renewed", "DNS:localhost"]
