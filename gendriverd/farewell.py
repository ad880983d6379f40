# SPDX-License-Identifier: MIT
"""Last words to a client, so that they arrive: said, the sending side shut down, then the client's bytes read away.

A plain close with unread input would reset the connection, and the last words would be lost with it.

A host or the front may have the same socket, and so may have set it to block, or to wait when it is closed: here it is
asked not to, each time.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Iterator

import trio

LINGER = 2.0  # seconds for the client's end after our last word

AT_ONCE = socket.MSG_DONTWAIT  # for send and recv
NO_LINGER = struct.pack("ii", 0, 0)

Socket = trio.socket.SocketType


def close(client: Socket | socket.socket) -> None:
    """What was said yet leaves, and nobody waits for it."""
    with contextlib.suppress(OSError):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
    client.close()


def drop(fd: int) -> None:
    """A descriptor that somebody has passed, whatever it is."""
    try:
        sock = socket.socket(fileno=fd)
    except OSError:  # no socket
        os.close(fd)
    else:
        close(sock)


@contextlib.contextmanager
def closing(client: Socket) -> Iterator[None]:
    try:
        yield
    finally:
        close(client)


async def send_all(client: Socket, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[await client.send(rest, AT_ONCE) :]


async def say_last(client: Socket, data: bytes) -> None:
    """Say it; wait for the client's end. Raises OSError when the client is gone."""
    with trio.move_on_after(LINGER):
        await send_all(client, data)
        client.shutdown(socket.SHUT_WR)
        while await client.recv(65536, AT_ONCE):
            pass


async def linger(client: Socket) -> None:
    """The same when all is said and shut down already; closes it. Never raises."""
    with closing(client), contextlib.suppress(OSError), trio.move_on_after(LINGER):
        while await client.recv(65536, AT_ONCE):
            pass
