# SPDX-License-Identifier: MIT
"""Streams through the whole service: both clients, a crash in mid-stream, and a reload under one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gendriverd.client import Failed, connect, open_client
from gendriverd.etf import Atom, Term
from running_daemon import RunningDaemon
from streams import SEGV, parts, replies
from test_reload import Reloadable, moved

Daemon = Callable[..., RunningDaemon]


def instance(drivers: Path, **keys: object) -> dict[str, object]:
    return {"driver": str(drivers / "test/streams.so"), **keys}


def test_a_blocking_client_reads_a_stream(daemon: Daemon, drivers: Path) -> None:
    service = daemon({"s": instance(drivers)})
    with connect(service.tcp_url, "s") as client, client.stream("run", [parts(500), replies(7)]) as stream:
        assert list(stream) == list(range(500))
        assert stream.result == 7


async def test_a_trio_client_reads_a_stream(daemon: Daemon, drivers: Path) -> None:
    service = daemon({"s": instance(drivers)})
    async with open_client(service.tcp_url, "s") as client:
        async with client.stream("run", [parts(500, 5_000), replies(7)], window=3) as stream:
            assert [part async for part in stream] == [bytes(5_000)] * 500
        async with client.stream("run", [parts(500)], window=2) as left:
            assert await anext(left) == 0
        assert await client.call("codes", 2) == [0, -7]
        assert await client.call("takes") is False


def test_a_stream_that_crashes_is_a_crash_behind_its_parts(daemon: Daemon, drivers: Path) -> None:
    service = daemon({"s": instance(drivers)})
    with connect(service.tcp_url, "s") as client, client.stream("run", [parts(3), SEGV]) as stream:
        assert [next(stream) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(Failed) as failed:
            next(stream)
        assert failed.value.reason == "crashed"


def test_a_reload_costs_a_stream_nothing(daemon: Daemon, drivers: Path, tmp_path: Path) -> None:
    service = Reloadable(daemon, tmp_path, {"s": instance(drivers)})
    url = service.running.tcp_url
    with connect(url, "s") as client, client.stream("run", [parts(100)], window=2) as stream:
        got: list[Term] = [next(stream)]
        service.write({"s": instance(drivers, threads=3)})
        service.reload()
        moved(client, 2)  # the next host serves
        got += list(stream)  # the old one goes on
        assert got == list(range(100))
        assert stream.result == Atom("ok")
