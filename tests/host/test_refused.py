# SPDX-License-Identifier: MIT
"""What the daemon puts in quarantine is refused by its bytes; a message that is none changes nothing."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import pytest

from conftest import HostFactory
from gendriverd import etf
from gendriverd.etf import Atom
from host_process import HostProcess, Peer, call, cast

ECHO, SIZE = 1, 2
OK = Atom("ok")
HOUR = 3_600_000


def refuse(process: HostProcess, params: Any, command: int = ECHO, ms: int = HOUR) -> None:
    """Returns when the host has read it."""
    data = etf.encode(params)[1:]
    process.tell(Atom("quarantine"), command, len(data), sha256(data).digest(), ms)
    process.tell(Atom("ping"), 1)
    process.hear("pong")


def refused(peer: Peer, params: Any, command: int = ECHO) -> bool:
    peer.send(call(7, command, params))
    answer = peer.receive()
    assert answer[1] == 7
    return bool(answer == (Atom("failed"), 7, Atom("quarantined")))


@pytest.mark.parametrize("params", [b"deadly", [1, 2.5, {"a": []}], b"x" * 1_000_000])
def test_only_that_command_with_those_params_is_refused(host: HostFactory, params: Any) -> None:
    process = host("echo", frame=4 << 20)
    peer = process.connect()
    assert not refused(peer, params)
    refuse(process, params)
    for _ in range(3):
        assert refused(peer, params)
        assert not refused(peer, params, SIZE)
        assert not refused(peer, b"y" * 6)
    assert refused(process.connect(), params)


def test_a_cast_is_dropped_and_said_so(host: HostFactory) -> None:
    process = host("sum", threads=1)
    peer = process.connect()
    refuse(process, [1], command=1)
    peer.send(*(cast(1, [1]) for _ in range(100)), cast(1, [2]))
    said = process.hear("log")
    while said[2] != b"cast_quarantined":
        said = process.hear("log")
    assert said[3][Atom("command")] == 1
    assert peer.call(1, 3)[1][1] == (Atom("thread"), 1)  # the other cast


def test_it_ends_when_its_time_is_over(host: HostFactory) -> None:
    process = host("echo")
    peer = process.connect()
    refuse(process, b"x", ms=200)
    while refused(peer, b"x"):
        pass
    refuse(process, b"x", ms=0)
    assert not refused(peer, b"x")


@pytest.mark.parametrize(
    "message",
    [
        (1, 6),
        (1, 6, b"short", HOUR),
        (1, -6, bytes(32), HOUR),
        (1 << 40, 6, bytes(32), HOUR),
        (1, 6, bytes(32), -1),
        (1, 6, bytes(32), 1 << 63),
        (Atom("echo"), 6, bytes(32), HOUR),
    ],
)
def test_a_message_that_is_none_changes_nothing(host: HostFactory, message: tuple[Any, ...]) -> None:
    process = host("echo")
    process.tell(Atom("quarantine"), *message)
    peer = process.connect()
    assert not refused(peer, b"x")
    peer.close()
    assert process.stop() == 0
