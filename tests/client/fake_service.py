# SPDX-License-Identifier: MIT
"""A service that a test scripts by hand: real loopback sockets, frames in and out, any misbehaviour on request."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from gendriverd import etf
from gendriverd.etf import Atom

WELCOME = {
    Atom("instance"): b"fake",
    Atom("generation"): 1,
    Atom("threads"): 1,
    Atom("commands"): {b"add": 1},
    Atom("atoms"): [],
    Atom("limits"): {Atom("in_flight"): 4, Atom("frame"): 1 << 20},
    Atom("last_exit"): Atom("none"),
    Atom("of_tomorrow"): 1,  # a key this release does not know
}


class Session:
    """The server's end of one connection."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._buffer = b""

    async def send(self, *terms: Any) -> None:
        await self.stream.send_all(b"".join(etf.frame(term) for term in terms))

    async def receive(self) -> Any:
        """The next frame's term; None at end of file."""
        while len(self._buffer) < 4 or len(self._buffer) - 4 < struct.unpack(">I", self._buffer[:4])[0]:
            data = await self.stream.receive_some()
            if not data:
                return None
            self._buffer += data
        end = 4 + struct.unpack(">I", self._buffer[:4])[0]
        frame, self._buffer = self._buffer[4:end], self._buffer[end:]
        return etf.decode(frame)

    async def greet(self) -> Any:
        """Greeting; the client's hello."""
        await self.send((Atom("gen_driver"), 1, {Atom("server"): b"fake", Atom("auth"): Atom("none")}))
        return await self.receive()

    async def welcome(self, about: dict[Any, Any] | None = None) -> None:
        await self.greet()
        await self.send((Atom("welcome"), 1, WELCOME if about is None else about))

    async def reply(self, call_id: int, term: Any) -> None:
        await self.send((Atom("reply"), call_id, term))

    async def failed(self, call_id: int, reason: str) -> None:
        await self.send((Atom("failed"), call_id, Atom(reason)))

    async def goodbye(self, reason: str) -> None:
        await self.send((Atom("goodbye"), Atom(reason)))


Script = Callable[[Session], Awaitable[None]]


async def serve(nursery: trio.Nursery, *scripts: Script) -> str:
    """Listen on a free port; the n-th connection runs the n-th script, then is closed. The URL."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    waiting = list(scripts)

    async def handle(stream: trio.SocketStream) -> None:
        if not waiting:
            return
        script = waiting.pop(0)
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):  # the client has left
            await script(Session(stream))

    nursery.start_soon(trio.serve_listeners, handle, listeners)
    return f"tcp://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
