# SPDX-License-Identifier: MIT
"""A request that runs too long is answered `timeout`, its host put down, and everybody hears what became of theirs."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from gendriverd.client import Failed, connect
from gendriverd.etf import Atom
from running_daemon import RunningDaemon
from test_crash import BLOCK, GOODBYE, WAITING, call, failed, heard_to_the_end, welcomed

OK = Atom("ok")
Daemon = Callable[..., RunningDaemon]
HANG, HANG_QUIET, HANG_DEAF = 10, 18, 25


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
