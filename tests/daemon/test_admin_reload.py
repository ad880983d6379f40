# SPDX-License-Identifier: MIT
"""`gendriverd reload` against a real daemon: what it says is what has become of the hosts."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import trio

from admin_peer import ECHO, Daemon, Shell, answer_of, asked, heard, pids, status
from gendriverd.client import Client, connect, open_client
from running_daemon import configuration
from test_reload import OK, Reloadable, moved, one


def test_with_nothing_changed_every_host_stays(
    daemon: Daemon, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service = Reloadable(daemon, tmp_path, {"echo": ECHO, "sum": {"driver": "sum.so"}})
    before = pids(service.running)
    assert Shell(service.running, capsys)("reload") == (0, ["echo: unchanged", "sum: unchanged"], [])
    assert pids(service.running) == before


def test_each_instance_is_told_what_became_of_it(
    daemon: Daemon, drivers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service = Reloadable(daemon, tmp_path, {"a": one(drivers), "echo": ECHO, "old": ECHO})
    service.write({"a": one(drivers, settings={"who": "anna"}), "echo": ECHO, "new": ECHO})
    code, lines, _ = Shell(service.running, capsys)("reload")
    assert lines == [
        "a: reloaded (generation 2)",
        "echo: unchanged",
        "new: started (generation 1)",
        "old: removed",
    ]
    assert code == 0
    with connect(service.running.tcp_url, "a") as client:  # ready, not only begun
        assert client.call(1, b"who") == (OK, b"anna")


def test_a_wrong_configuration_changes_nothing_and_every_mistake_is_said(
    daemon: Daemon, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service = Reloadable(daemon, tmp_path, {"echo": ECHO})
    before = pids(service.running)
    service.path.write_text('[instances.echo]\ndriver = "sum.so"\nthreads = 0\nnonsense = 1\n')
    code, lines, said = Shell(service.running, capsys)("reload")
    assert (code, lines) == (78, [])
    assert [line.partition(".toml")[2][:3] for line in said] == [":3:", ":4:"]
    assert Shell(service.running, capsys)("reload", "echo")[0] == 78
    assert pids(service.running) == before


def test_no_more_problems_are_said_than_a_person_reads(daemon: Daemon, tmp_path: Path) -> None:
    service = Reloadable(daemon, tmp_path, {})
    service.path.write_text("[daemon]\n" + "".join(f"wrong{number} = 1\n" for number in range(150)))
    problems = answer_of(service.running.admin, {"do": "reload"})["problems"]
    assert (len(problems), problems[-1]) == (101, "and 50 more")


@pytest.mark.parametrize(("bad", "overlap"), [("test/refuse.so", True), ("nowhere.so", True), ("nowhere.so", False)])
def test_a_driver_that_does_not_come_up_is_said_and_ends_with_1(
    daemon: Daemon, drivers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], bad: str, *, overlap: bool
) -> None:
    service = Reloadable(daemon, tmp_path, {"x": {"driver": str(drivers / "echo.so")}, "echo": ECHO})
    service.write({"x": {"driver": str(drivers / bad), "overlap": overlap}, "echo": ECHO})
    code, lines, _ = Shell(service.running, capsys)("reload")
    assert code == 1
    assert lines[0] == "echo: unchanged"
    assert lines[1].startswith("x: kept the old one: " if overlap else "x: failed: ")
    assert bad in lines[1]
    assert status(service.running)["x"]["state"] == ("running" if overlap else "fatal")


def test_an_instance_by_name_gets_a_new_host_though_nothing_differs_and_is_the_only_one(
    daemon: Daemon, drivers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service = Reloadable(daemon, tmp_path, {"a": one(drivers), "echo": ECHO})
    before = pids(service.running)
    service.write({"a": one(drivers), "echo": {**ECHO, "threads": 1}})
    with connect(service.running.tcp_url, "a") as client:
        assert Shell(service.running, capsys)("reload", "a") == (0, ["a: reloaded (generation 2)"], [])
        moved(client, 2)
    after = pids(service.running)
    assert after["a"] != before["a"]
    assert after["echo"] == before["echo"]
    assert Shell(service.running, capsys)("reload")[1] == ["a: unchanged", "echo: reloaded (generation 2)"]


async def test_no_call_is_lost_while_an_instance_is_exchanged_by_name(
    daemon: Daemon, drivers: Path, tmp_path: Path
) -> None:
    service = Reloadable(daemon, tmp_path, {"a": one(drivers, settings={"who": "anna"})})
    admin, done, answered = service.running.admin, trio.Event(), 0

    async def calls(client: Client) -> None:
        nonlocal answered
        while not done.is_set():
            assert await client.call(1, b"who", timeout=30) == (OK, b"anna")
            answered += 1

    async with open_client(service.running.tcp_url, "a") as client, trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(calls, client)
        for generation in range(2, 7):
            told = await trio.to_thread.run_sync(answer_of, admin, {"do": "reload", "instance": "a"})
            assert told["instances"]["a"] == {"what": "reloaded", "generation": generation, "reason": None}
            while client.welcome is None or client.welcome.generation != generation:
                await client.call(1, b"who")
        done.set()
    assert answered > 100


def test_a_fatal_instance_is_started_again_by_name(
    daemon: Daemon, drivers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    late = tmp_path / "late.so"
    running = daemon({"late": {"driver": str(late)}}, expect_ready=[])
    running.wait_event("instance_failed", instance="late")
    code, lines, _ = Shell(running, capsys)("reload", "late")
    assert (code, lines[0].startswith(f"late: failed: {late}: ")) == (1, True)
    shutil.copy(drivers / "echo.so", late)
    assert Shell(running, capsys)("reload", "late") == (0, ["late: reloaded (generation 3)"], [])
    with connect(running.tcp_url, "late") as client:
        assert client.call("echo", 1) == (OK, 1)


def test_a_name_that_is_not_there_is_one_sentence_with_those_that_are(
    daemon: Daemon, capsys: pytest.CaptureFixture[str]
) -> None:
    running = daemon({"echo": ECHO, "sum": {"driver": "sum.so"}})
    code, lines, said = Shell(running, capsys)("reload", "ecco")
    assert (code, lines) == (1, [])
    assert said == ["gendriverd: there is no instance 'ecco'; the instances are: echo, sum"]


def test_an_instance_that_the_configuration_has_no_more_goes_by_name(
    daemon: Daemon, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service = Reloadable(daemon, tmp_path, {"echo": ECHO, "old": ECHO})
    service.write({"echo": ECHO})
    assert Shell(service.running, capsys)("reload", "old") == (0, ["old: removed"], [])
    assert list(status(service.running)) == ["echo"]


def test_settings_that_need_a_restart_are_named_at_each_reload_until_then(
    daemon: Daemon, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service = Reloadable(daemon, tmp_path, {"echo": ECHO})
    service.path.write_text(configuration({"unix_mode": "0600", "drain_timeout": "9s"}, {"echo": ECHO}))
    for _ in range(2):
        code, _, said = Shell(service.running, capsys)("reload")
        assert (code, said) == (0, ["gendriverd: [daemon] unix_mode changed: takes effect at the next start"])


def test_a_reload_waits_for_the_one_that_runs_and_status_for_none(
    daemon: Daemon, drivers: Path, tmp_path: Path
) -> None:
    service = Reloadable(daemon, tmp_path, {"echo": ECHO})
    running, fifo = service.running, tmp_path / "fifo"
    os.mkfifo(fifo)
    slow: dict[str, object] = {
        "driver": str(drivers / "test/slowinit.so"),
        "settings": {"fifo": str(fifo)},
        "start_timeout": "10m",
    }
    service.write({"echo": ECHO, "slow": slow})
    since = len(running.events)
    with asked(running.admin, b'{"do": "reload"}\n') as first:
        running.wait_event("host_started", instance="slow")
        with asked(running.admin, b'{"do": "reload"}\n') as second:
            assert status(running)["slow"]["state"] == "starting"
            with fifo.open("wb"):
                assert heard(first)["instances"]["slow"]["what"] == "started"
            assert heard(second)["instances"]["slow"]["what"] == "unchanged"
    running.wait_until("two reloads", lambda log: sum(event["event"] == "reloaded" for event in log[since:]) == 2)
    order = [event["event"] for event in running.events[since:] if event["event"] in {"reloading", "reloaded"}]
    assert order == ["reloading", "reloaded"] * 2


def test_a_reload_is_done_to_its_end_when_who_asked_has_left(daemon: Daemon, drivers: Path, tmp_path: Path) -> None:
    service = Reloadable(daemon, tmp_path, {"a": one(drivers)})
    with asked(service.running.admin, b'{"do": "reload", "instance": "a"}\n'):
        pass
    service.running.wait_event("instance_ready", instance="a", generation=2)
    service.running.wait_event("host_exited", instance="a", generation=1)
    assert status(service.running)["a"]["generation"] == 2
