# SPDX-License-Identifier: MIT
"""A client beside a server that sends what nobody asked for, or too much: its time and its memory stay its own."""

from __future__ import annotations

import struct
import time

import pytest
import trio

from fake_service import Script, Session, serve
from gendriverd import etf
from gendriverd.client import CallTimeout, Failed, SyncClient, connect, open_client
from gendriverd.client.multiplexed import Options
from gendriverd.client.sync_link import LOOKS
from gendriverd.client.tls import TlsSocket
from gendriverd.etf import Atom
from test_sync_client import use

UNASKED = (
    etf.frame((Atom("pong"), 5))
    + etf.frame((Atom("part"), 5, b"piece"))
    + etf.frame((Atom("reply"), 5, b"answer"))
    + etf.frame((Atom("goodbye"), Atom("draining")))
)
FLOOD = etf.frame((Atom("pong"), 5)) * 10_000


class Endless:
    """A socket on which there is always more; and which ends a test that wants all of it."""

    def __init__(self, data: bytes) -> None:
        self.reads = 0
        self._data = data

    def settimeout(self, seconds: float | None) -> None:
        assert seconds == 0

    def recv(self, _size: int) -> bytes:
        self.reads += 1
        assert self.reads <= 100
        return self._data

    def shutdown(self, _how: int) -> None: ...

    def close(self) -> None: ...


async def idle(s: Session) -> None:
    await s.welcome()
    await s.receive()


async def test_what_nobody_asked_for_is_read_a_little_and_not_kept(nursery: trio.Nursery) -> None:
    def work(client: SyncClient) -> None:
        link = client._link
        assert link is not None
        link.socket.close()
        link.socket = endless = Endless(UNASKED)  # type: ignore[assignment]
        assert link.leaving()  # it has said goodbye
        assert endless.reads == LOOKS
        assert not link._events

    await use(await serve(nursery, idle), work)


async def test_a_server_that_floods_does_not_hold_up_the_next_call_beyond_its_time(nursery: trio.Nursery) -> None:
    async def floods(s: Session) -> None:
        await s.welcome()
        with trio.move_on_after(15):  # where the client would wait for its end
            while True:
                await s.stream.send_all(FLOOD)

    def work(client: SyncClient) -> None:
        for _ in range(2):
            with pytest.raises(CallTimeout):
                client.call(1, timeout=1)

    await use(await serve(nursery, floods, floods), work)


def large(size: int) -> Script:
    """Answers the first call, and with its second says how long the answer will be."""

    async def script(s: Session) -> None:
        await s.welcome()
        await s.reply((await s.receive())[1], b"x" * 900)
        await s.receive()
        await s.stream.send_all(struct.pack(">I", size))
        await s.receive()

    return script


async def test_an_answer_beyond_max_frame_ends_the_connection_and_says_so(nursery: trio.Nursery) -> None:
    url = await serve(nursery, large(1001), idle)

    def work() -> None:
        with connect(url, "fake", max_frame=1000) as client:
            assert client.call(1) == b"x" * 900
            with pytest.raises(Failed, match="disconnected") as failed:
                client.call(1)
            assert "a frame of 1001 bytes; at most 1000 are taken (max_frame)" in str(failed.value.__cause__)

    await trio.to_thread.run_sync(work)
    with pytest.raises(ValueError, match="max_frame is 1 to"):
        connect(url, "fake", max_frame=0)


async def test_so_it_is_with_trio(nursery: trio.Nursery) -> None:
    url = await serve(nursery, large(1001), idle)
    async with open_client(url, "fake", Options(max_frame=1000)) as client:
        assert await client.call(1) == b"x" * 900
        with pytest.raises(Failed, match="disconnected") as failed:
            await client.call(1)
        assert "a frame of 1001 bytes; at most 1000 are taken (max_frame)" in str(failed.value.__cause__)
    with pytest.raises(ValueError, match="max_frame is 1 to"):
        async with open_client(url, "fake", Options(max_frame=0)):
            pass


async def test_and_with_a_part(nursery: trio.Nursery) -> None:
    async def script(s: Session) -> None:
        await s.welcome()
        await s.receive()
        await s.stream.send_all(struct.pack(">I", 1001))
        await s.receive()

    url = await serve(nursery, idle, script)

    def work() -> None:
        with connect(url, "fake", max_frame=1000) as client, client.stream(1) as parts:
            with pytest.raises(Failed, match="disconnected") as failed:
                next(parts)
            assert "(max_frame)" in str(failed.value.__cause__)

    await trio.to_thread.run_sync(work)


class Silent:
    """A tunnel of TLS through which nothing comes; it ends a test that waits for it."""

    ended = False

    def __init__(self) -> None:
        self._end = time.monotonic() + 10

    def decrypt(self, _data: bytes) -> bytes:
        assert time.monotonic() < self._end
        return b""


class Busy:
    """A socket on which there is always more."""

    def __init__(self) -> None:
        self.timeouts: list[float] = []

    def settimeout(self, seconds: float) -> None:
        self.timeouts.append(seconds)

    def gettimeout(self) -> float:
        return self.timeouts[-1]

    def recv(self, _size: int) -> bytes:
        return b"a record"


@pytest.mark.parametrize(("timeout", "error"), [(0.0, BlockingIOError), (0.05, TimeoutError)])
def test_records_of_tls_that_say_nothing_buy_no_time(timeout: float, error: type[OSError]) -> None:
    sock, busy = TlsSocket.__new__(TlsSocket), Busy()
    sock._sock, sock._tunnel, sock._plain = busy, Silent(), b""  # type: ignore[assignment]
    sock.settimeout(timeout)
    with pytest.raises(error):
        sock.recv(1)
    assert busy.timeouts == sorted(busy.timeouts, reverse=True)
