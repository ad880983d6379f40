# SPDX-License-Identifier: MIT
"""How tests ask a daemon's admin socket: by a line of their own, and by the command."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from gendriverd import cli
from running_daemon import RunningDaemon

Daemon = Callable[..., RunningDaemon]
ECHO: dict[str, object] = {"driver": "echo.so"}


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
