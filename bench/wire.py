# SPDX-License-Identifier: MIT
"""A client that is bytes and a socket: what opens thousands of connections, and sends thousands of requests at once."""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence

from gendriverd import etf
from gendriverd.etf import Atom, Term

DEADLINE = 60.0  # seconds


def call(number: int, command: int, params: Term, options: dict[Term, Term] | None = None) -> bytes:
    """The frame of a call."""
    message = (Atom("call"), number, command, params)
    return etf.frame(message if options is None else (*message, options))


def dial(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(DEADLINE)
    sock.connect(path)
    return sock


def take(sock: socket.socket, size: int) -> bytes:
    """Exactly so many bytes."""
    parts = []
    while size > 0:
        part = sock.recv(min(size, 1 << 20))
        if not part:
            raise ConnectionError("the service has closed the connection")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def receive(sock: socket.socket) -> tuple[Term, ...]:
    """The next frame's term."""
    term = etf.decode(take(sock, int(struct.unpack(">I", take(sock, 4))[0])))
    assert isinstance(term, tuple)
    return term


def connect(path: str, instance: str, count: int = 1) -> list[socket.socket]:
    """So many connections that are welcome; their handshakes go side by side."""
    socks = [dial(path) for _ in range(count)]
    hello = etf.frame((Atom("hello"), 1, instance.encode(), {}))
    for sock in socks:
        receive(sock)
        sock.sendall(hello)
    for sock in socks:
        answer = receive(sock)
        if answer[0] != "welcome":
            raise ConnectionError(f"{instance}: {answer!r}")
    return socks


def close(socks: Sequence[socket.socket]) -> None:
    for sock in socks:
        sock.close()
