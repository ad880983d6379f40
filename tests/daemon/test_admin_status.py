# SPDX-License-Identifier: MIT
"""`gendriverd status` against a real daemon: what it says is how its hosts are."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from admin_peer import ECHO, Daemon, Shell, answer_of, status
from gendriverd.client import connect
from gendriverd.etf import Atom
from test_crash import BLOCK, WAITING, call, welcomed
from test_reload import OK, RELEASE


def test_status_of_a_daemon_where_all_is_well(daemon: Daemon, capsys: pytest.CaptureFixture[str]) -> None:
    running = daemon({"echo": ECHO, "sum": {"driver": "sum.so"}})
    with connect(running.tcp_url, "echo"), connect(running.unix_url, "echo"):
        code, lines, _ = Shell(running, capsys)("status")
    assert code == 0
    assert f"pid {running.pid}" in lines[0]
    rows = [line.split() for line in lines[2:]]
    assert [row[:4] for row in rows] == [
        ["echo", "running", "1", str(running.host_pid("echo"))],
        ["sum", "running", "1", str(running.host_pid("sum"))],
    ]
    assert [row[5:] for row in rows] == [["2", "0", "-"], ["0", "0", "-"]]


def test_status_as_json_is_all_that_the_daemon_knows(daemon: Daemon, capsys: pytest.CaptureFixture[str]) -> None:
    running = daemon({"echo": ECHO})
    code, lines, _ = Shell(running, capsys)("status", "--json")
    told = json.loads("\n".join(lines))
    host = told["instances"]["echo"]["hosts"].pop()
    assert code == 0
    assert told["daemon"]["pid"] == running.pid
    assert told["daemon"]["uptime"] >= host.pop("ready_for") >= 0
    assert host == {"pid": running.host_pid("echo"), "generation": 1, "state": "running", "connections": 0}
    assert told["instances"]["echo"] == {
        "state": "running",
        "generation": 1,
        "driver": "echo.so",
        "deaths": 0,
        "last_exit": None,
        "trouble": None,
        "hosts": [],
    }


def test_status_where_not_all_run_ends_with_1_and_says_why(
    daemon: Daemon, drivers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(tmp_path / "fifo")
    slow: dict[str, object] = {
        "driver": str(drivers / "test/slowinit.so"),
        "settings": {"fifo": str(tmp_path / "fifo")},
        "start_timeout": "10m",
    }
    running = daemon(
        {
            "dying": {"driver": str(drivers / "test/initcrash.so"), "restart": {"first": "10m", "max": "10m"}},
            "echo": ECHO,
            "refusing": {"driver": str(drivers / "test/refuse.so")},
            "slow": slow,
        },
        expect_ready=["echo"],
    )
    # The first death is followed at once, the second by ten minutes.
    running.wait_until("backoff", lambda events: sum(e["event"] == "instance_backoff" for e in events) >= 2)
    running.wait_event("instance_failed", instance="refusing")
    running.wait_event("host_started", instance="slow")
    code, lines, _ = Shell(running, capsys)("status")
    with (tmp_path / "fifo").open("wb"):
        running.wait_event("instance_ready", instance="slow")
    dying, echo, refusing, starting = (line.split(maxsplit=7) for line in lines[2:])
    assert code == 1
    assert [dying[1], dying[3], dying[6]] == ["backoff", "-", "2"]
    assert "SIGABRT" in dying[7]
    assert echo[1] == "running"
    assert [refusing[1], refusing[6]] == ["fatal", "0"]
    assert "the licence file expired in 1999" in refusing[7]
    assert starting[1:5] == ["starting", "1", str(running.host_pid("slow")), "-"]


def test_deaths_are_counted_over_reloads_and_the_last_is_told(daemon: Daemon) -> None:
    running = daemon({"echo": ECHO})
    os.kill(running.host_pid("echo"), signal.SIGKILL)
    running.wait_event("instance_ready", instance="echo", generation=2)
    answer_of(running.admin, {"do": "reload", "instance": "echo"})
    running.wait_event("host_exited", instance="echo", generation=2)  # as it was told: no death
    echo = status(running)["echo"]
    assert (echo["deaths"], echo["last_exit"], echo["generation"]) == (1, "killed by SIGKILL", 3)


def test_a_host_that_drains_is_shown_beside_the_new_one(daemon: Daemon, drivers: Path) -> None:
    running = daemon({"crash": {"driver": str(drivers / "test/crash.so"), "threads": 2}})
    with welcomed(running.tcp_url) as raw:
        raw.sock.sendall(call(1, BLOCK, 0) + call(2, WAITING, 1, 1))
        assert raw.receive() == (Atom("reply"), 2, OK)
        answer_of(running.admin, {"do": "reload", "instance": "crash"})
        old, new = status(running)["crash"]["hosts"]
        assert (old["state"], old["generation"], old["connections"]) == ("stopping", 1, 1)
        assert (new["state"], new["generation"], new["connections"]) == ("running", 2, 0)
        assert raw.receive() == (Atom("goodbye"), Atom("draining"))
        raw.sock.sendall(call(3, RELEASE, 1, 1))
        assert {raw.receive() for _ in range(2)} == {(Atom("reply"), 1, OK), (Atom("reply"), 3, OK)}
    running.wait_event("host_exited", instance="crash", generation=1)
    assert [host["pid"] for host in status(running)["crash"]["hosts"]] == [new["pid"]]
