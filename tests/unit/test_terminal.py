# SPDX-License-Identifier: MIT
"""No command prints what a terminal would obey, whoever's words they are: a service's, a host's, a report's."""

from __future__ import annotations

import argparse
import io
import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from fake_service import WELCOME, Session, serve
from gendriverd import cli, cli_admin, etf
from gendriverd.cli_call import run_call
from gendriverd.cli_reports import list_reports, show_report
from gendriverd.errors import ConfigError, GendriverdError
from gendriverd.etf import Atom
from gendriverd.replay import ReplayError, _show, _verdict

HOSTILE = "\x1b]0;title\x07\x1b[2J\rfine\ngendriverd: all is well\x9b"
ID = "sum-20260101T000000-1"


def printed(capsys: pytest.CaptureFixture[str], lines: int | None = 1) -> str:
    """On either stream: something, in so many lines, and no control character in it."""
    out, err = capsys.readouterr()
    said = out + err
    assert "\\x1b[2J\\rfine\\n" in said
    assert all(line.isprintable() for line in said.split("\n"))
    assert lines is None or said.count("\n") == lines
    return said


async def call(nursery: trio.Nursery, welcome: dict[Any, Any] | None) -> int:
    async def script(s: Session) -> None:
        if welcome is not None:
            await s.welcome(welcome)
        else:
            await s.greet()
            await s.send((Atom("refused"), Atom(HOSTILE)))
        await s.receive()

    url = await serve(nursery, script)
    return await trio.to_thread.run_sync(partial(run_call, url, "fake", "mul", "x", 5.0, None, False))


async def test_a_service_that_refuses(nursery: trio.Nursery, capsys: pytest.CaptureFixture[str]) -> None:
    assert await call(nursery, None) == 69
    assert "was refused" in printed(capsys)


async def test_the_names_of_a_services_commands(nursery: trio.Nursery, capsys: pytest.CaptureFixture[str]) -> None:
    assert await call(nursery, WELCOME | {Atom("commands"): {HOSTILE.encode(): 1}}) == 2
    assert "has no command 'mul'" in printed(capsys)


@pytest.mark.parametrize(
    ("error", "lines"),
    [
        (GendriverdError(HOSTILE), 1),
        (ConfigError([f"one {HOSTILE}", "two"]), 2),
        (RuntimeError(HOSTILE), 1),
        (type("Loud", (Exception,), {"__repr__": lambda _: HOSTILE})(), 1),
    ],
    ids=["sentence", "configuration", "bug", "bug with a representation of its own"],
)
def test_what_ends_a_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, lines: int
) -> None:
    def fails(_: argparse.Namespace) -> int:
        raise error

    monkeypatch.setitem(cli.RUNS, "cflags", fails)
    assert cli.main(["cflags"]) > 0
    printed(capsys, lines)


def test_what_answers_on_the_admin_socket(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    answers: dict[str, Any] = {
        "reload": {
            "needs_restart": [HOSTILE],
            "instances": {HOSTILE: {"what": "failed", "reason": HOSTILE, "generation": 1}},
        },
        "status": {
            "daemon": {"version": HOSTILE, "pid": 1, "uptime": 1},
            "instances": {HOSTILE: dict.fromkeys(("generation", "deaths", "last_exit"), HOSTILE)},
        },
    }
    answers["status"]["instances"][HOSTILE] |= {"state": "failed", "trouble": HOSTILE, "hosts": [], "commands": []}
    monkeypatch.setattr(cli_admin, "ask", lambda _path, question, _timeout: answers[question["do"]])
    assert cli_admin.run_reload("", None, 1) == 1
    printed(capsys, 2)
    assert cli_admin.run_status("", None, 1, as_json=False) == 1
    printed(capsys, 3)
    assert cli_admin.run_status("", None, 1, as_json=True) == 1
    assert "\\u001b" in capsys.readouterr().out


def everywhere(value: Any) -> Any:
    """The same with HOSTILE for each text."""
    if isinstance(value, dict):
        return {key: everywhere(each) for key, each in value.items()}
    if isinstance(value, list):
        return [everywhere(each) for each in value]
    return HOSTILE if isinstance(value, str) else value


def test_what_is_in_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    request = {"kind": "", "command": 1, "name": "", "outcome": "", "number": 1, "peer": "", "params_sha256": ""}
    report = everywhere(
        {
            "time": "",
            "instance": "",
            "reason": "",
            "driver": "",
            "core": "",
            "culprit": request,
            "running": [request | {"number": 2}],
            "fault": {"address": "", "si_code": 1, "thread": 1, "trace": [{"address": ""}]},
            "log": [{"line": ""}],
        }
    )
    report["log"].append({HOSTILE: 1})
    (tmp_path / f"{ID}.json").write_text(json.dumps({"id": ID} | report))
    assert list_reports(tmp_path) == 0
    printed(capsys)
    assert show_report(tmp_path, "last") == 0
    printed(capsys, None)


def test_what_a_replay_ends_with(capsys: pytest.CaptureFixture[str]) -> None:
    assert _verdict(b"", 139, {"reason": HOSTILE}) == 1
    printed(capsys)
    assert _verdict(etf.encode((Atom("reply"), 0, HOSTILE)), 0, {}) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_what_a_replayed_host_prints(capsys: pytest.CaptureFixture[str]) -> None:
    _show(io.BytesIO(HOSTILE.encode()))
    said = capsys.readouterr().out
    assert said == "\\x1b]0;title\\x07\\x1b[2J\\rfine\ngendriverd: all is well\\x9b\n"


@pytest.mark.parametrize("frame", [b"nonsense", etf.encode(5), etf.encode(())])
def test_a_replay_that_is_answered_with_something_else_is_one_sentence(frame: bytes) -> None:
    with pytest.raises(ReplayError, match="did not crash"):
        _verdict(frame, 0, {})
