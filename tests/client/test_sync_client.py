# SPDX-License-Identifier: MIT
"""The blocking client, in a thread, against a service that does as it is told."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import trio

from fake_service import Session, serve
from gendriverd.client import CallTimeout, Failed, Refused, SyncClient, Unreachable, connect
from gendriverd.etf import Atom

OK = Atom("ok")


async def use(url: str, work: Callable[[SyncClient], Any]) -> Any:
    """Run work(client) in a thread."""

    def connected() -> Any:
        with connect(url, "fake") as client:
            return work(client)

    return await trio.to_thread.run_sync(connected)


async def test_call_cast_and_ping(nursery: trio.Nursery) -> None:
    async def script(s: Session) -> None:
        await s.welcome()
        assert await s.receive() == (Atom("cast"), 1, b"x")
        _, ping_id = await s.receive()
        await s.send((Atom("pong"), ping_id))
        _, call_id, cmd, params = await s.receive()
        await s.reply(call_id, (OK, cmd, params))
        await s.receive()

    url = await serve(nursery, script)

    def work(client: SyncClient) -> Any:
        client.cast("add", b"x")
        assert client.ping() >= 0
        return client.call("add", [1, 300])

    assert await use(url, work) == (OK, 1, [1, 300])


async def test_a_timeout_cancels_and_the_late_reply_is_dropped(nursery: trio.Nursery) -> None:
    async def script(s: Session) -> None:
        await s.welcome()
        first = await s.receive()
        assert await s.receive() == (Atom("cancel"), first[1])
        second = await s.receive()
        assert second[1] != first[1]
        await s.reply(first[1], b"late")
        await s.reply(second[1], b"in time")
        await s.receive()

    url = await serve(nursery, script)

    def work(client: SyncClient) -> Any:
        with pytest.raises(CallTimeout):
            client.call(1, timeout=0.01)
        return client.call(1)

    assert await use(url, work) == b"in time"


@pytest.mark.parametrize(("goodbye", "reason"), [(None, "disconnected"), ("host_died", "not_run")])
async def test_the_end_of_the_link_is_the_calls_outcome_and_the_next_connects_anew(
    nursery: trio.Nursery, goodbye: str | None, reason: str
) -> None:
    async def first(s: Session) -> None:
        await s.welcome()
        await s.receive()
        if goodbye:
            await s.goodbye(goodbye)

    async def second(s: Session) -> None:
        await s.welcome()
        await s.reply((await s.receive())[1], b"second")
        await s.receive()

    url = await serve(nursery, first, second)

    def work(client: SyncClient) -> Any:
        with pytest.raises(Failed) as failed:
            client.call(1)
        assert failed.value.reason == reason
        return client.call(1)

    assert await use(url, work) == b"second"


async def test_a_link_that_said_goodbye_gets_no_new_request(nursery: trio.Nursery) -> None:
    async def first(s: Session) -> None:
        await s.welcome()
        await s.reply((await s.receive())[1], b"first")
        await s.goodbye("draining")
        said.set()
        assert await s.receive() is None

    async def second(s: Session) -> None:
        await s.welcome()
        await s.reply((await s.receive())[1], b"second")
        await s.receive()

    said = threading.Event()
    url = await serve(nursery, first, second)

    def work(client: SyncClient) -> Any:
        assert client.call(1) == b"first"
        assert said.wait(10)
        return client.call(1)

    assert await use(url, work) == b"second"


async def test_threads_share_a_client(nursery: trio.Nursery) -> None:
    async def script(s: Session) -> None:
        await s.welcome()
        while (message := await s.receive()) is not None:
            await s.reply(message[1], message[3])

    url = await serve(nursery, script)

    def work(client: SyncClient) -> Any:
        wrong: list[int] = []

        def ask(n: int) -> None:
            wrong.extend(i for i in range(50) if client.call(1, (n, i)) != (n, i))

        threads = [threading.Thread(target=partial(ask, n)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return wrong

    assert await use(url, work) == []


async def test_a_refusal_names_instance_and_reason(nursery: trio.Nursery) -> None:
    async def script(s: Session) -> None:
        await s.greet()
        await s.send((Atom("refused"), Atom("busy")))

    url = await serve(nursery, script)
    with pytest.raises(Refused, match="'fake' was refused: busy"):
        await use(url, lambda client: None)


def test_an_address_that_is_none_says_what_is_accepted() -> None:
    with pytest.raises(ValueError, match=r"tcp://127\.0\.0\.1:9900"):
        connect("localhost:9900", "x")


def test_nobody_listening_is_said_with_the_address(free_tcp_port: int) -> None:
    with pytest.raises(Unreachable, match=f"tcp://127.0.0.1:{free_tcp_port}: "):
        connect(f"tcp://127.0.0.1:{free_tcp_port}", "x")
