# SPDX-License-Identifier: MIT
"""`gendriverd reload` and `gendriverd status` against a real daemon: what they say is what has become of the hosts.

One file, and so a long one: reload and status are asked the same way, and what one does the other shows.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trio

from gendriverd import cli
from gendriverd.client import Client, connect, open_client
from gendriverd.etf import Atom
from running_daemon import RunningDaemon, configuration
from test_crash import BLOCK, WAITING, call, welcomed
from test_daemon import run
from test_reload import OK, RELEASE, Reloadable, moved, one

Daemon = Callable[..., RunningDaemon]
NOBODY = 65534
ECHO: dict[str, object] = {"driver": "echo.so"}
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@contextmanager
def asked(path: str, question: bytes) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(30)
        peer.connect(path)
        with suppress(BrokenPipeError):  # it was refused before it said anything, or in the middle
            peer.sendall(question)
        yield peer


def answer_of(path: str, question: object) -> dict[str, Any]:
    line = question if isinstance(question, bytes) else json.dumps(question).encode() + b"\n"
    with asked(path, line) as peer:
        return heard(peer)


def heard(peer: socket.socket) -> dict[str, Any]:
    data = b""
    with suppress(ConnectionResetError):  # a question that was not read is thrown away after the answer
        while chunk := peer.recv(65536):
            data += chunk
    answer = json.loads(data)
    assert isinstance(answer, dict)
    return answer


def status(running: RunningDaemon) -> dict[str, Any]:
    instances = answer_of(running.admin, {"do": "status"})["instances"]
    assert isinstance(instances, dict)
    return instances


def pids(running: RunningDaemon) -> dict[str, int]:
    """Of the newest hosts, by the daemon's own word: its log may be behind its answer."""
    return {name: about["hosts"][-1]["pid"] for name, about in status(running).items()}


class Shell:
    """The command, asked of one daemon: what it ends with and prints."""

    def __init__(self, running: RunningDaemon, capsys: pytest.CaptureFixture[str]) -> None:
        self._admin = running.admin
        self._capsys = capsys

    def __call__(self, command: str, *arguments: str) -> tuple[int, list[str], list[str]]:
        code = cli.main([command, "--admin", self._admin, *arguments])
        said = self._capsys.readouterr()
        return code, said.out.splitlines(), said.err.splitlines()


# --- reload ---


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


# --- status ---


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


# --- the socket ---


def test_the_socket_is_for_its_user_alone_and_goes_with_the_daemon(daemon: Daemon) -> None:
    running = daemon({"echo": ECHO}, settings={"unix_mode": "0666"})
    path = Path(running.admin)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.stat().st_uid == os.geteuid()
    running.stop()
    assert not path.exists()


def test_with_none_asked_for_there_is_none(daemon: Daemon) -> None:
    running = daemon({"echo": ECHO}, settings={"admin": ""})
    running.wait_event("ready")
    assert not [event for event in running.events if event["event"].startswith("admin")]


def test_a_second_daemon_with_the_same_path_ends_with_one_sentence(daemon: Daemon, tmp_path: Path) -> None:
    running = daemon({"echo": ECHO})
    path = tmp_path / "second.toml"
    path.write_text(configuration({"listen": ["tcp://127.0.0.1:0"], "admin": running.admin, "log_format": "json"}, {}))
    done = run("serve", "--config", path)
    assert done.returncode == 69
    assert done.stderr.splitlines()[-1] == (
        f"gendriverd: [daemon] admin (or --admin): cannot listen on unix:{running.admin}:"
        " another process answers there; is gendriverd running already?"
    )
    assert status(running)["echo"]["state"] == "running"


@as_root
def test_another_user_gets_no_answer(daemon: Daemon, capsys: pytest.CaptureFixture[str]) -> None:
    running = daemon({"echo": ECHO})
    admin, shell = Path(running.admin), Shell(running, capsys)
    admin.parent.chmod(0o755)
    with as_nobody():
        codes = shell("status")[0], shell("reload")[0]
    assert codes == (77, 77)
    admin.chmod(0o666)  # and when its permissions are wrong
    with as_nobody():
        refused = answer_of(running.admin, {"do": "status"})
        code, _, said = shell("reload", "echo")
    assert refused == {"error": "only root and the user 0 may ask, not the user 65534"}
    assert (code, said) == (1, ["gendriverd: only root and the user 0 may ask, not the user 65534"])
    assert status(running)["echo"]["generation"] == 1


@contextmanager
def as_nobody() -> Iterator[None]:
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


LONG = b'{"do": "status", "x": "' + b"x" * 65536 + b'"}\n'


@pytest.mark.parametrize(
    ("question", "sentence"),
    [
        (b"\n", "a question is a JSON object on one line"),
        (b"\xff\xfe\x00\n", "a question is a JSON object on one line"),
        (b"[" * 60000 + b"\n", "a question is a JSON object on one line"),
        (b"9" * 60000 + b"\n", "a question is a JSON object on one line"),
        (b'"status"\n', "a question is a JSON object on one line"),
        (LONG, "a question has at most 65536 bytes"),
        (LONG * 100, "a question has at most 65536 bytes"),
        (b"{}\n", "do must be one of reload, status, not None"),
        (b'{"do": ["status"]}\n', "do must be one of reload, status, not ['status']"),
        (b'{"do": "stop"}\n', "do must be one of reload, status, not 'stop'"),
        (b'{"do": "status", "host": 1}\n', "status takes instance, not 'host'"),
        (b'{"do": "reload", "instnace": "echo"}\n', "reload takes instance, not 'instnace'"),
        (b'{"do": "reload", "instance": ["echo"]}\n', "instance must be a name or null, not ['echo']"),
        (b'{"do": "reload", "instance": "\\ud800\\n"}\n', "there is no instance '\\ud800\\n'; the instances are: echo"),
    ],
)
def test_what_is_no_question_gets_a_sentence_and_changes_nothing(
    running_echo: RunningDaemon, question: bytes, sentence: str
) -> None:
    assert answer_of(running_echo.admin, question)["error"].startswith(sentence)
    assert status(running_echo)["echo"]["generation"] == 1


@pytest.fixture
def running_echo(daemon: Daemon) -> RunningDaemon:
    return daemon({"echo": ECHO})


def test_peers_that_leave_before_their_question_or_their_answer_cost_nothing(running_echo: RunningDaemon) -> None:
    for question in (b"", b'{"do": "sta', b'{"do": "status"}\n') * 20:
        with asked(running_echo.admin, question):
            pass
    assert status(running_echo)["echo"]["state"] == "running"
    with connect(running_echo.tcp_url, "echo") as client:
        assert client.call("echo", 1) == (OK, 1)


def test_the_command_finds_the_socket_by_the_configuration_whatever_else_is_wrong_with_it(
    daemon: Daemon, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GENDRIVERD_ADMIN", raising=False)
    running = daemon({"echo": ECHO})
    path = tmp_path / "daemon-1/gendriverd.toml"
    assert cli.main(["status", "--config", str(path)]) == 0
    path.write_text(path.read_text() + "\n[nonsense]\n")
    assert cli.main(["status", "--config", str(path)]) == 0
    assert cli.main(["reload", "--config", str(path)]) == 78
    assert "has no setting 'nonsense'" in capsys.readouterr().err
    monkeypatch.setenv("GENDRIVERD_ADMIN", running.admin)
    assert cli.main(["status", "--config", "/nowhere.toml"]) == 0
