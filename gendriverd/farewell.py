# SPDX-License-Identifier: MIT
"""Last words to a client, so that they arrive: said, the sending side shut down, then the client's bytes read away.

A plain close with unread input would reset the connection, and the last words would be lost with it.
"""

from __future__ import annotations

import contextlib
import socket

import trio

LINGER = 2.0  # seconds for the client's end after our last word

Socket = trio.socket.SocketType


async def send_all(client: Socket, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[await client.send(rest) :]


async def say_last(client: Socket, data: bytes) -> None:
    """Say it; wait for the client's end. Raises OSError when the client is gone."""
    with trio.move_on_after(LINGER):
        await send_all(client, data)
        client.shutdown(socket.SHUT_WR)
        while await client.recv(65536):
            pass


async def linger(client: Socket) -> None:
    """The same when all is said and shut down already; closes it. Never raises."""
    with client, contextlib.suppress(OSError), trio.move_on_after(LINGER):
        while await client.recv(65536):
            pass
