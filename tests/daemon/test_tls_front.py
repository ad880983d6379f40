# SPDX-License-Identifier: MIT
"""The front that ends TLS: who gets in, each direction until its own end, and what its death and its strangers cost."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from certificates import Authority
from gendriverd import etf
from gendriverd.cli import main
from gendriverd.client import connect, open_client
from gendriverd.etf import Atom
from running_daemon import RunningDaemon, configuration, open_files
from test_crash import BLOCK, WAITING
from tls_peer import House, Peer, call, dial

Start = Callable[..., RunningDaemon]
ECHO = {"echo": {"driver": "echo.so"}}
OK = Atom("ok")
RELEASE = 13


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path / "certificates")


def front_of(running: RunningDaemon, since: int = 0) -> int:
    """The process, when it is ready."""
    return int(running.wait_event("tls_ready", since=since)["pid"])


def echoes(running: RunningDaemon, house: House) -> bool:
    """Somebody new is served."""
    with Peer(running.tls_url, house.trust()).welcomed("echo") as peer:
        peer.say(call(1, 1, b"hi"))
        return bool(peer.hear() == (Atom("reply"), 1, (OK, b"hi")))


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
