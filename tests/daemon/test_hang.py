# SPDX-License-Identifier: MIT
"""A request that runs too long is answered `timeout`; its host is put down, and everybody hears what became of theirs,
or its thread is written off, and nobody else notices.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from gendriverd import cli, etf
from gendriverd.client import Failed, connect
from gendriverd.etf import Atom
from running_daemon import RunningDaemon
from test_crash import BLOCK, GOODBYE, WAITING, call, failed, heard_to_the_end, welcomed
from test_reload import Reloadable

OK = Atom("ok")
Daemon = Callable[..., RunningDaemon]
HANG, SLEEP_UNTIL_CANCELLED, RELEASE, HANG_QUIET, HANG_DEAF, BLOCK_SEGV = 10, 11, 13, 18, 25, 26
LOOP_WAITS = 10  # of the gate driver
ABANDON: dict[str, object] = {"on_hang": "abandon", "max_run_of": {"hang": "100ms", "block_segv": "100ms"}}


def serving(daemon: Daemon, drivers: Path, **keys: object) -> RunningDaemon:
    crash = {"driver": drivers / "test/crash.so", "threads": 2, "restart": {"first": "1ms"}, **keys}
    return daemon({"crash": crash, "echo": {"driver": "echo.so"}})


@pytest.mark.parametrize("how", [HANG, HANG_QUIET, HANG_DEAF])
def test_a_request_that_hangs_is_told_timeout_and_the_others_what_became_of_theirs(
    daemon: Daemon, drivers: Path, how: int
) -> None:
    running = serving(daemon, drivers, max_run_of={str(how): "200ms"})
    with welcomed(running.tcp_url) as raw:
        raw.sock.sendall(
            call(1, BLOCK, 0) + call(2, BLOCK, 0) + call(3, WAITING, 1, 1) + call(4, how, 1) + call(5, BLOCK, 1)
        )
        assert raw.receive() == (Atom("reply"), 3, OK)
        heard = heard_to_the_end(raw)
    assert heard[-1] == GOODBYE
    assert sorted(heard[:-1]) == [failed(1, "interrupted"), failed(4, "timeout")]
    died = running.wait_event("host_exited", instance="crash")
    assert (died["command"], died["worker"], died["outcome"]) == (how, 1, "timeout")
    with connect(running.tcp_url, "crash") as client:
        assert client.call("pid")[0] == OK


def test_a_cast_that_hangs_ends_its_host_too(daemon: Daemon, drivers: Path) -> None:
    running = serving(daemon, drivers, max_run="100ms")
    with connect(running.tcp_url, "crash") as client:
        client.cast("hang")
        assert running.wait_event("host_exited", instance="crash")["outcome"] == "timeout"


def test_a_command_has_its_own_limit_by_name_and_the_others_the_instances(daemon: Daemon, drivers: Path) -> None:
    running = serving(daemon, drivers, max_run="1s", max_run_of={"block": "1h", "19": "1h"})
    with welcomed(running.tcp_url) as raw, connect(running.tcp_url, "crash") as client:
        raw.sock.sendall(call(1, BLOCK, 0) + call(2, WAITING, 1, 1))
        assert raw.receive() == (Atom("reply"), 2, OK)
        for _ in range(100):  # what is short is not harmed
            assert client.call("pid", key=1)[0] == OK
        with pytest.raises(Failed) as told:
            client.call("sleep_until_cancelled", key=1)
        assert told.value.reason == "timeout"
        assert not told.value.retryable
        assert heard_to_the_end(raw) == [failed(1, "interrupted"), GOODBYE]


def test_without_a_limit_a_callers_own_timeout_kills_nobody(daemon: Daemon, drivers: Path) -> None:
    running = serving(daemon, drivers)
    with connect(running.tcp_url, "crash") as client:
        with pytest.raises((Failed, TimeoutError)):
            client.call("hang_quiet", timeout=0.1, key=0)
        assert client.call("pid", key=1)[0] == OK
    assert not [event for event in running.events if event["event"] == "host_exited"]
    os.kill(running.host_pid("crash"), signal.SIGKILL)
    running.wait_event("host_exited", instance="crash")


def test_the_report_says_for_how_long_a_loop_was_busy(daemon: Daemon, drivers: Path, tmp_path: Path) -> None:
    """The driver's balance waits, which it must never do."""
    os.mkfifo(tmp_path / "gate")
    settings = {"gate": str(tmp_path / "gate"), "marks": str(tmp_path / "marks")}
    gate = {"driver": drivers / "test/gate.so", "heartbeat": "500ms", "settings": settings}
    running = daemon({"gate": gate})
    with welcomed(running.tcp_url, b"gate") as raw:
        raw.sock.sendall(etf.frame((Atom("call"), 1, LOOP_WAITS)))
        assert heard_to_the_end(raw) == [GOODBYE]  # it was never taken
    report = json.loads(Path(running.wait_event("report_written")["path"]).read_text())
    assert 200 < report["loop_busy_ms"] < 60_000
    assert "its loop did not answer" in report["reason"]


