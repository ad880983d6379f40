# SPDX-License-Identifier: MIT
"""The admin socket: whose it is, and what becomes of those who ask what is no question."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from admin_peer import ECHO, Daemon, Shell, answer_of, asked, status
from gendriverd import cli
from gendriverd.client import connect
from running_daemon import RunningDaemon, configuration
from test_daemon import run
from test_reload import OK

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


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
    assert shell("status")[0] == 0  # from here on the command is loaded, whose files that user may not be able to read
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
