# SPDX-License-Identifier: MIT
"""Connections that do nothing: they greet, are welcomed, and stay."""

from __future__ import annotations

import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from gendriverd import etf
from gendriverd.etf import Atom
from vm import SystemTrouble

SPARE = 200  # descriptors that the daemon and we need beside


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


class Idle:
    """Those to one service."""

    def __init__(self, url: str) -> None:
        self.port = int(url.rpartition(":")[2])
        self.held: list[socket.socket] = []

    def grow(self, count: int) -> None:
        while len(self.held) < count:
            peer = socket.create_connection(("127.0.0.1", self.port), 30)
            self.held.append(peer)
            whole(peer)
            peer.sendall(HELLO)
            if b"welcome" not in whole(peer):
                raise SystemTrouble(f"idle connection {len(self.held)} was not welcomed")

    def close(self) -> None:
        for peer in self.held:
            peer.close()
        self.held.clear()
