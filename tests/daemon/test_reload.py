# SPDX-License-Identifier: MIT
"""SIGHUP: only what differs gets a new host, which is ready before the old one drains; no call is lost on the way."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from gendriverd.client import Refused, SyncClient, connect, open_client
from gendriverd.etf import Atom
from running_daemon import RunningDaemon, configuration
from test_crash import BLOCK, WAITING, call, welcomed

OK = Atom("ok")
RELEASE = 13
Daemon = Callable[..., RunningDaemon]


class Reloadable:
    """A daemon whose configuration can be written anew."""

    def __init__(self, daemon: Daemon, directory: Path, instances: dict[str, dict[str, object]]) -> None:
        self.running = daemon({})
        self.path = directory / "daemon-1/conf.d/instances.toml"  # beside the one that the fixture writes
        self.path.parent.mkdir()
        self.write(instances)
        self.reload()
        for name in instances:
            self.running.wait_event("instance_ready", instance=name)

    def write(self, instances: dict[str, dict[str, object]]) -> None:
        self.path.write_text(configuration({}, instances))

    def reload(self, outcome: str = "reloaded") -> None:
        since = len(self.running.events)
        self.running.process.send_signal(signal.SIGHUP)
        self.running.wait_event(outcome, since=since)

    def pids(self) -> dict[str, int]:
        started = [event for event in self.running.events if event["event"] == "host_started"]
        return {event["instance"]: event["pid"] for event in started}


def moved(client: SyncClient, generation: int) -> None:
    """Wait until the client has heard that it should leave: it is on the next host then."""
    while client.welcome.generation != generation:
        pass


def one(drivers: Path, **keys: object) -> dict[str, object]:
    return {"driver": str(drivers / "test/config.so"), **keys}


def test_what_changed_gets_a_new_host_and_the_others_keep_theirs(daemon: Daemon, drivers: Path, tmp_path: Path) -> None:
    anna = one(drivers, settings={"who": "anna"})
    echo: dict[str, object] = {"driver": "echo.so"}
    service = Reloadable(daemon, tmp_path, {"a": anna, "echo": echo})
    url = service.running.tcp_url
    with connect(url, "a") as client, connect(url, "echo") as neighbour:
        assert client.call(1, b"who") == (OK, b"anna")
        before = service.pids()
        service.reload()
        assert service.pids() == before  # nothing differs
        service.write({"a": one(drivers, settings={"who": "bert"}), "echo": echo})
        service.reload()
        moved(client, 2)
        assert client.call(1, b"who") == (OK, b"bert")
        assert neighbour.call("echo", 1) == (OK, 1)
        after = service.pids()
        assert after["a"] != before["a"]
        assert after["echo"] == before["echo"]
    exits = [event for event in service.running.events if event["event"] == "host_exited"]
    assert [event["code"] for event in exits] in ([], [0])


def test_a_driver_put_in_place_of_another_is_noticed(daemon: Daemon, drivers: Path, tmp_path: Path) -> None:
    driver = tmp_path / "driver.so"
    shutil.copy(drivers / "echo.so", driver)
    service = Reloadable(daemon, tmp_path, {"x": {"driver": str(driver)}})
    with connect(service.running.tcp_url, "x") as client:
        assert client.call("echo", [1]) == (OK, [1])
        shutil.copy(drivers / "sum.so", tmp_path / "new.so")
        (tmp_path / "new.so").rename(driver)
        service.reload()
        moved(client, 2)
        assert client.call("sum", [1, 2]) == (OK, 3.0)


def test_calls_under_way_are_answered_by_the_host_that_runs_them(daemon: Daemon, drivers: Path, tmp_path: Path) -> None:
    crash = {"driver": str(drivers / "test/crash.so"), "threads": 2}
    service = Reloadable(daemon, tmp_path, {"crash": crash})
    with welcomed(service.running.tcp_url) as raw:
        raw.sock.sendall(call(1, BLOCK, 0) + call(2, WAITING, 1, 1))
        assert raw.receive() == (Atom("reply"), 2, OK)
        service.write({"crash": {**crash, "threads": 3}})
        service.reload()
        assert raw.receive() == (Atom("goodbye"), Atom("draining"))
        with connect(service.running.tcp_url, "crash") as client:  # the new host serves meanwhile
            assert client.welcome.threads == 3
        raw.sock.sendall(call(3, RELEASE, 1, 1))  # what is read before the half-close is executed
        assert {raw.receive() for _ in range(2)} == {(Atom("reply"), 1, OK), (Atom("reply"), 3, OK)}
        raw.sock.shutdown(1)
        assert raw.receive() is None


@pytest.mark.parametrize("wrong", ["nonsense = 1", "[instances.x]\ndriver = 5", "[instances"])
def test_a_wrong_configuration_changes_nothing(daemon: Daemon, tmp_path: Path, wrong: str) -> None:
    service = Reloadable(daemon, tmp_path, {"echo": {"driver": "echo.so"}})
    before = service.pids()
    with connect(service.running.tcp_url, "echo") as client:
        service.path.write_text(wrong)
        service.reload("reload_failed")
        assert client.call("echo", 1) == (OK, 1)
    assert service.pids() == before


@pytest.mark.parametrize("bad", ["test/refuse.so", "test/initcrash.so", "nowhere.so"])
def test_a_driver_that_does_not_come_up_leaves_the_old_one_serving(
    daemon: Daemon, drivers: Path, tmp_path: Path, bad: str
) -> None:
    service = Reloadable(daemon, tmp_path, {"x": {"driver": str(drivers / "echo.so")}})
    with connect(service.running.tcp_url, "x") as client:
        service.write({"x": {"driver": str(drivers / bad)}})
        service.reload()
        failed = service.running.wait_event("reload_failed", instance="x")
        assert bad.rsplit("/", maxsplit=1)[-1] in failed["reason"]
        assert client.call("echo", 1) == (OK, 1)
        service.write({"x": {"driver": str(drivers / "sum.so")}})
        service.reload()
        while "sum" not in client.welcome.commands:
            pass
        assert client.call("sum", [1]) == (OK, 1.0)


def test_instances_come_and_go_and_one_that_had_failed_is_tried_again(
    daemon: Daemon, drivers: Path, tmp_path: Path
) -> None:
    service = Reloadable(daemon, tmp_path, {"echo": {"driver": "echo.so"}})
    url = service.running.tcp_url
    service.write({"sum": {"driver": "sum.so"}, "bad": {"driver": str(tmp_path / "late.so")}})
    service.reload()
    with pytest.raises(Refused, match="unknown_instance"):
        connect(url, "echo")
    with connect(url, "sum") as client:
        assert client.call("sum", [1]) == (OK, 1.0)
    service.running.wait_event("instance_failed", instance="bad")
    shutil.copy(drivers / "echo.so", tmp_path / "late.so")
    service.reload()
    service.running.wait_event("instance_ready", instance="bad")
    with connect(url, "bad") as client:
        assert client.call("echo", 1) == (OK, 1)


def test_a_driver_that_cannot_run_twice_is_stopped_before_the_new_one_starts(
    daemon: Daemon, drivers: Path, tmp_path: Path
) -> None:
    keys = {"overlap": False, "settings": {"who": "anna"}}
    service = Reloadable(daemon, tmp_path, {"a": one(drivers, **keys)})
    with connect(service.running.tcp_url, "a") as client:
        service.write({"a": one(drivers, overlap=False, settings={"who": "bert"})})
        service.reload("reloading")  # it is over when the client has left
        moved(client, 2)
        assert client.call(1, b"who") == (OK, b"bert")
    order = [event["event"] for event in service.running.events if event["event"] in {"host_started", "host_exited"}]
    assert order[:3] == ["host_started", "host_exited", "host_started"]


async def test_no_call_is_lost_while_hosts_are_exchanged(daemon: Daemon, drivers: Path, tmp_path: Path) -> None:
    service = Reloadable(daemon, tmp_path, {"a": one(drivers, settings={"who": "0"})})
    answered = 0

    async def calls(client: object) -> None:
        nonlocal answered
        while not done.is_set():
            tag, who = await client.call(1, b"who", timeout=30)  # type: ignore[attr-defined]
            assert tag == OK
            assert who.isdigit()
            answered += 1

    done = trio.Event()
    async with open_client(service.running.tcp_url, "a") as client, trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(calls, client)
        for number in range(1, 11):
            service.write({"a": one(drivers, settings={"who": str(number)})})
            await trio.to_thread.run_sync(service.reload)
            while (await client.call(1, b"who"))[1] != str(number).encode():
                pass
        done.set()
    assert answered > 100
