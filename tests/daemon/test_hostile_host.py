# SPDX-License-Identifier: MIT
"""Hosts that lie, hang, flood and die: the daemon believes nothing, ends every wait, and its other instances serve."""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gendriverd import check
from gendriverd.client import ClientError, Refused, connect
from gendriverd.config import load
from gendriverd.etf import Atom
from passed_sockets import needs_no_refusal, needs_refusal
from running_daemon import Event, RunningDaemon, configuration, descendants
from test_daemon import Raw, hello

OK = Atom("ok")
Start = Callable[..., RunningDaemon]


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """fake_host.py as an executable; the environment's host would win over the configuration's."""
    monkeypatch.delenv("GENDRIVERD_HOST", raising=False)
    path = tmp_path / "gendriver-host"
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" -s -E "{Path(__file__).with_name("fake_host.py")}" "$@"\n')
    path.chmod(0o755)
    return path


@pytest.fixture
def serving(daemon: Start, fake: Path) -> Callable[..., RunningDaemon]:
    """A daemon with the instances `x`, whose host behaves as told, and `good`."""

    def start(
        behave: str, *, ready: bool = True, restart: dict[str, object] | None = None, **settings: object
    ) -> RunningDaemon:
        bad = {"driver": "/x.so", "settings": {"behave": behave}, "restart": restart or {}}
        return daemon(
            {"x": bad, "good": {"driver": "/good.so"}},
            settings={"host": str(fake), "drain_timeout": "100ms", "stop_timeout": "100ms", **settings},
            expect_ready=["x", "good"] if ready else ["good"],
        )

    return start


def neighbour_serves(running: RunningDaemon) -> None:
    with connect(running.tcp_url, "good") as client:
        assert client.call(1, b"still here") == (OK, b"still here")


def events(running: RunningDaemon, name: str, instance: str = "x") -> list[Event]:
    return [e for e in running.events if e.get("event") == name and e.get("instance") == instance]


@pytest.mark.parametrize(
    ("behave", "charge"),
    [
        ("garbage", "said what is no message"),
        ("huge", "a message of more than 65536 bytes"),
        pytest.param("descriptor", "a message with a descriptor", marks=needs_no_refusal),
        ("unknown_conn", "connection 4711 waits for no answer"),
        ("close_channel", "closed its control channel"),
        ("pongs", "pong, which nobody asked for"),
        ("drained", "drained, which nobody asked for"),
        ("log_of_too_much", "values of more than 8192 bytes"),
    ],
)
def test_a_host_that_breaks_the_rules_is_killed_and_counted_as_crashed(
    serving: Start, behave: str, charge: str
) -> None:
    running = serving(behave, restart={"first": "10s"})
    exited = running.wait_event("host_exited", instance="x")
    assert charge in exited["reason"]
    assert exited["signal"] == "SIGKILL"
    running.wait_event("instance_backoff", instance="x", failures=1)
    neighbour_serves(running)


@needs_refusal
def test_a_host_passes_the_daemon_no_descriptor(serving: Start) -> None:
    running = serving("descriptor", restart={"first": "10s"})
    assert "exit code 5" in running.wait_event("host_exited", instance="x")["reason"]
    neighbour_serves(running)


def test_a_host_that_is_never_ready_is_given_up_after_start_timeout(serving: Start) -> None:
    running = serving("silent", ready=False, start_timeout="1s")
    assert "not ready after 1 s" in running.wait_event("host_exited", instance="x")["reason"]
    neighbour_serves(running)


def test_a_refusal_is_fatal_only_with_its_exit_code(serving: Start) -> None:
    """A host that refuses and stays is killed; that is a crash, not a verdict on the driver."""
    running = serving("refuse_and_stay", ready=False)
    assert "did not leave after refuse" in running.wait_event("host_exited", instance="x")["reason"]
    assert not events(running, "instance_failed")


def test_a_refusal_cannot_forge_log_lines(serving: Start) -> None:
    running = serving("refuse", ready=False)
    reason = running.wait_event("instance_failed", instance="x")["reason"]
    assert reason == "driver /x.so: undefined symbol: dispatch\\n\\x1b[31m"


def test_a_socket_not_adopted_before_its_host_died_goes_to_the_next_host(serving: Start) -> None:
    running = serving("die_once")
    with connect(running.tcp_url, "x") as client:
        assert client.call(1, [7]) == (OK, [7])
    assert running.wait_event("client_connected")["generation"] == 2


@pytest.mark.parametrize(("behave", "reason"), [("too_many", "busy"), ("no_descriptor", "unavailable")])
def test_a_client_hears_why_its_host_does_not_take_it(serving: Start, behave: str, reason: str) -> None:
    running = serving(behave)
    with pytest.raises(Refused) as refused:
        connect(running.tcp_url, "x")
    assert refused.value.reason == reason
    neighbour_serves(running)


def test_a_host_that_never_answers_an_offer_costs_only_that_connection(serving: Start) -> None:
    """Nobody may write to a socket that the host may have taken: it is closed without a word."""
    running = serving("mute", handshake_timeout="200ms")
    with pytest.raises(ClientError) as ended:
        connect(running.tcp_url, "x")
    assert not isinstance(ended.value, Refused)
    assert running.wait_event("client_refused")["reason"] == "silent_host"
    neighbour_serves(running)


