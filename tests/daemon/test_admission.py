# SPDX-License-Identifier: MIT
"""A real daemon's door: who is told busy, who is closed out, for how long, and that all others are served meanwhile."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import trio

from gendriverd import etf
from gendriverd.client import Refused, connect
from gendriverd.etf import Atom
from running_daemon import RunningDaemon, configuration
from test_auth import ANNA, SECRET, Files, Said
from test_daemon import Raw, hello, run
from tls_peer import House, Peer, call

OK = Atom("ok")
BUSY = (Atom("refused"), Atom("busy"))
BAD = b"\0\0\0\4GET "
ECHO: dict[str, dict[str, object]] = {"echo": {"driver": "echo.so"}}
STRICT = {"penalty_exempt": [], "penalty_after": 3}
Daemon = Callable[..., RunningDaemon]


def greeted(raw: Raw) -> bool:
    """False: closed without a word."""
    with contextlib.suppress(ConnectionResetError):
        return raw.receive() is not None
    return False


def served(url: str, key: tuple[str, bytes] | None = None) -> bool:
    with connect(url, "echo", key=key) as client:
        return bool(client.call("echo", 1) == (OK, 1))


@pytest.fixture
def opened() -> Iterator[Callable[[str], Raw]]:
    """Connections that say nothing, until the test's end."""
    with ExitStack() as stack:

        def open_one(url: str) -> Raw:
            raw = stack.enter_context(Raw(url))
            assert greeted(raw)
            return raw

        yield open_one


def fail(running: RunningDaemon, times: int = 1) -> None:
    """Hellos that are none, one after the other, each heard out."""
    for _ in range(times):
        with Raw(running.tcp_url) as raw:
            assert greeted(raw)
            raw.sock.sendall(BAD)
            assert raw.receive() == (Atom("refused"), Atom("bad_hello"))
            raw.sock.shutdown(socket.SHUT_WR)
            assert raw.receive() is None


def penalties(running: RunningDaemon) -> list[tuple[str, int, float]]:
    told = [event for event in running.events if event["event"] == "source_penalised"]
    return [(event["source"], event["failures"], event["seconds"]) for event in told]


def test_one_source_fills_its_share_and_another_is_served(daemon: Daemon, opened: Callable[[str], Raw]) -> None:
    running = daemon(ECHO, settings={**STRICT, "handshake_per_source": 4, "handshake_timeout": "10m"})
    silent = [opened(running.tcp_url) for _ in range(4)]
    with pytest.raises(Refused, match="busy"):
        connect(running.tcp_url, "echo")
    assert served(running.unix_url)
    silent[0].sock.sendall(hello(b"echo"))
    assert silent[0].receive()[0] == "welcome"  # type: ignore[index]
    assert served(running.tcp_url)  # there is room again


def test_this_machine_leaves_room_to_others_by_default(daemon: Daemon, opened: Callable[[str], Raw]) -> None:
    running = daemon(ECHO, settings={"handshake_pending": 20, "handshake_timeout": "10m"})
    for _ in range(10):
        opened(running.tcp_url)
    with pytest.raises(Refused, match="busy"):
        connect(running.tcp_url, "echo")
    assert served(running.unix_url)


def test_above_the_share_some_are_dropped_and_at_the_bound_all(daemon: Daemon) -> None:
    settings = {**STRICT, "handshake_pending": 80, "handshake_per_source": 1000, "handshake_timeout": "10m"}
    running = daemon(ECHO, settings={**settings, "penalty_after": 0})
    with ExitStack() as stack:
        came = [stack.enter_context(Raw(running.tcp_url)) for _ in range(400)]
        heard = [greeted(raw) for raw in came]
        let_in = [each and heard_bad_hello(raw) for raw, each in zip(came, heard, strict=True)]
    assert all(let_in[:41])
    assert not all(let_in[41:81])  # or it was chance, once in 10**16
    assert 60 <= sum(let_in) <= 80


def heard_bad_hello(raw: Raw) -> bool:
    """And so was let in; or was told that it is busy."""
    with contextlib.suppress(OSError):
        raw.sock.sendall(BAD)
    refusal = raw.receive()
    assert refusal in (BUSY, (Atom("refused"), Atom("bad_hello")))
    return refusal != BUSY


def test_after_some_failures_a_source_is_closed_out_and_the_log_says_so_once(daemon: Daemon) -> None:
    running = daemon(ECHO, settings={**STRICT, "penalty_first": "10m"})
    fail(running, 2)
    assert served(running.tcp_url)  # which pays
    fail(running, 3)
    running.wait_event("source_penalised")
    for _ in range(50):
        with Raw(running.tcp_url) as raw:
            assert not greeted(raw)
    assert served(running.unix_url)
    assert penalties(running) == [("127.0.0.0/8", 3, 600)]


def test_a_penalty_ends_and_the_next_is_twice_as_long(daemon: Daemon) -> None:
    running = daemon(ECHO, settings={**STRICT, "penalty_first": "100ms"})
    fail(running, 3)
    for failures in (4, 5):
        running.wait_event("source_penalised", failures=failures - 1)
        while not let_in(running):  # it leaves without a hello, which is a failure, too
            pass
        running.wait_event("source_penalised", failures=failures)
    assert penalties(running) == [("127.0.0.0/8", 3, 0.1), ("127.0.0.0/8", 4, 0.2), ("127.0.0.0/8", 5, 0.4)]