@pytest.mark.parametrize("stopped", [True, False])
def test_a_loop_that_does_not_answer_costs_its_host(daemon: Daemon, drivers: Path, stopped: bool) -> None:
    running = serving(daemon, drivers, heartbeat="1s")
    with welcomed(running.tcp_url) as raw:
        raw.sock.sendall(call(1, BLOCK, 0) + call(2, WAITING, 1, 1))
        assert raw.receive() == (Atom("reply"), 2, OK)
        if stopped:
            os.kill(running.host_pid("crash"), signal.SIGSTOP)
            assert heard_to_the_end(raw) == [failed(1, "interrupted"), GOODBYE]
            died = running.wait_event("host_exited", instance="crash")
            assert "its loop did not answer for 1 s" in died["reason"]
            running.wait_event("instance_ready", instance="crash", generation=2)
        else:  # busy workers are no hung loop
            running.wait_event("heartbeat", instance="crash", seconds=30)
            assert not [event for event in running.events if event["event"] == "host_exited"]
            os.kill(running.host_pid("crash"), signal.SIGKILL)


# --- on_hang = "abandon" -----------------------------------------------------


def test_a_written_off_thread_costs_its_caller_alone(daemon: Daemon, drivers: Path) -> None:
    running = serving(daemon, drivers, **ABANDON)
    with welcomed(running.tcp_url) as raw, connect(running.tcp_url, "crash") as client:
        raw.sock.sendall(call(1, SLEEP_UNTIL_CANCELLED, 0) + call(2, HANG, 1))
        assert raw.receive() == failed(2, "timeout")
        for _ in range(20):
            assert client.call("pid", key=1)[0] == OK
        assert client.call("waiting", 2, key=1) == OK  # the one that hangs, and the one that is well
        raw.sock.sendall(etf.frame((Atom("cancel"), 1)))
        assert raw.receive() == (Atom("reply"), 1, (OK, Atom("cancelled")))
    line = running.wait_event("worker_abandoned", instance="crash", level="warning")
    assert (line["worker"], line["command"], line["abandoned"], line["source"]) == (1, HANG, 1, "host")
    running.terminate()  # it leaves in order, and the thread stays behind
    running.wait_event("workers_left_behind", instance="crash")
    died = running.wait_event("host_exited", instance="crash")
    assert (died["code"], died["level"]) == (0, "info")


def test_a_polite_driver_is_back_soon(daemon: Daemon, drivers: Path) -> None:
    running = serving(daemon, drivers, on_hang="abandon", max_run="100ms")
    with connect(running.tcp_url, "crash") as client, pytest.raises(Failed) as told:
        client.call("sleep_until_cancelled")
    assert told.value.reason == "timeout"
    assert running.wait_event("worker_back", instance="crash")["abandoned"] == 0
    running.terminate()
    assert running.wait_event("host_exited", instance="crash")["code"] == 0
    assert not [event for event in running.events if event["event"] == "workers_left_behind"]


