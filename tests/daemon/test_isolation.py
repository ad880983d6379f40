# SPDX-License-Identifier: MIT
"""One that fails, floods or waits holds up no other: instances, clients in their handshake, an unread log, a stop."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gendriverd.client import Refused, connect
from gendriverd.etf import Atom
from running_daemon import RunningDaemon, configuration
from test_daemon import Raw, hello

OK = Atom("ok")
Daemon = Callable[..., RunningDaemon]


def test_an_instance_that_dies_again_and_again_holds_back_no_readiness(daemon: Daemon, drivers: Path) -> None:
    bad = {"driver": drivers / "test/initcrash.so"}
    running = daemon({"bad": bad, "echo": {"driver": "echo.so"}}, expect_ready=["echo"])
    assert "1 of 2 instances running" in running.wait_event("ready")["status"]


def test_clients_that_wait_for_one_instance_take_no_place_of_the_others(daemon: Daemon, drivers: Path) -> None:
    bad = {"driver": drivers / "test/initcrash.so", "restart": {"first": "60s", "max": "60s"}}
    settings = {"handshake_pending": 4, "handshake_drop_from": 1, "handshake_timeout": "60s"}
    running = daemon({"bad": bad, "echo": {"driver": "echo.so"}}, expect_ready=["echo"], settings=settings)
    waiting = [Raw(running.tcp_url) for _ in range(4)]
    for raw in waiting:
        raw.sock.sendall(hello(b"bad"))
        raw.receive()
    with pytest.raises(Refused, match="unknown_instance"):  # theirs was said before
        connect(running.tcp_url, "nobody")
    with Raw(running.tcp_url) as raw:
        raw.sock.sendall(hello(b"bad"))
        raw.receive()
        assert raw.receive() == (Atom("refused"), Atom("busy"))
    with connect(running.tcp_url, "echo") as client:
        assert client.call("echo", 1) == (OK, 1)
    for raw in waiting:
        raw.sock.close()


def test_a_client_in_its_handshake_holds_up_no_stop(daemon: Daemon) -> None:
    running = daemon({"echo": {"driver": "echo.so"}})
    with Raw(running.tcp_url) as raw:
        raw.receive()  # greeted, and says nothing
        running.terminate()
        assert raw.receive() == (Atom("refused"), Atom("draining"))
    running.wait_event("stopped")  # not forced: looked at when the test ends


def test_a_daemon_without_instances_stops_as_well(daemon: Daemon) -> None:
    running = daemon({})
    running.terminate()
    running.wait_event("stopped")


def test_a_log_that_nobody_reads_holds_up_no_client_and_no_stop(tmp_path: Path, drivers: Path, host_path: Path) -> None:
    url, notify = f"unix:{tmp_path}/s", socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notify.bind(f"{tmp_path}/n")
    notify.settimeout(60)
    path = tmp_path / "c.toml"
    settings = {"listen": [url], "log_level": "debug", "log_format": "json", "host": host_path}
    path.write_text(configuration(settings, {"echo": {"driver": str(drivers / "echo.so")}}))
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    with subprocess.Popen(
        [sys.executable, "-m", "gendriverd", "serve", "--config", path],
        stderr=writer,
        env={**os.environ, "NOTIFY_SOCKET": f"{tmp_path}/n"},
    ) as process:
        os.close(writer)
        try:
            while not notify.recv(4096).startswith(b"READY=1"):
                pass
            for number in range(100):  # three lines each
                with connect(url, "echo") as client:
                    assert client.call("echo", number) == (OK, number)
            process.terminate()
            assert process.wait(60) == 0
        finally:
            process.kill()
            os.close(reader)
            notify.close()


def test_started_with_its_children_ignored_it_still_knows_how_they_end(daemon: Daemon, drivers: Path) -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        running = daemon(
            {"bad": {"driver": drivers / "test/refuse.so"}, "echo": {"driver": "echo.so"}}, expect_ready=[]
        )
    finally:
        signal.signal(signal.SIGCHLD, before)
    running.wait_event("instance_failed", instance="bad")
    running.wait_event("instance_ready", instance="echo")
    os.kill(running.host_pid("echo"), signal.SIGKILL)
    assert running.wait_event("host_exited", instance="echo")["signal"] == "SIGKILL"


def test_a_driver_whose_name_cannot_be_one_is_a_sentence_and_final(daemon: Daemon) -> None:
    running = daemon({"bad": {"driver": "x" * 300 + ".so"}, "echo": {"driver": "echo.so"}}, expect_ready=["echo"])
    assert "not found in" in running.wait_event("instance_failed", instance="bad")["reason"]
    assert not [line for line in running.lines if "Traceback" in line]