def let_in(running: RunningDaemon) -> bool:
    with Raw(running.tcp_url) as raw:
        return greeted(raw)


@pytest.mark.parametrize("how", ["wrong proof", "left", "too late", "no key"])
def test_each_way_to_fail_counts(daemon: Daemon, tmp_path: Path, how: str) -> None:
    settings = {**STRICT, "penalty_first": "10m", "auth": "hmac", "handshake_timeout": "200ms"}
    running = daemon(ECHO, settings=settings, keys={"anna": {"file": Files(tmp_path).anna}})
    for _ in range(3):
        with Raw(running.tcp_url) as raw:
            if how == "wrong proof":
                said = Said(raw, key=("anna", SECRET[::-1]))
                raw.sock.sendall(said.hello + said.proof)
                assert raw.receive() == (Atom("refused"), Atom("auth"))
            elif how == "no key":
                raw.receive()
                raw.sock.sendall(hello(b"echo"))
                assert raw.receive() == (Atom("refused"), Atom("auth"))
            elif how == "left":
                assert greeted(raw)
            else:
                assert greeted(raw)
                assert raw.receive() == (Atom("refused"), Atom("bad_hello"))
    running.wait_event("source_penalised")
    with Raw(running.tcp_url) as raw:
        assert not greeted(raw)
    assert served(running.unix_url, ANNA)


async def test_a_storm_of_honest_clients_is_let_in_and_none_is_penalised(daemon: Daemon) -> None:
    """All of one source, far more at once than its share, where one failure would close it out."""
    running = daemon(ECHO, settings={"penalty_exempt": [], "penalty_after": 1, "penalty_first": "10m"})
    host, port = running.tcp_url.removeprefix("tcp://").split(":")
    busy = 0

    async def come_until_served() -> None:
        nonlocal busy
        while True:
            heard = b""
            with contextlib.suppress(trio.BrokenResourceError):  # closed with our hello unread
                async with await trio.open_tcp_stream(host, int(port)) as stream:
                    await stream.send_all(hello(b"echo") + etf.frame((Atom("call"), 1, 1, 7)))
                    await stream.send_eof()
                    heard = b"".join([chunk async for chunk in stream])
            if heard.endswith(etf.frame((Atom("reply"), 1, (OK, 7)))):
                return
            assert not heard or heard.endswith(etf.frame(BUSY))  # nothing: of those who hear busy there are many, too
            busy += 1

    async with trio.open_nursery() as nursery:
        for _ in range(400):
            nursery.start_soon(come_until_served)
    assert busy > 0
    assert penalties(running) == []


def test_who_takes_all_descriptors_leaves_those_that_hosts_the_front_and_the_admin_socket_need(
    daemon: Daemon, tmp_path: Path
) -> None:
    house = House(tmp_path / "certificates")
    running = daemon(
        ECHO, settings={"handshake_timeout": "10m"}, tls=house.settings(), under=["prlimit", "--nofile=120:120"]
    )
    running.wait_event("tls_ready")
    with Peer(running.tls_url, house.trust()) as there, ExitStack() as stack:
        there.welcomed("echo")
        for _ in range(200):
            stack.enter_context(Raw(running.tcp_url))
        running.wait_event("accept_failed")
        with Peer(running.tls_url, house.trust()) as peer:
            assert peer.hear() is None  # it is closed as the others are
        assert run("status", "--admin", running.admin).returncode == 0
        there.say(call(1, 1, b"still here"))
        assert there.hear()[0] == "reply"
        os.kill(running.host_pid("echo"), signal.SIGKILL)
        running.wait_event("instance_ready", generation=2)
    assert served(running.tcp_url)
    assert not [event for event in running.events if event["event"] in {"tls_front_backoff", "host_not_started"}]


def test_loopback_is_not_penalised_by_default(daemon: Daemon) -> None:
    running = daemon(ECHO, settings={"penalty_after": 1})
    fail(running, 20)
    assert served(running.tcp_url)
    assert penalties(running) == []


def test_a_reload_changes_the_bounds(daemon: Daemon, tmp_path: Path) -> None:
    running = daemon(ECHO, settings={"penalty_after": 1, "penalty_first": "10m"})
    drop_in = tmp_path / "daemon-1/conf.d/door.toml"
    drop_in.parent.mkdir()

    def reload(**settings: object) -> None:
        drop_in.write_text(configuration(settings, {}))
        since = len(running.events)
        running.process.send_signal(signal.SIGHUP)
        running.wait_event("reloaded", since=since)

    fail(running)
    reload(penalty_exempt=[])
    fail(running)
    running.wait_event("source_penalised")
    with Raw(running.tcp_url) as raw:
        assert not greeted(raw)
    reload(penalty_exempt=["127.0.0.0/8"])
    assert served(running.tcp_url)
    reload(handshake_pending=1)
    with Raw(running.tcp_url) as raw:
        assert greeted(raw)
        with pytest.raises(Refused, match="busy"):
            connect(running.tcp_url, "echo")
    assert not any(event["event"] == "reload_needs_restart" for event in running.events)
