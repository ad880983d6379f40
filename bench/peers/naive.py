# SPDX-License-Identifier: MIT
"""What one writes in an afternoon: a trio server that reads frames, decodes them with erlang-py, runs C in a thread.

    python bench/peers/naive.py SUM.so UNIX-PATH      prints its TCP port, serves until its standard input ends

Every request is a task of its own; the C function is called through ctypes in trio.to_thread. It shakes hands as
docs/protocol.md says, so that the same client can talk to it; it has no bounds, no deadlines, and trusts its client.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import struct
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import trio

import erlang

sys.path[:0] = [str(Path(__file__).resolve().parent.parent.parent)]

from gendriverd import etf  # noqa: E402 (its path is set above)
from gendriverd.etf import Atom  # noqa: E402

SUM, ECHO = 1, 2
LIMITS = {
    "frame": 1 << 30,
    "depth": 256,
    "terms": 1 << 20,
    "bignum": 4096,
    "in_flight": 4096,
    "in_flight_bytes": 1 << 30,
}
GREETING = etf.frame(
    (Atom("gen_driver"), 1, {Atom("server"): b"naive", Atom("auth"): Atom("none"), Atom("nonce"): bytes(32)})
)
WELCOME = etf.frame(
    (
        Atom("welcome"),
        1,
        {
            Atom("instance"): b"work",
            Atom("generation"): 1,
            Atom("threads"): 40,
            Atom("commands"): {},
            Atom("atoms"): [],
            Atom("limits"): {Atom(name): value for name, value in LIMITS.items()},
            Atom("last_exit"): Atom("none"),
        },
    )
)
OK, REPLY, PONG = (erlang.OtpErlangAtom(name) for name in ("ok", "reply", "pong"))
Sum = Callable[[Sequence[int]], int]


def c_sum(path: str) -> Sum:
    function = ctypes.CDLL(path).bench_sum
    function.argtypes = [ctypes.POINTER(ctypes.c_int64), ctypes.c_size_t]
    function.restype = ctypes.c_int64

    def of(numbers: Sequence[int]) -> int:
        total: int = function((ctypes.c_int64 * len(numbers))(*numbers), len(numbers))
        return total

    return of


async def answer(stream: trio.SocketStream, turn: trio.Lock, of: Sum, message: tuple[Any, ...]) -> None:
    """One request."""
    name = str(message[0].value)
    if name == "ping":
        reply: tuple[Any, ...] = (PONG, message[1])
    elif name == "call" and message[2] == SUM:
        numbers = getattr(message[3], "value", message[3])  # one of erlang-py's lists, a list, or bytes: all small
        reply = (REPLY, message[1], (OK, await trio.to_thread.run_sync(of, numbers)))
    elif name == "call" and message[2] == ECHO:
        reply = (REPLY, message[1], (OK, message[3]))
    else:
        return
    data = erlang.term_to_binary(reply)
    async with turn:
        await stream.send_all(struct.pack(">I", len(data)) + data)


async def serve(of: Sum, stream: trio.SocketStream) -> None:
    """One connection: the hello is not looked at."""
    received, turn, greeted = bytearray(), trio.Lock(), False
    await stream.send_all(GREETING)
    with contextlib.suppress(trio.BrokenResourceError):
        async with trio.open_nursery() as nursery:
            while data := await stream.receive_some(65536):
                received += data
                while len(received) >= 4 and len(received) >= 4 + (size := struct.unpack_from(">I", received)[0]):
                    frame = bytes(received[4 : 4 + size])
                    del received[: 4 + size]
                    if greeted:
                        nursery.start_soon(answer, stream, turn, of, erlang.binary_to_term(frame))
                    else:
                        greeted = True
                        await stream.send_all(WELCOME)


async def main(library: str, path: str) -> None:
    of = c_sum(library)
    local = trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_STREAM)
    await local.bind(path)
    local.listen(128)
    listeners = [*await trio.open_tcp_listeners(0, host="127.0.0.1"), trio.SocketListener(local)]
    async with trio.open_nursery() as nursery:
        await nursery.start(functools.partial(trio.serve_listeners, functools.partial(serve, of), listeners))
        print(listeners[0].socket.getsockname()[1], flush=True)
        await trio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2])
