# SPDX-License-Identifier: MIT
"""The blocking client's connection: how it ends, drains or is interrupted, and that the next call has a sound one."""

from __future__ import annotations

import errno
import threading
from typing import Any

import pytest
import trio

from fake_service import Session, serve
from gendriverd.client import Failed, SyncClient
from test_sync_client import use


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


async def test_an_interrupt_while_waiting_leaves_no_half_read_link_behind(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def first(s: Session) -> None:
        await s.welcome()
        await s.receive()
        await s.receive()

    async def second(s: Session) -> None:
        await s.welcome()
        await s.reply((await s.receive())[1], b"second")
        await s.receive()

    url = await serve(nursery, first, second)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    def work(client: SyncClient) -> Any:
        assert client._link is not None
        monkeypatch.setattr(client._link, "wait_for", interrupted)
        with pytest.raises(KeyboardInterrupt):
            client.call(1)
        return client.call(1)

    assert await use(url, work) == b"second"


@pytest.mark.parametrize("where", ["send", "wait_for"])
async def test_a_connection_the_kernel_gave_up_is_no_timeout_of_ours(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    async def script(s: Session) -> None:
        await s.welcome()
        await s.receive()

    url = await serve(nursery, script)

    def given_up(*_: object) -> None:
        raise TimeoutError(errno.ETIMEDOUT, "Connection timed out")

    def work(client: SyncClient) -> None:
        assert client._link is not None
        monkeypatch.setattr(client._link, where, given_up)
        with pytest.raises(Failed, match="disconnected"):
            client.call(1)

    await use(url, work)


async def test_a_link_that_drains_during_a_call_is_half_closed_and_still_answers(nursery: trio.Nursery) -> None:
    async def script(s: Session) -> None:
        await s.welcome()
        call_id = (await s.receive())[1]
        await s.goodbye("draining")
        assert await s.receive() is None
        await s.reply(call_id, b"the last")

    url = await serve(nursery, script)
    assert await use(url, lambda client: client.call(1)) == b"the last"


async def test_an_interrupt_in_a_cast_leaves_no_half_sent_link_behind(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def first(s: Session) -> None:
        await s.welcome()
        await s.receive()

    async def second(s: Session) -> None:
        await s.welcome()
        await s.reply((await s.receive())[1], b"second")
        await s.receive()

    url = await serve(nursery, first, second)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    def work(client: SyncClient) -> Any:
        assert client._link is not None
        monkeypatch.setattr(client._link, "send", interrupted)
        with pytest.raises(KeyboardInterrupt):
            client.cast(1)
        return client.call(1)

    assert await use(url, work) == b"second"
