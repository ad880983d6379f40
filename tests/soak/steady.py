# SPDX-License-Identifier: MIT
"""A well-behaved client of raw frames: one call at a time, each answer looked at, how long each took."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "scripts"), str(ROOT / "bench")]

import wire  # noqa: E402 (its path is set above)
from gendriverd import etf  # noqa: E402
from gendriverd.etf import Atom, Term  # noqa: E402

REPLY = Atom("reply")


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


def welcomed(port: int, instance: str, ahead: bytes = b"") -> socket.socket:
    """A connection over loopback; `ahead` is sent behind the hello. Raises ConnectionError when it is refused."""
    sock = socket.create_connection(("127.0.0.1", port), wire.DEADLINE)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    wire.receive(sock)
    sock.sendall(etf.frame((Atom("hello"), 1, instance.encode(), {})) + ahead)
    if (answer := wire.receive(sock))[0] != "welcome":
        raise ConnectionError(f"{instance}: {answer!r}")
    return sock


class Steady:
    """One connection. What was answered otherwise than it should be is in `wrong`."""

    def __init__(self, port: int, instance: str) -> None:
        self._sock = welcomed(port, instance)
        self.wrong: list[Term] = []

    def once(self, command: int, params: Term, expected: Term, options: dict[Term, Term] | None = None) -> float:
        """One call; the microseconds that it took."""
        frame = wire.call(1, command, params, options)
        began = time.perf_counter()
        self._sock.sendall(frame)
        answer = wire.receive(self._sock)
        took = (time.perf_counter() - began) * 1e6
        if answer != (REPLY, 1, expected):
            self.wrong.append(answer)
        return took

    def measure(
        self, seconds: float, command: int, params: Term, expected: Term, options: dict[Term, Term] | None = None
    ) -> list[float]:
        """Call after call; microseconds each."""
        until, took = time.monotonic() + seconds, list[float]()
        while time.monotonic() < until:
            took.append(self.once(command, params, expected, options))
        return took

    def close(self) -> None:
        self._sock.close()


def at(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
