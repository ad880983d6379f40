# SPDX-License-Identifier: MIT
"""Streams of both faces of the client, against a scripted service: credit, ends, and what is left early."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio

from fake_service import Session, serve
from gendriverd.client import CallTimeout, Failed, SyncClient, Unreachable, connect, open_client
from gendriverd.client.credit import Credit
from gendriverd.etf import Atom

OK = Atom("ok")


async def parts(s: Session, call_id: int, *terms: Any) -> None:
    await s.send(*((Atom("part"), call_id, term) for term in terms))


async def asked(s: Session, window: int, command: int = 1) -> int:
    """A stream's call."""
    tag, call_id, cmd, _, opts = await s.receive()
    assert (tag, cmd, opts) == ("call", command, {Atom("parts"): window})
    return int(call_id)


async def idle(s: Session) -> None:
    """The connection that a blocking client has for its calls."""
    await s.welcome()
    await s.receive()


async def with_sync(nursery: trio.Nursery, script: Callable[[Session], Any], work: Callable[[SyncClient], Any]) -> Any:
    """Run the work in a thread; the script serves the connection of its stream."""
    url = await serve(nursery, idle, script)

    def connected() -> Any:
        with connect(url, "fake") as client:
            return work(client)

    return await trio.to_thread.run_sync(connected)


async def five(s: Session) -> None:
    """Five parts, two ahead at most, and a reply."""
    await s.welcome()
    call_id = await asked(s, 2)
    await parts(s, call_id, 0, 1)
    for number in range(2, 5):
        assert await s.receive() == (Atom("credit"), call_id, 1)
        await parts(s, call_id, number)
    await s.reply(call_id, (OK, 5))
    while await s.receive() is not None:
        pass


@pytest.mark.parametrize("window", [1, 2, 3, 16, 1_000])
def test_credit_is_never_more_than_the_window_and_never_stays_away(window: int) -> None:
    credit, outstanding = Credit(window), window
    for _ in range(5_000):
        assert 0 < outstanding <= window
        outstanding -= 1
        outstanding += credit.took_one()


# --- plain blocking code ------------------------------------------------------------


async def test_a_loop_over_a_stream_gets_every_part_and_then_the_result(nursery: trio.Nursery) -> None:
    def work(client: SyncClient) -> Any:
        with client.stream("add", window=2) as stream:
            assert list(stream) == [0, 1, 2, 3, 4]
            assert list(stream) == []
            return stream.result

    assert await with_sync(nursery, five, work) == (OK, 5)


async def test_a_stream_leaves_the_clients_own_connection_free(nursery: trio.Nursery) -> None:
    async def own(s: Session) -> None:
        await s.welcome()
        await s.reply((await s.receive())[1], b"between")
        await s.receive()

    url = await serve(nursery, own, five)

    def work() -> Any:
        with connect(url, "fake") as client, client.stream("add", window=2) as stream:
            assert next(stream) == 0
            assert client.call(1) == b"between"
            return list(stream)

    assert await trio.to_thread.run_sync(work) == [1, 2, 3, 4]


async def test_a_stream_that_is_cut_fails_and_so_nobody_takes_it_for_the_whole(nursery: trio.Nursery) -> None:
    async def script(s: Session) -> None:
        await s.welcome()
        call_id = await asked(s, 16)
        await parts(s, call_id, 0)
        await s.failed(call_id, "crashed")
        await s.receive()

    def work(client: SyncClient) -> Any:
        with client.stream("add") as stream:
            assert next(stream) == 0
            with pytest.raises(Failed) as failed:
                next(stream)
            assert list(stream) == []
            return failed.value.reason

    assert await with_sync(nursery, script, work) == "crashed"


@pytest.mark.parametrize(("goodbye", "reason"), [(None, "disconnected"), ("host_died", "not_run")])
async def test_the_end_of_a_streams_link_is_its_outcome(
    nursery: trio.Nursery, goodbye: str | None, reason: str
) -> None:
    async def script(s: Session) -> None:
        await s.welcome()
        await asked(s, 16)
        if goodbye:
            await s.goodbye(goodbye)

    def work(client: SyncClient) -> Any:
        with client.stream("add") as stream, pytest.raises(Failed) as failed:
            next(stream)
        return failed.value.reason

    assert await with_sync(nursery, script, work) == reason


async def test_a_host_that_drains_is_heard_to_the_end_of_a_stream(nursery: trio.Nursery) -> None:
    async def script(s: Session) -> None:
        await s.welcome()
        call_id = await asked(s, 1)
        await s.goodbye("draining")
        for number in range(3):
            await parts(s, call_id, number)
            assert await s.receive() == (Atom("credit"), call_id, 1)
        await s.reply(call_id, OK)
        await s.receive()

    def work(client: SyncClient) -> Any:
        with client.stream("add", window=1) as stream:
            return list(stream)

    assert await with_sync(nursery, script, work) == [0, 1, 2]


async def test_a_part_that_does_not_come_in_time_ends_the_stream(nursery: trio.Nursery) -> None:
    closed = trio.Event()

    async def script(s: Session) -> None:
        await s.welcome()
        await asked(s, 16)
        assert await s.receive() is None
        closed.set()

    def work(client: SyncClient) -> Any:
        stream = client.stream("add", timeout=0.01)
        with pytest.raises(CallTimeout):
            next(stream)

    await with_sync(nursery, script, work)
    await closed.wait()


