# SPDX-License-Identifier: MIT
"""The trio client where a connection ends, drains, or does not come about: what its calls hear, and what comes next."""

from __future__ import annotations

import pytest
import trio

from fake_service import Session, serve
from gendriverd.client import Failed, Refused, Unreachable, open_client
from gendriverd.client.multiplexed import Options
from gendriverd.etf import Atom

SOON = Options(backoff_first=0.001, backoff_max=0.002, connect_wait=30.0)


@pytest.mark.parametrize(
    ("goodbye", "reason"),
    [(None, "disconnected"), ("host_died", "not_run"), ("bad_term", "not_run"), ("stopping", "draining")],
)
async def test_when_the_link_ends_everyone_hears_once(nursery: trio.Nursery, goodbye: str | None, reason: str) -> None:
    async def script(s: Session) -> None:
        await s.welcome()
        for _ in range(3):
            await s.receive()
        if goodbye is not None:
            await s.goodbye(goodbye)
        await s.stream.send_eof()
        await s.receive()

    url = await serve(nursery, script)
    heard: list[str] = []
    async with open_client(url, "fake") as client:

        async def ask() -> None:
            with pytest.raises(Failed) as failed:
                await client.call(1)
            heard.append(failed.value.reason)

        async with trio.open_nursery() as tasks:
            for _ in range(3):
                tasks.start_soon(ask)
    assert heard == [reason] * 3


async def test_it_reconnects_and_calls_wait_for_it(nursery: trio.Nursery) -> None:
    async def first(s: Session) -> None:
        await s.welcome()
        await s.receive()

    async def second(s: Session) -> None:
        await s.welcome()
        await s.reply((await s.receive())[1], b"second")
        await s.receive()

    url = await serve(nursery, first, second)
    async with open_client(url, "fake", SOON) as client:
        with pytest.raises(Failed, match="disconnected"):
            await client.call(1)
        assert await client.call(1) == b"second"


async def test_draining_loses_no_call(nursery: trio.Nursery) -> None:
    half_closed = trio.Event()

    async def first(s: Session) -> None:
        await s.welcome()
        call_id = (await s.receive())[1]
        await s.goodbye("draining")
        assert await s.receive() is None  # the client half-closes
        half_closed.set()
        await s.reply(call_id, b"from the old")

    async def second(s: Session) -> None:
        await s.welcome()
        await s.reply((await s.receive())[1], b"from the new")
        await s.receive()

    url = await serve(nursery, first, second)
    answers: list[object] = []
    async with open_client(url, "fake", SOON) as client, trio.open_nursery() as tasks:

        async def ask() -> None:
            answers.append(await client.call(1))

        tasks.start_soon(ask)
        await half_closed.wait()
        assert await client.call(1) == b"from the new"
    assert answers == [b"from the old"]


async def test_a_connection_that_drains_is_left_though_no_other_comes(nursery: trio.Nursery) -> None:
    """The next one comes when it is left, as when a daemon restarts."""
    half_closed = trio.Event()

    async def first(s: Session) -> None:
        await s.welcome()
        call_id = (await s.receive())[1]
        await s.goodbye("draining")
        assert await s.receive() is None
        await s.reply(call_id, b"from the old")
        half_closed.set()

    async def stopping(s: Session) -> None:
        await s.greet()
        await half_closed.wait()
        await s.send((Atom("refused"), Atom("draining")))

    async def second(s: Session) -> None:
        await s.welcome()
        await s.reply((await s.receive())[1], b"from the new")
        await s.receive()

    url = await serve(nursery, first, stopping, second)
    async with open_client(url, "fake", SOON) as client:
        assert await client.call(1) == b"from the old"
        assert await client.call(1) == b"from the new"


async def test_without_a_connection_calls_end_in_time_and_casts_are_counted(nursery: trio.Nursery) -> None:
    async def script(s: Session) -> None:
        await s.welcome()

    url = await serve(nursery, script)
    async with open_client(url, "fake", Options(backoff_first=30, connect_wait=0.01)) as client:
        with pytest.raises(Failed):
            await client.call(1)
        with pytest.raises(Failed, match="unavailable"):
            await client.call(1)
        with pytest.raises(Failed, match="unavailable"):
            await client.call(1, timeout=0.01)
        assert not await client.cast(1)
        assert client.dropped_casts == 1


async def test_a_refusal_is_said_at_once(nursery: trio.Nursery) -> None:
    async def script(s: Session) -> None:
        assert await s.greet() == (Atom("hello"), 1, b"nope", {})
        await s.send((Atom("refused"), Atom("unknown_instance")))

    url = await serve(nursery, script)
    with pytest.raises(Refused, match="unknown_instance: the daemon has no instance of that name"):
        async with open_client(url, "nope"):
            pass


async def test_nobody_listening_is_said_with_the_address(free_tcp_port: int) -> None:
    with pytest.raises(Unreachable, match=f"tcp://127.0.0.1:{free_tcp_port}"):
        async with open_client(f"tcp://127.0.0.1:{free_tcp_port}", "x"):
            pass


@pytest.mark.parametrize("said", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0\0\0\2\x83j", b"\xff\xff\xff\xff", b""])
async def test_what_is_no_gendriverd_is_unreachable(nursery: trio.Nursery, said: bytes) -> None:
    async def script(s: Session) -> None:
        await s.stream.send_all(said)

    url = await serve(nursery, script)
    with pytest.raises(Unreachable):
        async with open_client(url, "x"):
            pass


@pytest.mark.parametrize("lie", [b"\xff\xff\xff\xff", b"\0\0\0\3\x83j", b"\0\0\0\2\x83\0", b"\0\0\0\2\x83j"])
async def test_a_frame_that_is_none_ends_the_link_and_answers_all(nursery: trio.Nursery, lie: bytes) -> None:
    async def script(s: Session) -> None:
        await s.welcome()
        await s.receive()
        await s.stream.send_all(lie)
        await s.stream.send_eof()
        await s.receive()

    url = await serve(nursery, script)
    async with open_client(url, "fake") as client:
        with pytest.raises(Failed, match="disconnected"):
            await client.call(1)
