# SPDX-License-Identifier: MIT
"""Several hosts of one instance: clients are spread over them, a crash costs one of them, a spare takes its place."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from gendriverd import etf
from gendriverd.client import Refused, connect
from gendriverd.etf import Atom
from running_daemon import RunningDaemon
from test_crash import GOODBYE, SEGV, call, failed, heard_to_the_end, welcomed
from test_daemon import Raw

Daemon = Callable[..., RunningDaemon]
PID, OK = 17, Atom("ok")


def serving(daemon: Daemon, drivers: Path, **keys: object) -> RunningDaemon:
    running = daemon({"crash": {"driver": drivers / "test/crash.so", "threads": 1, **keys}})
    hosts = int(str(keys.get("processes", 1))) + int(str(keys.get("spares", 0)))
    for generation in range(1, hosts + 1):
        running.wait_event("instance_ready", instance="crash", generation=generation)
    return running


def pid_of(raw: Raw) -> int:
    raw.sock.sendall(etf.frame((Atom("call"), 1, PID)))
    reply = raw.receive()
    assert isinstance(reply, tuple)
    assert reply[2][0] == OK
    return int(reply[2][1])


def test_clients_are_spread_and_a_crash_costs_only_those_of_its_host(daemon: Daemon, drivers: Path) -> None:
    running = serving(daemon, drivers, processes=3)
    clients = [welcomed(running.tcp_url) for _ in range(9)]
    at = [pid_of(raw) for raw in clients]
    assert sorted(Counter(at).values()) == [3, 3, 3]
    dying = at[0]
    clients[0].sock.sendall(call(2, SEGV, 0))
    for raw, pid in zip(clients, at, strict=True):
        if pid == dying:
            assert heard_to_the_end(raw) == [*([failed(2, "crashed")] if raw is clients[0] else []), GOODBYE]
        else:
            assert pid_of(raw) == pid
    running.wait_event("instance_ready", instance="crash", generation=4)
    with welcomed(running.tcp_url) as raw:
        assert pid_of(raw) not in at  # the new host has the fewest clients
    for raw in clients:
        raw.sock.close()


def test_a_spare_is_ready_for_those_who_come_back(daemon: Daemon, drivers: Path) -> None:
    running = serving(daemon, drivers, spares=1, restart={"first": "1h"})
    started = [event["pid"] for event in running.events if event["event"] == "host_started"]
    clients = [welcomed(running.unix_url) for _ in range(4)]
    at = {pid_of(raw) for raw in clients}
    assert len(at) == 1  # nobody is passed to the spare
    os.kill(at.pop(), signal.SIGKILL)
    for raw in clients:
        assert heard_to_the_end(raw) == [GOODBYE]
        raw.sock.close()
    with connect(running.unix_url, "crash") as client:
        _, second = client.call("pid")
        assert second in started
        running.wait_event("instance_ready", instance="crash", generation=3)
        assert client.call("pid") == (OK, second)
        os.kill(int(second), signal.SIGKILL)
    with connect(running.unix_url, "crash") as client:
        assert client.welcome.generation in {3, 4}  # the second's successor may be as quick as this client
        assert client.call("pid")[1] not in started


def test_one_budget_for_all_hosts(daemon: Daemon, drivers: Path) -> None:
    restart = {"first": "1ms", "max": "1ms", "budget": 3, "budget_time": "10m"}
    running = serving(daemon, drivers, processes=2, restart=restart)
    for _ in range(4):
        with welcomed(running.tcp_url) as raw:
            raw.sock.sendall(call(1, SEGV, 0))
            assert heard_to_the_end(raw) == [failed(1, "crashed"), GOODBYE]
    running.wait_until("both given up", lambda events: sum(e["event"] == "instance_failed" for e in events) == 2)
    with pytest.raises(Refused, match="unavailable"):
        connect(running.tcp_url, "crash")


def test_a_driver_that_cannot_be_used_is_given_up_by_all(daemon: Daemon, drivers: Path) -> None:
    running = daemon({"x": {"driver": drivers / "test/refuse.so", "processes": 2, "spares": 1}}, expect_ready=())
    running.wait_until("all given up", lambda events: sum(e["event"] == "instance_failed" for e in events) == 3)
    assert "x fatal" in running.wait_event("ready")["status"]
    with pytest.raises(Refused, match="unavailable"):
        connect(running.tcp_url, "x")
