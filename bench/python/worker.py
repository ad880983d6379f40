# SPDX-License-Identifier: MIT
"""Callers in Python, in a process of their own: what they are to measure is a line of JSON in, the result one out.

    python bench/python/worker.py trio|grpc ADDRESS

    {"workload": "calls", "x": 128, "warm": 200, "window": 1000, "pids": [1, 2]}
    {"rate": 12345.6, "cpu": 78.9}

`x` tasks call the sum of four integers, each one call after another, and look at every answer. The line `{}` makes one
call, and is answered when it was right.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from statistics import quantiles
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parent.parent.parent), str(Path(__file__).resolve().parent)]

TICK = 10_000  # us: USER_HZ is 100 on every Linux

Call = Callable[[], Awaitable[object]]  # one; WrongAnswer
Connect = Callable[[str], AbstractAsyncContextManager[Call]]


class WrongAnswer(Exception):
    """The system does not do the work."""


def cpu(pids: list[int]) -> int:
    """User and system time so far, in microseconds."""
    spent = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(") ")[2].split()
        spent += int(fields[11]) + int(fields[12])
    return spent * TICK


class Tally:
    """What callers count while the window is open."""

    def __init__(self, pids: list[int]) -> None:
        self.pids = pids
        self.calls = 0
        self.times: list[int] = []  # ns, in the window
        self.stopped = False
        self._began, self._spent, self._first = 0.0, 0, 0

    async def caller(self, call: Call) -> None:
        clock = time.perf_counter_ns
        while not self.stopped:
            began = clock()
            await call()
            self.times.append(clock() - began)
            self.calls += 1

    def open(self) -> None:
        self._began, self._spent, self._first = time.perf_counter(), cpu(self.pids), self.calls
        self.times.clear()

    def close(self, latency: bool) -> dict[str, float]:
        seconds, spent = time.perf_counter() - self._began, cpu(self.pids) - self._spent
        self.stopped = True
        calls = self.calls - self._first
        if calls == 0:
            raise WrongAnswer(f"no answer within {seconds:g} s")
        if not latency:
            return {"rate": calls / seconds, "cpu": spent / calls}
        cuts = quantiles(self.times, n=1000, method="inclusive") if calls > 1 else [float(self.times[0])] * 999
        return {"p50": cuts[499] / 1e3, "p99": cuts[989] / 1e3, "p999": cuts[998] / 1e3, "cpu": spent / calls}


async def under_trio(connect: Connect, address: str) -> None:
    import trio

    async with connect(address) as call:
        while line := await trio.to_thread.run_sync(sys.stdin.readline):
            asked = json.loads(line)
            tally = Tally(asked.get("pids", []))
            if not asked:
                await call()
                say({})
                continue
            with trio.fail_after(60 + asked["window"] / 1000):
                async with trio.open_nursery() as nursery:
                    for _ in range(asked["x"]):
                        nursery.start_soon(tally.caller, call)
                    await trio.sleep(asked["warm"] / 1000)
                    tally.open()
                    await trio.sleep(asked["window"] / 1000)
                    result = tally.close(asked["workload"] == "latency")
            say(result)


async def under_asyncio(connect: Connect, address: str) -> None:
    import asyncio

    async with connect(address) as call:
        while line := await asyncio.to_thread(sys.stdin.readline):
            asked = json.loads(line)
            tally = Tally(asked.get("pids", []))
            if not asked:
                await call()
                say({})
                continue
            async with asyncio.timeout(60 + asked["window"] / 1000), asyncio.TaskGroup() as group:
                for _ in range(asked["x"]):
                    group.create_task(tally.caller(call))
                await asyncio.sleep(asked["warm"] / 1000)
                tally.open()
                await asyncio.sleep(asked["window"] / 1000)
                result = tally.close(asked["workload"] == "latency")
            say(result)


def say(result: dict[str, Any]) -> None:
    print(json.dumps(result), flush=True)


@asynccontextmanager
async def gendriverd(address: str) -> AsyncIterator[Call]:
    from gendriverd.client import Atom, open_client

    wanted = (Atom("ok"), 10)
    async with open_client(address, "work") as client:

        async def call() -> None:
            if (answer := await client.call(1, [1, 2, 3, 4])) != wanted:
                raise WrongAnswer(f"{answer!r} is not {wanted!r}")

        yield call


@asynccontextmanager
async def grpcio(address: str) -> AsyncIterator[Call]:
    import struct

    import grpc

    numbers, total = struct.Struct(">4q"), struct.Struct(">q")
    async with grpc.aio.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        method = channel.unary_unary("/bench.Work/Sum", lambda of: numbers.pack(*of), total.unpack)

        async def call() -> None:
            if (answer := await method((1, 2, 3, 4))) != (10,):
                raise WrongAnswer(f"{answer!r} is not 10")

        yield call


def told(exc: BaseException) -> str:
    """The first that was raised, of a group."""
    while isinstance(exc, BaseExceptionGroup):
        exc = exc.exceptions[0]
    return f"{type(exc).__name__}: {exc}"


def main(kind: str, address: str) -> None:
    try:
        if kind == "grpc":
            import asyncio

            asyncio.run(under_asyncio(grpcio, address))
        else:
            import trio

            trio.run(under_trio, gendriverd, address)
    except Exception as exc:  # noqa: BLE001 - whatever it is, it ends this system's round, and is told
        say({"error": told(exc)})


if __name__ == "__main__":
    main(*sys.argv[1:])
