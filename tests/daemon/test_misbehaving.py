# SPDX-License-Identifier: MIT
"""Drivers that misbehave, in a real host below a real daemon: what they do stays theirs."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from gendriverd.client import Failed, connect
from gendriverd.etf import Atom
from running_daemon import RunningDaemon

OK = Atom("ok")
Daemon = Callable[..., RunningDaemon]


ENDS = ["segv", "abort", "exit", "bus", "fpe", "ill", "kill", "segv_thread"]
if os.environ.get("GENDRIVERD_SANITIZER") != "tsan":  # which reports that race: it is the driver's
    ENDS.append("close_fds")


@pytest.mark.parametrize("how", ENDS)
def test_whatever_ends_a_host_ends_it_alone(daemon: Daemon, drivers: Path, how: str) -> None:
    running = daemon({"crash": {"driver": drivers / "test/crash.so"}, "sum": {"driver": "sum.so", "threads": 1}})
    with connect(running.tcp_url, "crash") as client, connect(running.tcp_url, "sum") as neighbour:
        neighbour.cast("ping")
        with pytest.raises(Failed) as failed:
            client.call(how)
        assert not failed.value.retryable
        running.wait_event("instance_ready", instance="crash", generation=2)
        assert client.call("pid")[0] == OK
        assert neighbour.call("stats") == (OK, [(Atom("driver"), 1), (Atom("thread"), 1)])
    assert [e["instance"] for e in running.events if e["event"] == "host_exited"] == ["crash"]


def test_what_a_driver_prints_is_logged_line_by_line(daemon: Daemon, drivers: Path) -> None:
    running = daemon({"stdio": {"driver": drivers / "test/stdio.so", "threads": 1}})
    with connect(running.tcp_url, "stdio") as client:
        for command in ("partial", "stderr", "long", "binary"):
            assert client.call(command) == OK
    running.terminate()
    running.wait_event("stopped")
    lines = [e["line"] for e in running.events if e["event"] == "driver_output"]
    assert any("no newline here" in line for line in lines)
    assert any("a word on stderr" in line for line in lines)
    assert all(len(line) < 20_000 for line in lines)
    assert {e["instance"] for e in running.events if e["event"] == "driver_output"} == {"stdio"}


@pytest.mark.parametrize("what", ["thread", "long", "ugly", "flood"])
def test_log_lines_of_any_kind_cost_nothing_but_lines(daemon: Daemon, drivers: Path, what: str) -> None:
    running = daemon({"logs": {"driver": drivers / "test/logs.so"}, "echo": {"driver": "echo.so"}})
    with connect(running.tcp_url, "logs") as client, connect(running.tcp_url, "echo") as neighbour:
        assert client.call(what) == OK
        assert neighbour.call("echo", 1) == (OK, 1)
        assert client.call("levels") == OK
    running.wait_event("driver_log", instance="logs")
    said = [e for e in running.events if e["event"] == "driver_log"]
    assert all(len(e.get("message", "")) <= 1100 for e in said)  # 1,000 bytes, some of them escaped
    assert len(said) < 100_000


def test_an_instance_is_ready_when_its_driver_is_and_clients_wait_for_it(
    daemon: Daemon, drivers: Path, tmp_path: Path
) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    instances = {"slow": {"driver": drivers / "test/slowinit.so", "settings": {"fifo": str(fifo)}}}
    running = daemon(instances, expect_ready=[])
    assert not [e for e in running.events if e["event"] == "instance_ready"]
    with fifo.open("wb"):  # waits until the driver is there
        pass
    running.wait_event("instance_ready", instance="slow")


def test_every_call_that_was_answered_ran_once(daemon: Daemon, drivers: Path, tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    running = daemon({"ledger": {"driver": drivers / "test/ledger.so", "settings": {"ledger": str(path)}}})
    answered = []
    with connect(running.tcp_url, "ledger") as client:
        for number in range(300):
            try:
                client.call("record_and_die" if number % 100 == 50 else "record", number)
                answered.append(number)
            except Failed as failed:
                assert not failed.retryable  # noqa: PT017 - and so it may have run
                running.wait_event("instance_ready", instance="ledger", generation=2 + number // 100)
    ran = [number for (number,) in struct.iter_unpack(">q", path.read_bytes())]
    assert len(ran) == len(set(ran))
    assert set(answered) <= set(ran)
    assert ran == sorted(ran)


def test_a_reply_that_is_none_is_in_the_log_with_its_command(daemon: Daemon, drivers: Path) -> None:
    running = daemon({"bad": {"driver": drivers / "test/badputs.so"}})
    with connect(running.tcp_url, "bad") as client:
        with pytest.raises(Failed) as failed:
            client.call(1)
        assert failed.value.reason == "bad_reply"
    line = running.wait_event("driver_log", instance="bad", level="warning")
    assert line["message"].startswith("bad_reply")
    assert line["command"] == 1
