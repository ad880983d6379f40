# SPDX-License-Identifier: MIT
"""The trio client's connections: how they are left, drained, replaced and lost, and what never costs one."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from fake_service import WELCOME, Session, serve
from gendriverd.client import CallTimeout, ClientError, Failed, connect, open_client
from gendriverd.client.multiplexed import Options
from gendriverd.etf import Atom, EtfError
from passed_sockets import needs_refusal, rights

OK = Atom("ok")
SOON = Options(backoff_first=0.001, backoff_max=0.002, connect_wait=30.0)


async def test_a_call_waits_100_ms_beyond_its_time(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    async def script(s: Session) -> None:
        await s.welcome()
        while await s.receive():
            pass

    url = await serve(nursery, script)
    async with open_client(url, "fake") as client:
        began = trio.current_time()
        with pytest.raises(CallTimeout):
            await client.call(1, timeout=7)
        assert trio.current_time() - began == pytest.approx(7.1)
        with pytest.raises(CallTimeout, match="no answer to a ping within 5 s"):
            await client.ping()


async def test_what_the_body_raises_comes_out_as_it_is(nursery: trio.Nursery) -> None:
    async def script(s: Session) -> None:
        await s.welcome()
        await s.failed((await s.receive())[1], "crashed")
        await s.receive()

    url = await serve(nursery, script)
    with pytest.raises(Failed, match="crashed"):
        async with open_client(url, "fake") as client:
            await client.call(1)


async def test_a_cancelled_body_is_cancelled(nursery: trio.Nursery) -> None:
    async def script(s: Session) -> None:
        await s.welcome()
        await s.receive()

    url = await serve(nursery, script)
    with trio.CancelScope() as scope:
        async with open_client(url, "fake"):
            scope.cancel()
            await trio.lowlevel.checkpoint()
    assert scope.cancelled_caught


async def test_casts_made_just_before_the_end_are_read(nursery: trio.Nursery) -> None:
    got: list[Any] = []
    ended = trio.Event()

    async def script(s: Session) -> None:
        await s.welcome()
        while (message := await s.receive()) is not None:
            got.append(message[2])
        ended.set()

    url = await serve(nursery, script)
    async with open_client(url, "fake") as client:
        for n in range(3):
            assert await client.cast("add", bytes(300_000) + bytes([n]))
    await ended.wait()
    assert [params[-1] for params in got] == [0, 1, 2]


async def test_leaving_waits_for_answers_two_seconds_at_most(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    async def script(s: Session) -> None:
        await s.welcome()
        await s.receive()
        await trio.sleep_forever()

    url = await serve(nursery, script)
    async with trio.open_nursery() as tasks:

        async def ask() -> None:
            with pytest.raises(Failed, match="disconnected"):
                await client.call(1)

        async with open_client(url, "fake") as client:
            tasks.start_soon(ask)
            await trio.testing.wait_all_tasks_blocked()
            began = trio.current_time()
        assert trio.current_time() - began == pytest.approx(2)


async def test_a_client_that_was_left_takes_no_call(nursery: trio.Nursery) -> None:
    async def script(s: Session) -> None:
        await s.welcome()
        await s.receive()

    url = await serve(nursery, script)
    async with open_client(url, "fake") as client:
        pass
    with pytest.raises(ClientError, match="closed"):
        await client.call(1)
    assert not await client.cast(1)


async def test_a_service_that_welcomes_and_drops_is_tried_ever_more_seldom(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    came: list[float] = []

    async def dropped(s: Session) -> None:
        came.append(trio.current_time())
        await s.welcome()

    async def useful(s: Session) -> None:
        await dropped(s)
        await s.reply((await s.receive())[1], OK)

    async def last(s: Session) -> None:
        await dropped(s)
        done.set()
        await s.receive()

    done = trio.Event()
    url = await serve(nursery, *[dropped] * 8, useful, last)
    async with open_client(url, "fake", Options(connect_wait=600)) as client:
        while len(came) < 9:
            try:
                await client.call(1)
            except Failed as failed:
                assert failed.reason in ("disconnected", "unavailable")  # noqa: PT017 - a dropped link may take one
        await done.wait()
    gaps = [after - before for before, after in itertools.pairwise(came)]
    for gap, pause in zip(gaps, [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0], strict=False):
        assert 0.5 * pause <= gap <= pause + 0.01
    assert gaps[8] < 0.01  # it had answered: at once


async def test_while_it_drains_the_old_link_takes_requests_until_the_new_one_is_there(nursery: trio.Nursery) -> None:
    asked, go_on, closed = trio.Event(), trio.Event(), trio.Event()
    got: list[Any] = []

    async def first(s: Session) -> None:
        await s.welcome()
        await s.goodbye("draining")
        while (message := await s.receive()) is not None:
            got.append(message)
            if message[0] == "call":
                await s.reply(message[1], b"old")
        closed.set()

    async def second(s: Session) -> None:
        asked.set()
        await go_on.wait()
        await s.welcome()
        await s.reply((await s.receive())[1], b"new")
        await s.receive()

    url = await serve(nursery, first, second)
    async with open_client(url, "fake", SOON) as client:
        await asked.wait()
        assert await client.cast(5)
        assert await client.call(1) == b"old"
        assert not closed.is_set()
        go_on.set()
        await closed.wait()
        assert await client.call(1) == b"new"
    assert [message[0] for message in got] == ["cast", "call"]
    assert client.dropped_casts == 0


async def test_requests_with_a_key_wait_until_the_drained_link_has_ended(nursery: trio.Nursery) -> None:
    half_closed, seen = trio.Event(), trio.Event()
    order: list[str] = []

    async def first(s: Session) -> None:
        await s.welcome()
        call_id = (await s.receive())[1]
        await s.goodbye("draining")
        assert await s.receive() is None
        half_closed.set()
        await seen.wait()
        order.append("old answers")
        await s.reply(call_id, b"old")

    async def second(s: Session) -> None:
        await s.welcome()
        for _ in range(3):
            message = await s.receive()
            keyed = isinstance(message[-1], dict)
            order.append(f"{'keyed' if keyed else 'plain'} {message[0]}")
            if message[0] == "call":
                await s.reply(message[1], OK)
            seen.set()
        await s.receive()

    url = await serve(nursery, first, second)
    async with open_client(url, "fake", SOON) as client, trio.open_nursery() as tasks:
        tasks.start_soon(partial(client.call, 1, key=1))
        await half_closed.wait()
        tasks.start_soon(partial(client.call, 1, key=1))
        tasks.start_soon(partial(client.cast, 1, key=1))
        await trio.testing.wait_all_tasks_blocked()
        await client.call(1)
    assert order[:2] == ["plain call", "old answers"]
    assert sorted(order[2:]) == ["keyed call", "keyed cast"]


async def test_one_callers_bad_params_cost_nobody_else_the_connection(nursery: trio.Nursery) -> None:
    asked = trio.Event()

    async def script(s: Session) -> None:
        await s.welcome()
        call_id = (await s.receive())[1]
        asked.set()
        assert await s.receive() == (Atom("cast"), 9, [])  # nothing of the bad ones was sent
        await s.reply(call_id, OK)
        await s.receive()

    deep: list[object] = []
    for _ in range(200):
        deep = [deep]
    url = await serve(nursery, script)
    async with open_client(url, "fake") as client, trio.open_nursery() as tasks:
        tasks.start_soon(client.call, 1)
        await asked.wait()
        for params in (deep, {1, 2}, 1 << 40_000):
            with pytest.raises(EtfError):
                await client.call(1, params)
            with pytest.raises(EtfError):
                await client.cast(1, params)
        with pytest.raises(ClientError, match="the daemon takes 1048576"):
            await client.cast(1, bytes(2 << 20))
        with pytest.raises(ClientError, match="the daemon takes 1048576"):
            await client.call(1, bytes(2 << 20))
        with pytest.raises(Failed, match="bad_request"):
            await client.call(-1)
        assert await client.cast(9)


async def test_what_the_socket_did_not_take_never_ran(nursery: trio.Nursery) -> None:
    full = trio.Event()

    async def script(s: Session) -> None:
        about = WELCOME | {Atom("limits"): {Atom("in_flight"): 4, Atom("frame"): 1 << 30}}
        await s.welcome(about)
        await full.wait()

    url = await serve(nursery, script)
    heard: dict[str, str] = {}
    async with open_client(url, "fake") as client:

        async def ask(name: str, params: bytes) -> None:
            with pytest.raises(Failed) as failed:
                await client.call(1, params)
            heard[name] = failed.value.reason

        async with trio.open_nursery() as tasks:
            tasks.start_soon(ask, "in the socket", bytes(32 << 20))
            await trio.testing.wait_all_tasks_blocked(0.05)
            tasks.start_soon(ask, "behind it", b"")
            await trio.testing.wait_all_tasks_blocked(0.05)
            full.set()
    assert heard == {"in the socket": "disconnected", "behind it": "unavailable"}


async def test_an_id_stays_taken_until_its_final_frame(nursery: trio.Nursery) -> None:
    seen: list[int] = []

    async def script(s: Session) -> None:
        await s.welcome()
        first = (await s.receive())[1]
        assert (await s.receive())[0] == "cancel"
        for _ in range(2):
            seen.append((await s.receive())[1])
            await s.reply(seen[-1], OK)
        await s.failed(first, "cancelled")
        seen.append((await s.receive())[1])
        await s.reply(seen[-1], OK)
        await s.receive()

    url = await serve(nursery, script)
    async with open_client(url, "fake") as client:
        with pytest.raises(CallTimeout):
            await client.call(1, timeout=0)
        link = client._link
        assert link is not None
        assert list(link.pending) == [0]
        link._ids = (1 << 31) - 1  # the next is the last one, then round to 0, which is taken
        for _ in range(3):
            await client.call(1)
    assert seen == [(1 << 31) - 1, 1, 2]


async def test_a_connection_cut_in_the_middle_of_a_frame_answers_all_the_same(nursery: trio.Nursery) -> None:
    async def script(s: Session) -> None:
        await s.welcome()
        await s.receive()
        await s.stream.send_all(b"\0\0\1\0\x83h\3")

    url = await serve(nursery, script)
    async with open_client(url, "fake") as client:
        with pytest.raises(Failed, match="disconnected"):
            await client.call(1)


async def test_a_unix_socket_is_an_address_too(nursery: trio.Nursery, tmp_path: Path) -> None:
    async def handle(stream: trio.SocketStream) -> None:
        s = Session(stream)
        await s.welcome()
        await s.reply((await s.receive())[1], OK)
        await s.receive()

    async with open_client(await serve_unix(nursery, tmp_path, handle), "fake") as client:
        assert await client.call("add") == OK


@needs_refusal
async def test_no_descriptor_comes_by_one(nursery: trio.Nursery, tmp_path: Path) -> None:
    async def handle(stream: trio.SocketStream) -> None:
        s = Session(stream)
        await s.welcome()
        number = (await s.receive())[1]
        with pytest.raises(PermissionError):
            await stream.socket.sendmsg([b"x"], rights(0))
        await s.reply(number, OK)
        await s.receive()

    def call(url: str) -> object:
        with connect(url, "fake") as client:
            return client.call("add")

    url = await serve_unix(nursery, tmp_path, handle)
    async with open_client(url, "fake") as client:
        assert await client.call("add") == OK
    assert await trio.to_thread.run_sync(call, url) == OK


async def serve_unix(
    nursery: trio.Nursery, directory: Path, handle: Callable[[trio.SocketStream], Awaitable[None]]
) -> str:
    path = str(directory / "s")
    sock = trio.socket.socket(trio.socket.AF_UNIX)
    await sock.bind(path)
    sock.listen()
    nursery.start_soon(trio.serve_listeners, handle, [trio.SocketListener(sock)])
    return f"unix:{path}"
