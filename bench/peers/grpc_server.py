# SPDX-License-Identifier: MIT
"""gRPC in Python: an asyncio server of grpcio with one unary method, the C sum of four integers.

    python bench/peers/grpc_server.py SUM.so      prints its TCP port, serves until its standard input ends

Messages are four, and one, 64-bit integers by `struct`: cheaper than a protobuf of them. The C function is called in
the event loop, as it is short: no thread is paid for.
"""

from __future__ import annotations

import asyncio
import struct
import sys
from pathlib import Path

import grpc

sys.path[:0] = [str(Path(__file__).resolve().parent.parent)]

from peers.naive import c_sum  # noqa: E402 (its path is set above)

NUMBERS, TOTAL = struct.Struct(">4q"), struct.Struct(">q")


async def main(library: str) -> None:
    of = c_sum(library)

    async def total(numbers: tuple[int, ...], _context: object) -> int:
        return of(numbers)

    method = grpc.unary_unary_rpc_method_handler(total, NUMBERS.unpack, TOTAL.pack)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench.Work", {"Sum": method}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(None)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
