# SPDX-License-Identifier: MIT
"""What a connection may ask for, its host holds it to: the daemon says so when it passes the socket, no more."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import pytest

from conftest import HostFactory
from gendriverd import etf
from gendriverd.etf import Atom
from host_process import HostProcess, call, cast

ECHO, SIZE = 1, 2
OK = Atom("ok")
FORBIDDEN = (Atom("failed"), Atom("forbidden"))


def test_a_command_that_is_not_allowed_is_forbidden_on_that_connection_alone(host: HostFactory) -> None:
    process = host("echo")
    bound, free = process.connect(allowed=[7, ECHO]), process.connect()
    for _ in range(3):
        assert bound.call(1, SIZE, b"abc") == FORBIDDEN
        assert bound.call(1, ECHO, b"abc") == (OK, b"abc")
        assert free.call(1, SIZE, b"abc") == (OK, 3)


def test_a_slot_that_is_used_again_is_bound_no_more(host: HostFactory) -> None:
    process = host("echo", connections=1)
    bound = process.connect(allowed=[])
    assert bound.call(1, ECHO) == FORBIDDEN
    bound.close()
    process.hear("closed")
    assert process.connect().call(1, ECHO) == (OK, [])


@pytest.mark.parametrize("allowed", [list(range(256)), [0x3FFFFFFF - n for n in range(255)] + [ECHO]])
def test_as_many_as_a_driver_has_names_may_be_allowed(host: HostFactory, allowed: list[int]) -> None:
    peer = host("echo").connect(allowed=allowed)
    assert peer.call(1, ECHO, 5) == (OK, 5)
    assert peer.call(2, 4711) == FORBIDDEN


def test_all_else_goes_on_where_nothing_is_allowed(host: HostFactory) -> None:
    peer = host("echo").connect(allowed=[])
    peer.send(call(1, ECHO), (Atom("ping"), 2), (Atom("cancel"), 1), (Atom("notes"), True), (Atom("ping"), 3))
    assert peer.receive() == (Atom("failed"), 1, Atom("forbidden"))
    assert peer.receive() == (Atom("pong"), 2)
    assert peer.receive() == (Atom("pong"), 3)


def test_a_cast_is_dropped_and_said_so(host: HostFactory) -> None:
    process = host("sum", threads=1)
    peer = process.connect(allowed=[2, 3])
    peer.send(*(cast(1, [1]) for _ in range(100)), cast(2, [2]))
    said = process.hear("log")
    while said[2] != b"cast_forbidden":
        said = process.hear("log")
    assert (said[3][Atom("command")], said[3][Atom("conn")]) == (1, 1)
    assert peer.call(1, 3)[1][1] == (Atom("thread"), 1)  # the other cast


def test_what_is_forbidden_is_said_before_what_is_in_quarantine(host: HostFactory) -> None:
    """Whoever may not call it learns nothing of it."""
    process = host("echo")
    peer, free = process.connect(allowed=[SIZE]), process.connect()
    process.tell(Atom("quarantine"), ECHO, *known(b"x"), 3_600_000)
    process.tell(Atom("ping"), 1)
    process.hear("pong")
    assert free.call(1, ECHO, b"x") == (Atom("failed"), Atom("quarantined"))
    assert peer.call(1, ECHO, b"x") == FORBIDDEN


def known(params: Any) -> tuple[int, bytes]:
    data = etf.encode(params)[1:]
    return len(data), sha256(data).digest()


@pytest.mark.parametrize(
    "allowed",
    [
        Atom("none"),
        b"all",
        ECHO,
        [Atom("echo")],
        [-1],
        [1 << 30],
        list(range(257)),
        [1000, [ECHO]],
        {ECHO: True},
    ],
)
def test_a_list_that_is_none_lets_nobody_in(host: HostFactory, allowed: Any) -> None:
    process = host("echo")
    peer = process.offer(allowed=allowed)
    assert peer.receive() is None  # the host's copy is closed, and ours was the only other
    assert unadopted(process)
    assert process.connect().call(1, ECHO, 5) == (OK, 5)


def unadopted(process: HostProcess) -> bool:
    process.tell(Atom("ping"), 5)
    process.hear("pong")
    return not any(message[0] == "adopted" for message in process.messages)
