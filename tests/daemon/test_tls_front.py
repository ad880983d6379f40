# SPDX-License-Identifier: MIT
"""The front that ends TLS: who gets in, and what its death and its strangers cost."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from certificates import Authority
from gendriverd import etf
from gendriverd.client import connect, open_client
from gendriverd.etf import Atom
from gendriverd.listener import open_tls
from gendriverd.schema import TlsConfig
from key_updates import KeyUpdater
from running_daemon import RunningDaemon, open_files
from test_listening import OPTIONS
from tls_peer import House, Peer, call, dial, echoes, front_of

Start = Callable[..., RunningDaemon]
ECHO = {"echo": {"driver": "echo.so"}}
OK = Atom("ok")


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path / "certificates")


async def test_both_python_clients_call_over_tls(daemon: Start, house: House) -> None:
    running = daemon(ECHO, tls=house.settings())
    large = os.urandom(3_000_000)
    with connect(running.tls_url, "echo", tls=house.trust()) as client:
        assert client.call("echo", large) == (OK, large)
    async with open_client(running.tls_url, "echo", tls=house.trust()) as trio_client:
        assert await trio_client.call("echo", large) == (OK, large)


def test_tls_1_2_is_refused(daemon: Start, house: House) -> None:
    running = daemon(ECHO, tls=house.settings())
    old = house.trust()
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError, match="alert protocol version"):
        Peer(running.tls_url, old)
    assert running.wait_event("tls_refused")["why"] == "unsupported protocol"
    assert echoes(running, house)


@pytest.mark.parametrize(
    ("whose", "alert", "why"),
    [
        ("nobody", "certificate required", "peer did not return a certificate"),
        ("a stranger", "unknown ca", "certificate: unable to get local issuer certificate"),
        ("of yesterday", "certificate expired", "certificate: certificate has expired"),
    ],
)
def test_who_must_show_a_certificate_and_has_none_that_counts_is_refused(
    daemon: Start, house: House, tmp_path: Path, whose: str, alert: str, why: str
) -> None:
    running = daemon(ECHO, tls=house.asking())
    certificate = {
        "nobody": None,
        "a stranger": Authority(tmp_path, "other").issue("anna"),
        "of yesterday": house.authority.issue("anna", days=-1),
    }[whose]
    with Peer(running.tls_url, house.trust(certificate)) as peer, pytest.raises(ssl.SSLError, match=alert):
        peer.hear()
    assert running.wait_event("tls_refused")["why"] == why
    assert not [event for event in running.events if event["event"] in {"tls_client", "client_connected"}]


def test_the_names_of_a_certificate_reach_the_daemon(daemon: Start, house: House) -> None:
    running = daemon(ECHO, tls=house.asking())
    anna = house.authority.issue("anna", hosts=["anna.example"], uris=["spiffe://example/anna"])
    with Peer(running.tls_url, house.trust(anna)).welcomed("echo") as peer:
        seen = running.wait_event("tls_client")
        assert seen["certificate"] == ["CN=anna", "DNS:anna.example", "URI:spiffe://example/anna"]
        assert seen["peer"] == f"tls://127.0.0.1:{peer.tcp.getsockname()[1]}"
        assert running.wait_event("client_connected")["peer"] == seen["peer"]


def test_where_a_certificate_is_optional_none_is_needed_but_a_wrong_one_is_refused(
    daemon: Start, house: House, tmp_path: Path
) -> None:
    running = daemon(ECHO, tls=house.asking("optional"))
    assert echoes(running, house)
    stranger = Authority(tmp_path, "other").issue("anna")
    with Peer(running.tls_url, house.trust(stranger)) as peer, pytest.raises(ssl.SSLError, match="unknown ca"):
        peer.hear()


def test_who_stalls_in_the_handshake_is_dropped(daemon: Start, house: House) -> None:
    running = daemon(ECHO, tls=house.settings(handshake_timeout="100ms"))
    with dial(running.tls_url) as silent, dial(running.tls_url) as begun:
        begun.sendall(b"\x16\x03\x01\x02\x00\x01")
        assert silent.recv(1) == begun.recv(1) == b""
    assert running.wait_event("tls_refused")["why"] == "no handshake within 0.1 s"


def test_those_who_stall_in_the_handshake_cost_nobody_a_place(daemon: Start, house: House) -> None:
    running = daemon(ECHO, tls=house.settings(handshake_timeout="10m", handshake_pending=2))
    first, second, third = (dial(running.tls_url) for _ in range(3))
    with first, second, third:
        assert first.recv(1) == b""
        assert echoes(running, house)
        assert second.recv(1) == b""
    assert running.wait_event("tls_refused")["why"] == "handshake_pending: others came"


def test_more_clients_than_may_be_are_closed(daemon: Start, house: House) -> None:
    running = daemon(ECHO, tls=house.settings(connections=1))
    with Peer(running.tls_url, house.trust()).welcomed("echo") as peer:
        with pytest.raises(OSError, match=r"reset|ended in the handshake"):
            Peer(running.tls_url, house.trust())
        peer.say_all()
        assert peer.hear() is None
    running.wait_event("client_closed")
    assert running.wait_event("tls_refused")["why"].startswith("connections: ")


@pytest.mark.parametrize(
    "garbage",
    [b"GET / HTTP/1.1\r\n\r\n", bytes(5000), b"\x16\x03\x01\xff\xff" + bytes(70000), b"\x15\x03\x03\x00\x02\x02\x28"],
)
def test_garbage_in_place_of_a_handshake_harms_nobody(daemon: Start, house: House, garbage: bytes) -> None:
    running = daemon(ECHO, tls=house.settings())
    pid = front_of(running)
    with dial(running.tls_url) as stranger:
        stranger.sendall(garbage)
        stranger.shutdown(socket.SHUT_WR)
        while stranger.recv(1 << 16):
            pass
    running.wait_event("tls_refused")
    assert echoes(running, house)
    assert front_of(running) == pid


def test_garbage_after_the_handshake_ends_that_connection_alone(daemon: Start, house: House) -> None:
    running = daemon(ECHO, tls=house.settings())
    with Peer(running.tls_url, house.trust()).welcomed("echo") as peer:
        with Peer(running.tls_url, house.trust()).welcomed("echo") as liar:
            liar.tcp.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
            while liar.tcp.recv(1 << 16):
                pass
        running.wait_event("client_closed")
        peer.say(call(1, 1, 5))
        assert peer.hear() == (Atom("reply"), 1, (OK, 5))


def test_who_changes_its_key_all_the_time_is_cut_off_and_who_does_it_now_and_then_is_served(
    daemon: Start, house: House
) -> None:
    running = daemon(ECHO, tls=house.settings())
    updater = KeyUpdater()
    with dial(running.tls_url) as raw:
        raw.sendall(updater.shake(b""))
        while not updater.shaken:
            raw.sendall(updater.shake(raw.recv(1 << 16)))
        raw.sendall(updater.update(5) + updater.encrypt(etf.frame((Atom("hello"), 1, b"echo", {})) + call(1, 1, 5)))
        heard = b""
        while not heard.endswith(etf.frame((Atom("reply"), 1, (OK, 5)))):
            heard += updater.decrypt(raw.recv(1 << 16))
        with contextlib.suppress(ConnectionError):
            while True:
                raw.sendall(updater.update(1000))
    assert running.wait_event("tls_refused")["why"] == "too many records that bring nothing, as changes of keys"
    assert echoes(running, house)
    assert not [event for event in running.events if event["event"] == "tls_front_backoff"]


def test_the_death_of_the_front_costs_its_clients_alone(daemon: Start, house: House) -> None:
    running = daemon(ECHO, tls=house.settings())
    host, front = running.host_pid("echo"), front_of(running)
    with connect(running.tcp_url, "echo") as plain, Peer(running.tls_url, house.trust()).welcomed("echo") as peer:
        since = len(running.events)
        os.kill(front, signal.SIGKILL)
        assert running.wait_event("tls_front_backoff")["reason"] == "killed by SIGKILL"
        with pytest.raises(ssl.SSLEOFError):
            peer.hear()
        assert front_of(running, since) != front
        assert echoes(running, house)
        assert plain.call("echo", 1) == (OK, 1)
    assert running.host_pid("echo") == host
    assert running.wait_event("client_closed")


def test_who_connects_while_there_is_no_front_waits_for_the_next(daemon: Start, house: House) -> None:
    running = daemon(ECHO, tls=house.settings())
    front = front_of(running)
    os.kill(front, signal.SIGSTOP)
    with dial(running.tls_url):  # it lies in the listening socket, which the front does not take away
        waiting = threading.Thread(target=lambda: served.append(echoes(running, house)))
        served: list[bool] = []
        waiting.start()
        os.kill(front, signal.SIGKILL)
        waiting.join()
    assert served == [True]


@pytest.mark.skipif(os.geteuid() != 0, reason="nobody else may look into the front")
def test_the_front_has_nothing_but_what_it_needs(daemon: Start, house: House) -> None:
    running = daemon(ECHO, tls=house.settings(), env={"DATABASE_PASSWORD": "hunter2", "LC_CTYPE": "C.UTF-8"})
    pid = front_of(running)
    environ = Path(f"/proc/{pid}/environ").read_bytes().rstrip(b"\0").split(b"\0")
    assert [each.partition(b"=")[0] for each in environ] == [b"GENDRIVERD_HOST_NUMBER"]
    files = sorted(target.partition(":")[0] for target in open_files(pid).values())
    # The ends of its channel and of its listening socket, its epoll; what it prints is a socket.
    assert files == ["/dev/null", "anon_inode", "socket", "socket", "socket", "socket"]
    assert os.getsid(pid) == pid
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    assert status["NoNewPrivs"] == "1"
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert set(status["Uid"].split()) == set(status["Gid"].split()) == {str(0x77FFFFFF)}
    assert status["Groups"].strip() == ""
    limits = Path(f"/proc/{pid}/limits").read_text()
    assert "Max core file size        0                    0" in limits


def test_a_socket_that_systemd_passes_as_tls_is_the_fronts(daemon: Start, house: House) -> None:
    with socket.create_server(("127.0.0.1", 0)) as plain, socket.create_server(("127.0.0.1", 0)) as encrypted:
        running = daemon(
            ECHO,
            tls=house.settings(listen=[]),
            passed=[plain.fileno(), encrypted.fileno()],
            env={"LISTEN_FDNAMES": "gendriverd.socket:tls"},
        )
        assert running.addresses() == [
            f"{kind}://127.0.0.1:{sock.getsockname()[1]}" for kind, sock in (("tcp", plain), ("tls", encrypted))
        ]
        assert echoes(running, house)
        with connect(running.tcp_url, "echo") as client:
            assert client.call("echo", 1) == (OK, 1)


@pytest.mark.parametrize("by", ["configuration", "systemd"])
async def test_a_peer_of_the_front_that_is_gone_is_looked_for_too(by: str) -> None:
    """The front sets nothing of it: Linux gives a socket that is accepted what the listening one has."""
    with socket.create_server(("127.0.0.1", 0)) as passed:
        fds = [os.dup(passed.fileno())] if by == "systemd" else []
        config = TlsConfig.model_validate(
            {"listen": [] if fds else ["tcp://127.0.0.1:0"], "certificate": "c", "key": "k"}
        )
        (listener,) = open_tls(config, fds, 120.0)
        with socket.socket(fileno=os.dup(listener.fileno())) as of_the_front:
            of_the_front.setblocking(True)
            with socket.create_connection(of_the_front.getsockname(), 30), of_the_front.accept()[0] as client:
                assert client.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
                found = tuple(client.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in OPTIONS)
        listener.close()
    assert found == (1, 60, 15, 4, 120_000)


def test_gendriverd_call_speaks_tls(daemon: Start, house: House) -> None:
    running = daemon(ECHO, tls=house.asking())
    anna = house.authority.issue("anna")
    both = house.own.certificate.with_name("both.pem")
    both.write_bytes(anna.certificate.read_bytes() + anna.key.read_bytes())

    def ask(*more: str) -> subprocess.CompletedProcess[str]:
        asked = [sys.executable, "-m", "gendriverd", "call", "--connect", running.tls_url, *more, "echo", "echo", "5"]
        return subprocess.run(asked, capture_output=True, text=True, check=False, timeout=30)

    done = ask("--ca", str(house.authority.file), "--cert", str(both))
    assert (done.returncode, done.stdout) == (0, "{ok,5}\n")
    stranger = ask("--cert", str(both))  # whom the system trusts, our authority is not among
    assert stranger.returncode == 69
    assert "certificate verify failed" in stranger.stderr
    wrong = ask("--ca", str(house.own.key))
    assert wrong.returncode == 78
    assert wrong.stderr.startswith(f"gendriverd: {house.own.key}: ")
