# SPDX-License-Identifier: MIT
"""Loading drivers, what their replies become, their settings and their log lines."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from conftest import HostFactory
from gendriverd.etf import Atom
from host_process import LIMITS

OK, ERROR = Atom("ok"), Atom("error")


@pytest.mark.parametrize(
    ("driver", "why"),
    [
        ("noabi", "driver interface 999"),
        ("nosymbols", "neither a GD_DRIVER table nor the callbacks init, destroy"),
        ("refuse", "the licence file expired in 1999"),
    ],
)
def test_an_unusable_driver_is_refused_with_the_reason_and_exit_100(
    start_host: HostFactory, driver: str, why: str
) -> None:
    process = start_host(driver)
    _, text = process.hear("refuse")
    assert why.encode() in text
    assert b"\n" not in text
    assert process.wait() == 100


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "No such file"),
        (b"", "too short"),
        (b"#!/bin/sh\n", "invalid ELF header|too short"),
    ],
)
def test_a_file_that_is_no_driver_is_refused_by_name(
    start_host: HostFactory, tmp_path: Path, content: bytes | None, why: str
) -> None:
    path = tmp_path / "x.so"
    if content is not None:
        path.write_bytes(content)
    process = start_host(path)
    text = process.hear("refuse")[1].decode()
    assert str(path) in text
    assert re.search(why, text)
    assert process.wait() == 100


def test_a_directory_is_refused(start_host: HostFactory, tmp_path: Path) -> None:
    assert start_host(tmp_path).hear("refuse")[1].decode() == f"{tmp_path}: not a file"


@pytest.mark.parametrize("driver", ["initcrash", "ctorcrash"])
def test_a_crash_while_loading_is_a_crash_and_no_refusal(start_host: HostFactory, driver: str) -> None:
    process = start_host(driver)
    assert process.wait() not in (0, 100)
    assert not [m for m in process.messages if m[0] in ("ready", "refuse")]


def test_ready_names_commands_and_interface(start_host: HostFactory) -> None:
    ready = start_host("sum").ready()
    assert ready[Atom("abi")] == 1
    assert ready[Atom("commands")] == {b"sum": 1, b"ping": 2, b"stats": 3}
    assert len(ready[Atom("source")]) > 0


def test_a_legacy_driver_has_interface_0(start_host: HostFactory) -> None:
    assert start_host("legacy").ready()[Atom("abi")] == 0


def test_settings_reach_the_driver_as_text(host: HostFactory) -> None:
    peer = host("config", settings={"a": "1", "table.key": "två", "empty": ""}).connect()
    assert peer.call(1, 1, b"a") == (OK, b"1")
    assert peer.call(1, 1, b"table.key") == (OK, "två".encode())
    assert peer.call(1, 1, b"empty") == (OK, b"")
    assert peer.call(1, 1, b"b") == (ERROR, None)


def test_ill_formed_replies_are_never_sent(host: HostFactory) -> None:
    process = host("badputs", reply=1 << 20)
    commands = process.connect().call(0, 0)  # the driver's own word on an unknown command
    assert commands[0] in (ERROR, Atom("failed"))
    peer = process.connect()
    for cmd in range(1, 7):
        assert peer.call(cmd, cmd) == (Atom("failed"), Atom("bad_reply")), cmd


def test_log_lines_carry_level_worker_command_and_request(host: HostFactory) -> None:
    process = host("logs", threads=1)
    process.connect().call(1, 1)
    levels = []
    for _ in range(4):
        _, level, event, fields = process.hear("log")
        levels.append(str(level))
        assert event == b"driver_log"
        assert {Atom("message"), Atom("worker"), Atom("command"), Atom("request")} <= set(fields)
        assert (fields[Atom("worker")], fields[Atom("command")], fields[Atom("request")]) == (0, 1, 1)
    assert levels == ["debug", "info", "warning", "error"]


def test_the_log_level_can_be_changed_while_it_runs(host: HostFactory) -> None:
    process = host("logs", threads=1)
    process.tell(Atom("level"), Atom("error"))
    process.tell(Atom("ping"), 1)
    process.hear("pong")
    process.connect().call(1, 1)
    assert process.hear("log")[1] == "error"


def test_every_limit_of_the_start_message_is_needed(start_host: HostFactory) -> None:
    """A daemon of another release must not leave a bound at zero."""
    process = start_host("echo", **{name: value for name, value in LIMITS.items() if name != "frame"}, frame=0)
    _, why = process.hear("refuse")
    assert b"start" in why