@pytest.mark.parametrize("behave", ["make_it_wait", "leave_it_lingering", "die_lingering"])
def test_what_a_host_does_to_a_socket_that_it_shares_holds_up_nobody_else(serving: Start, behave: str) -> None:
    """Its flags and options are the socket's, and so ours too; the client does not read, and stays."""
    running = serving(behave)
    with Raw(running.tcp_url) as silent:
        silent.sock.sendall(hello(b"x"))
        if behave == "make_it_wait":
            running.wait_event("client_refused", reason="busy")
        elif behave == "leave_it_lingering":
            running.wait_event("client_closed", instance="x")
        else:
            silent.sock.shutdown(socket.SHUT_WR)  # so that it is not waited for
            running.wait_event("host_exited", instance="x")
        neighbour_serves(running)


def test_a_client_waits_for_a_host_in_backoff_only_as_long_as_its_handshake_may(serving: Start) -> None:
    running = serving("crash", ready=False, restart={"first": "1h", "max": "1h"}, handshake_timeout="200ms")
    running.wait_event("instance_backoff", instance="x", failures=2)
    with pytest.raises(Refused) as refused:
        connect(running.tcp_url, "x")
    assert refused.value.reason == "unavailable"


def test_a_host_that_ignores_drain_and_stop_is_killed(serving: Start) -> None:
    running = serving("deaf")
    running.stop()
    assert "did not stop in time" in events(running, "host_exited")[0]["reason"]


def test_what_a_host_leaves_behind_in_its_group_dies_with_it(serving: Start) -> None:
    """Even when it holds the channel and the output pipe, which then never end."""
    running = serving("leave_child", ready=False, restart={"first": "1h", "max": "1h"})
    running.wait_event("instance_backoff", instance="x", failures=2)
    hosts, until = {running.host_pid("good")}, time.monotonic() + 30
    while {process.pid for process in descendants(running.pid)} != hosts:  # killed, it takes its time to die
        assert time.monotonic() < until


def test_printed_lines_are_logged_cut_and_without_control_characters(serving: Start) -> None:
    running = serving("print")
    running.stop()
    lines = [e["line"] for e in events(running, "driver_output")]
    assert lines[0] == "from stdout\\x1b[2J"
    assert lines[-1] == "last words without newline"
    assert max(map(len, lines)) <= 2048


def test_a_hosts_log_line_cannot_pose_as_the_daemons(serving: Start) -> None:
    running = serving("log")
    line = running.wait_event("driver_log", instance="x", level="warning")
    assert (line["worker"], line["command"], line["request"], line["message"]) == (1, 2, 3, "hi\\nthere")
    forged = running.wait_event("host_log", instance="x")
    assert forged["driver_event"] == "stopped"
    assert forged["level"] == "error"
    assert forged["source"] == "host"


def test_a_flood_of_log_lines_is_bounded_and_what_is_lost_is_counted(serving: Start) -> None:
    running = serving("flood")
    neighbour_serves(running)
    running.wait_event("log_dropped", instance="x")
    began = time.monotonic()
    running.stop()
    logged = len(events(running, "driver_log"))
    dropped = sum(e["lines"] for e in events(running, "log_dropped"))
    assert logged + dropped <= 20_000
    assert logged < 1000 + 200 * (time.monotonic() - began + 30)


def test_a_flood_of_long_lines_is_bounded_by_their_length(serving: Start) -> None:
    running = serving("flood_long")
    neighbour_serves(running)
    running.wait_event("log_dropped", instance="x")
    began = time.monotonic()
    running.stop()
    lines = events(running, "driver_log")
    assert lines
    written = sum(len(str(value)) // 4 for line in lines for value in line.values())  # each character is spelled out
    assert written < 1024 * (1000 + 200 * (time.monotonic() - began + 30))
    assert len(lines) < 500


def test_a_report_holds_so_much_of_long_lines(serving: Start) -> None:
    running = serving("die_long", restart={"first": "1h", "max": "1h"})
    report = Path(str(running.wait_event("report_written", instance="x")["path"]))
    assert len(json.loads(report.read_text())["log"]) > 5
    assert report.stat().st_size < 50 * 8 * 2048


def test_check_tells_each_instances_verdict_and_forgets_no_process(
    tmp_path: Path, fake: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "c.toml"
    instances: dict[str, dict[str, object]] = {
        name: {"driver": "/x.so", "settings": {"behave": name}} for name in ("refuse", "crash", "silent", "serve")
    }
    daemon = {"host": str(fake), "start_timeout": "1s", "stop_timeout": "100ms"}
    path.write_text(configuration(daemon, instances))
    assert check.check_drivers(load(path)) == 78
    said = capsys.readouterr()
    assert "[instances.serve] driver /x.so: ready, 4 threads" in said.out
    assert "[instances.refuse] driver /x.so: undefined symbol: dispatch\\n\\x1b[31m" in said.err
    assert "[instances.crash] driver /x.so: exit code 3" in said.err
    assert "[instances.silent] driver /x.so: not ready after 1 s" in said.err
