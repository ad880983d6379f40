# SPDX-License-Identifier: MIT
"""Connections that do nothing: they greet, are welcomed, and stay. In a process of their own, which has its own limits.

python bench/idle.py PORT      reads how many there shall be, answers when there are; until its standard input ends
"""

from __future__ import annotations

import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).resolve().parent.parent)]

from gendriverd import etf
from gendriverd.etf import Atom
from vm import SystemTrouble

SPARE = 200  # descriptors that the daemon and the host need beside


def most() -> int:
    """How many there can be: each is one descriptor here, one in the daemon, one in the host."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1] - SPARE


@contextmanager
def many_descriptors() -> Iterator[None]:
    """For us and for what we start: as many as we may have."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def frame(term: object) -> bytes:
    data = etf.encode(term)
    return len(data).to_bytes(4, "big") + data


HELLO = frame((Atom("hello"), 1, b"work", {}))


def exactly(peer: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = peer.recv(size - len(data))
        if not piece:
            raise SystemTrouble("an idle connection was closed in its handshake")
        data += piece
    return data


def whole(peer: socket.socket) -> bytes:
    return exactly(peer, int.from_bytes(exactly(peer, 4), "big"))


def hold(port: int) -> None:
    held: list[socket.socket] = []
    for line in sys.stdin:
        while len(held) < int(line):
            peer = socket.create_connection(("127.0.0.1", port), 30)
            held.append(peer)
            whole(peer)
            peer.sendall(HELLO)
            if b"welcome" not in whole(peer):
                raise SystemTrouble(f"idle connection {len(held)} was not welcomed")
        print(len(held), flush=True)


class Idle:
    """Those to one service."""

    def __init__(self, url: str) -> None:
        command = [sys.executable, __file__, url.rpartition(":")[2]]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def grow(self, count: int) -> None:
        """Until there are so many."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{count}\n")
        self._process.stdin.flush()
        if not self._process.stdout.readline():
            raise SystemTrouble(f"there cannot be {count} idle connections")

    def close(self) -> None:
        self._process.communicate()


if __name__ == "__main__":
    hold(int(sys.argv[1]))