def test_the_last_straw_takes_the_host_down_and_each_hears_its_own(daemon: Daemon, drivers: Path) -> None:
    running = serving(daemon, drivers, **ABANDON, max_abandoned=2)
    with welcomed(running.tcp_url) as raw:
        for number in (1, 2):
            raw.sock.sendall(call(number, HANG, 1))
            assert raw.receive() == failed(number, "timeout")
        raw.sock.sendall(call(1, BLOCK, 0) + call(4, BLOCK, 0) + call(5, WAITING, 1, 3))
        assert raw.receive() == (Atom("reply"), 5, OK)
        raw.sock.sendall(call(2, HANG, 1) + call(6, BLOCK, 1))
        heard = heard_to_the_end(raw)
    assert heard[-1] == GOODBYE
    assert sorted(heard[:-1]) == [failed(1, "interrupted"), failed(2, "timeout")]
    died = running.wait_event("host_exited", instance="crash")
    assert (died["command"], died["worker"], died["outcome"]) == (HANG, 1, "timeout")
    with connect(running.tcp_url, "crash") as client:
        assert client.call("pid")[0] == OK


@pytest.mark.parametrize("url", ["tcp_url", "unix_url"])
def test_a_later_death_tells_nobody_twice(daemon: Daemon, drivers: Path, url: str) -> None:
    running = serving(daemon, drivers, **ABANDON)
    with welcomed(getattr(running, url)) as raw:
        for number in (1, 2):
            raw.sock.sendall(call(number, HANG, 1))
            assert raw.receive() == failed(number, "timeout")
        raw.sock.sendall(call(2, BLOCK, 0) + call(1, BLOCK, 0) + call(3, WAITING, 1, 3))
        assert raw.receive() == (Atom("reply"), 3, OK)
        os.kill(running.host_pid("crash"), signal.SIGKILL)
        heard = heard_to_the_end(raw)
    # On a unix socket it may be said of the third, too: its answer was just leaving.
    assert [frame for frame in heard if frame != failed(3, "interrupted")] == [failed(2, "interrupted"), GOODBYE]


def test_a_written_off_thread_that_faults_is_named(
    daemon: Daemon, drivers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    running = serving(daemon, drivers, **ABANDON)
    with welcomed(running.tcp_url) as raw:
        raw.sock.sendall(call(1, BLOCK_SEGV, 1))
        assert raw.receive() == failed(1, "timeout")
        raw.sock.sendall(call(2, RELEASE, 0))
        assert [frame for frame in heard_to_the_end(raw) if frame != (Atom("reply"), 2, OK)] in (
            [GOODBYE],
            [failed(2, "interrupted"), GOODBYE],  # it was still being answered
        )
    died = running.wait_event("host_exited", instance="crash")
    assert (died["signal"], died["command"], died["worker"], died["outcome"]) == ("SIGSEGV", BLOCK_SEGV, 1, "timeout")
    path = Path(running.wait_event("report_written", instance="crash")["path"])
    assert json.loads(path.read_text())["culprit"]["abandoned"]
    assert cli.main(["reports", "--dir", str(path.parent), "show"]) == 0
    assert "worker 1 (abandoned)" in capsys.readouterr().out


def test_a_reload_leaves_written_off_threads_behind(daemon: Daemon, drivers: Path, tmp_path: Path) -> None:
    crash = {"driver": str(drivers / "test/crash.so"), **ABANDON}
    service = Reloadable(daemon, tmp_path, {"crash": crash})
    with welcomed(service.running.tcp_url) as raw:
        raw.sock.sendall(call(1, HANG, 1))
        assert raw.receive() == failed(1, "timeout")
    service.write({"crash": {**crash, "threads": 3}})
    service.reload()
    assert service.running.wait_event("host_exited", instance="crash")["code"] == 0
    with connect(service.running.tcp_url, "crash") as client:
        assert client.call("pid")[0] == OK
