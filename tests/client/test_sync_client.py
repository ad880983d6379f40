# SPDX-License-Identifier: MIT
"""The blocking client, in a thread, against a service that does as it is told."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import trio

from fake_service import WELCOME, Session, serve
from gendriverd.client import CallTimeout, ClientError, Failed, Refused, SyncClient, Unreachable, connect
from gendriverd.etf import Atom, EtfError

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


async def test_a_timeout_holds_for_sending_too_and_the_next_connects_anew(nursery: trio.Nursery) -> None:
    async def deaf(s: Session) -> None:
        await s.welcome(WELCOME | {Atom("limits"): {Atom("in_flight"): 4, Atom("frame"): 1 << 30}})
        await trio.sleep_forever()

    async def second(s: Session) -> None:
        await s.welcome()
        await s.reply((await s.receive())[1], b"second")
        await s.receive()

    url = await serve(nursery, deaf, second)

    def work(client: SyncClient) -> Any:
        with pytest.raises(CallTimeout, match=r"the request was not taken within 0\.01 s"):
            client.call(1, bytes(32 << 20), timeout=0.01)
        return client.call(1)

    assert await use(url, work) == b"second"
    nursery.cancel_scope.cancel()


async def test_a_handshake_without_an_answer_ends_in_time_with_a_sentence(nursery: trio.Nursery) -> None:
    async def silent(s: Session) -> None:
        await s.greet()
        await s.receive()

    async def ended(s: Session) -> None:
        await s.greet()

    url = await serve(nursery, silent, ended)
    with pytest.raises(Unreachable, match=r"tcp://.*: timed out"):
        await trio.to_thread.run_sync(lambda: connect(url, "fake", connect_timeout=0.02))
    with pytest.raises(Unreachable, match=r"tcp://.*: the connection ended in the handshake"):
        await trio.to_thread.run_sync(lambda: connect(url, "fake"))


async def test_bad_params_cost_no_connection(nursery: trio.Nursery) -> None:
    async def script(s: Session) -> None:
        await s.welcome()
        assert (await s.receive())[2] == 7  # nothing of the bad ones was sent
        await s.receive()

    url = await serve(nursery, script)
    deep: list[object] = []
    for _ in range(200):
        deep = [deep]

    def work(client: SyncClient) -> None:
        for params in (deep, {1, 2}):
            with pytest.raises(EtfError):
                client.call(1, params)
            with pytest.raises(EtfError):
                client.cast(1, params)
        with pytest.raises(ClientError, match="the daemon takes 1048576"):
            client.cast(1, bytes(2 << 20))
        with pytest.raises(Failed, match="bad_request"):
            client.call(1 << 30)
        with pytest.raises(CallTimeout):
            client.call(7, timeout=0)

    await use(url, work)


async def test_a_timeout_holds_while_another_thread_calls_and_close_ends_that_one(nursery: trio.Nursery) -> None:
    asked = trio.Event()

    async def script(s: Session) -> None:
        await s.welcome()
        await s.receive()
        asked.set()
        assert await s.receive() is None

    url = await serve(nursery, script)

    def work(client: SyncClient) -> None:
        hung: list[BaseException] = []

        def hang() -> None:
            try:
                client.call(1)
            except Failed as failed:
                hung.append(failed)

        thread = threading.Thread(target=hang)
        thread.start()
        trio.from_thread.run(asked.wait)
        with pytest.raises(CallTimeout, match="another thread"):
            client.call(2, timeout=0.05)
        client.close()
        thread.join(30)
        assert [str(each) for each in hung] == ["the call failed: disconnected (it may have run)"]

    await use(url, work)


async def test_an_infinite_timeout_is_none(nursery: trio.Nursery) -> None:
    async def script(s: Session) -> None:
        await s.welcome()
        message = await s.receive()
        assert len(message) == 4  # no options
        await s.reply(message[1], b"ok")

    url = await serve(nursery, script)
    assert await use(url, lambda client: client.call(1, timeout=float("inf"))) == b"ok"
