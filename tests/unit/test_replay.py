# SPDX-License-Identifier: MIT
"""What `gendriverd replay` makes of a host that says what is no message, or not the one it waits for."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from gendriverd import etf
from gendriverd.etf import Atom
from gendriverd.replay import ReplayError, _hear


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        yield ours, theirs


def soon() -> float:
    return time.monotonic() + 30


@pytest.mark.parametrize("other", [(), 5, b"ready", (Atom("log"), 1), (Atom("refuse"), 7), []])
def test_what_is_not_waited_for_is_passed_over(ends: tuple[socket.socket, socket.socket], other: etf.Term) -> None:
    ends[1].send(etf.encode(other))
    ends[1].send(etf.encode((Atom("ready"), {})))
    _hear(ends[0], "ready", soon())


def test_what_is_no_term_is_one_sentence(ends: tuple[socket.socket, socket.socket]) -> None:
    ends[1].send(b"nonsense")
    with pytest.raises(ReplayError, match="said what is no message"):
        _hear(ends[0], "ready", soon())


def test_a_refusal_and_an_end_are_sentences(ends: tuple[socket.socket, socket.socket]) -> None:
    ends[1].send(etf.encode((Atom("refuse"), b"no\xff")))
    with pytest.raises(ReplayError, match="refuses the driver: no"):
        _hear(ends[0], "ready", soon())
    ends[1].close()
    with pytest.raises(ReplayError, match="ended before it said 'ready'"):
        _hear(ends[0], "ready", soon())