async def test_a_stream_that_cannot_connect_says_so(nursery: trio.Nursery) -> None:
    url = await serve(nursery, idle)

    def work() -> None:
        with connect(url, "fake") as client, pytest.raises(Unreachable):
            client.stream("add")

    await trio.to_thread.run_sync(work)


@pytest.mark.parametrize("window", [0, 2**32])
async def test_a_window_out_of_range_is_a_bad_request(nursery: trio.Nursery, window: int) -> None:
    async def script(s: Session) -> None:
        await s.welcome()
        await s.receive()

    def work(client: SyncClient) -> None:
        with pytest.raises(Failed, match="bad_request"):
            client.stream("add", window=window)

    await with_sync(nursery, script, work)


# --- trio ---------------------------------------------------------------------------


async def test_a_task_gets_every_part_and_then_the_result(nursery: trio.Nursery) -> None:
    url = await serve(nursery, five)
    async with open_client(url, "fake") as client, client.stream("add", window=2) as stream:
        assert [part async for part in stream] == [0, 1, 2, 3, 4]
        assert stream.result == (OK, 5)


async def test_streams_and_calls_share_a_link(nursery: trio.Nursery) -> None:
    async def script(s: Session) -> None:
        await s.welcome()
        first, second = await asked(s, 16), await asked(s, 16)
        third = (await s.receive())[1]
        await parts(s, second, b"b")
        await s.reply(third, b"c")
        await parts(s, first, b"a")
        await s.reply(second, 2)
        await s.reply(first, 1)
        await s.receive()

    url = await serve(nursery, script)
    async with open_client(url, "fake") as client, client.stream("add") as one, client.stream("add") as two:
        assert await client.call("add") == b"c"
        assert [part async for part in one] == [b"a"]
        assert [part async for part in two] == [b"b"]
        assert (one.result, two.result) == (1, 2)


async def test_no_credit_is_given_for_parts_that_nobody_reads(nursery: trio.Nursery) -> None:
    async def script(s: Session) -> None:
        await s.welcome()
        call_id = await asked(s, 2)
        await parts(s, call_id, 0, 1)
        tag, ping_id = await s.receive()  # and no credit before it
        assert tag == "ping"
        await s.send((Atom("pong"), ping_id))
        assert await s.receive() == (Atom("credit"), call_id, 1)
        await s.reply(call_id, OK)
        await s.receive()

    url = await serve(nursery, script)
    async with open_client(url, "fake") as client, client.stream("add", window=2) as stream:
        await client.ping()
        assert [part async for part in stream] == [0, 1]


async def test_a_stream_that_is_left_is_cancelled_and_its_late_parts_are_dropped(nursery: trio.Nursery) -> None:
    async def script(s: Session) -> None:
        await s.welcome()
        call_id = await asked(s, 4)
        await parts(s, call_id, 0, 1)
        assert await s.receive() == (Atom("cancel"), call_id)
        next_id = (await s.receive())[1]
        assert next_id != call_id
        await parts(s, call_id, 2)
        await s.failed(call_id, "interrupted")
        await s.reply(next_id, b"well")
        await s.receive()

    url = await serve(nursery, script)
    async with open_client(url, "fake") as client:
        async with client.stream("add", window=4) as stream:
            async for part in stream:
                assert part == 0
                break
        assert await client.call("add") == b"well"


async def test_parts_that_came_are_read_before_the_stream_fails(nursery: trio.Nursery) -> None:
    async def script(s: Session) -> None:
        await s.welcome()
        call_id = await asked(s, 16)
        await parts(s, call_id, 0, 1)
        await s.failed(call_id, "timeout")
        await s.send((Atom("pong"), (await s.receive())[1]))
        await s.receive()

    url = await serve(nursery, script)
    async with open_client(url, "fake") as client, client.stream("add") as stream:
        await client.ping()
        assert [await anext(stream), await anext(stream)] == [0, 1]
        with pytest.raises(Failed, match="timeout"):
            await anext(stream)


async def test_a_client_half_closes_behind_its_streams_when_its_host_drains(nursery: trio.Nursery) -> None:
    ended = trio.Event()

    async def old(s: Session) -> None:
        await s.welcome()
        call_id = await asked(s, 1)
        await s.goodbye("draining")
        await moved.wait()
        for number in range(3):
            await parts(s, call_id, number)
            assert await s.receive() == (Atom("credit"), call_id, 1)
        await s.reply(call_id, OK)
        assert await s.receive() is None
        ended.set()

    async def new(s: Session) -> None:
        await s.welcome()
        moved.set()
        await s.receive()

    moved = trio.Event()
    url = await serve(nursery, old, new)
    async with open_client(url, "fake") as client:
        async with client.stream("add", window=1) as stream:
            assert [part async for part in stream] == [0, 1, 2]
        await ended.wait()


async def test_a_service_that_sends_more_than_was_asked_for_is_left(nursery: trio.Nursery) -> None:
    async def script(s: Session) -> None:
        await s.welcome()
        call_id = await asked(s, 2)
        await s.receive()
        await parts(s, call_id, *range(50))
        await s.receive()

    url = await serve(nursery, script)
    async with open_client(url, "fake") as client, client.stream("add", window=2) as stream:
        with pytest.raises(Failed, match="disconnected"):
            await client.ping()
        assert [await anext(stream), await anext(stream)] == [0, 1]  # no more are kept
        with pytest.raises(Failed, match="disconnected"):
            await anext(stream)
