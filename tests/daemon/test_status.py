# SPDX-License-Identifier: MIT
"""`gendriverd status INSTANCE`: what its commands have cost, over all its hosts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from gendriverd.cli import main
from gendriverd.client import connect
from gendriverd.etf import Atom
from running_daemon import RunningDaemon, open_files

Daemon = Callable[..., RunningDaemon]


def test_what_the_commands_of_an_instance_cost(daemon: Daemon, capsys: pytest.CaptureFixture[str]) -> None:
    running = daemon({"echo": {"driver": "echo.so", "processes": 2}, "sum": {"driver": "sum.so"}})
    running.wait_until("both hosts", lambda events: sum(e["event"] == "instance_ready" for e in events) == 3)
    with connect(running.tcp_url, "echo") as one, connect(running.tcp_url, "echo") as other:
        for client in (one, other, other):
            assert client.call("echo", b"x") == (Atom("ok"), b"x")
        assert main(["status", "--admin", running.admin, "echo"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert main(["status", "--admin", running.admin, "echo", "--json"]) == 0
    row = next(line.split() for line in lines if line.startswith("  echo "))
    assert row[:4] == ["echo", "3", "0", "0"]
    told = json.loads(capsys.readouterr().out)["instances"]
    assert list(told) == ["echo"]
    (command,) = told["echo"]["commands"]
    assert (command["name"], command["calls"], command["casts"], command["failed"]) == ("echo", 3, 0, 0)
    for times in (command["queued_ms"], command["running_ms"]):
        assert 0 < times["p50"] <= times["p99"] <= times["max"]


def test_an_instance_that_is_not_there(daemon: Daemon, capsys: pytest.CaptureFixture[str]) -> None:
    running = daemon({"echo": {"driver": "echo.so"}})
    assert main(["status", "--admin", running.admin, "ecko"]) == 1
    assert "there is no instance 'ecko'; the instances are: echo" in capsys.readouterr().err


def test_a_host_that_cannot_be_believed_is_left_out(
    daemon: Daemon, drivers: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    running = daemon({"crash": {"driver": drivers / "test/crash.so"}})
    with connect(running.tcp_url, "crash") as client:
        client.call("pid")
        scribble(running.pid)
    assert main(["status", "--admin", running.admin, "crash", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["instances"]["crash"]["commands"] == []


def scribble(pid: int) -> None:
    """Over the beginning of the one recorder of a daemon."""
    (fd,) = [fd for fd, target in open_files(pid).items() if "gendriverd-recorder" in target]
    with fd.open("r+b") as memory:
        memory.write(b"\xa5" * 64)
