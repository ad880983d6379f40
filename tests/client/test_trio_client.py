# SPDX-License-Identifier: MIT
"""The trio client against a service that does as it is told: what is asked, what is answered, to whom."""

from __future__ import annotations

import struct
from typing import Any

import pytest
import trio

from fake_service import Session, serve
from gendriverd.client import CallTimeout, Failed, UnknownCommand, open_client
from gendriverd.etf import Atom

OK = Atom("ok")


async def test_calls_are_answered_out_of_order(nursery: trio.Nursery) -> None:
    async def script(s: Session) -> None:
        await s.welcome()
        calls = [await s.receive() for _ in range(3)]
        for _, call_id, cmd, params in reversed(calls):
            await s.reply(call_id, (OK, cmd, params))
        await s.receive()

    url = await serve(nursery, script)
    answers: dict[int, object] = {}
    async with open_client(url, "fake") as client:

        async def ask(n: int) -> None:
            answers[n] = await client.call("add", n)

        async with trio.open_nursery() as tasks:
            for n in range(3):
                tasks.start_soon(ask, n)
    assert answers == {n: (OK, 1, n) for n in range(3)}


async def test_the_drivers_error_is_a_value_and_the_services_word_an_exception(nursery: trio.Nursery) -> None:
    async def script(s: Session) -> None:
        await s.welcome()
        await s.reply((await s.receive())[1], (Atom("error"), Atom("expired")))
        await s.failed((await s.receive())[1], "expired")
        await s.failed((await s.receive())[1], "crashed")
        await s.receive()

    url = await serve(nursery, script)
    async with open_client(url, "fake") as client:
        assert await client.call(1) == (Atom("error"), Atom("expired"))
        with pytest.raises(Failed) as expired:
            await client.call(1)
        assert (expired.value.reason, expired.value.retryable) == ("expired", True)
        with pytest.raises(Failed) as crashed:
            await client.call(1)
        assert (crashed.value.reason, crashed.value.retryable) == ("crashed", False)


async def test_options_travel_with_the_call(nursery: trio.Nursery) -> None:
    seen: list[Any] = []

    async def script(s: Session) -> None:
        await s.welcome()
        for _ in range(2):
            message = await s.receive()
            seen.append(message)
            if message[0] == "call":
                await s.reply(message[1], OK)
        await s.receive()

    url = await serve(nursery, script)
    async with open_client(url, "fake") as client:
        assert await client.cast(2, b"x", key=7)
        await client.call(1, timeout=60, key=5, trace=b"t")
    assert seen[0] == (Atom("cast"), 2, b"x", {Atom("key"): 7})
    tag, _, cmd, params, opts = seen[1]
    assert (tag, cmd, params, opts[Atom("key")], opts[Atom("trace")]) == (Atom("call"), 1, [], 5, b"t")
    assert 50_000 < opts[Atom("timeout")] <= 60_000


async def test_a_call_past_its_time_is_cancelled_and_its_late_reply_dropped(nursery: trio.Nursery) -> None:
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
    async with open_client(url, "fake") as client:
        with pytest.raises(CallTimeout):
            await client.call(1, timeout=0.01)
        assert await client.call(1) == b"in time"


async def test_the_hosts_word_just_after_the_deadline_is_waited_for(nursery: trio.Nursery) -> None:
    async def script(s: Session) -> None:
        await s.welcome()
        await s.failed((await s.receive())[1], "expired")
        await s.receive()

    url = await serve(nursery, script)
    async with open_client(url, "fake") as client:
        with pytest.raises(Failed, match="expired"):
            await client.call(1, timeout=0)


async def test_cancelling_the_task_cancels_the_call(nursery: trio.Nursery) -> None:
    cancelled = trio.Event()

    async def script(s: Session) -> None:
        await s.welcome()
        first = await s.receive()
        scope.cancel()
        assert await s.receive() == (Atom("cancel"), first[1])
        cancelled.set()
        await s.receive()

    url = await serve(nursery, script)
    async with open_client(url, "fake") as client:
        with trio.CancelScope() as scope:
            await client.call(1)
        await cancelled.wait()


async def test_over_the_daemons_limit_a_call_is_overloaded_at_once(nursery: trio.Nursery) -> None:
    async def script(s: Session) -> None:
        await s.welcome()  # in_flight: 4
        for call_id in [(await s.receive())[1] for _ in range(4)]:
            full.set()
            await go_on.wait()
            await s.reply(call_id, OK)
        await s.receive()

    full, go_on = trio.Event(), trio.Event()
    url = await serve(nursery, script)
    async with open_client(url, "fake") as client, trio.open_nursery() as tasks:
        for _ in range(4):
            tasks.start_soon(client.call, 1)
        await full.wait()
        with pytest.raises(Failed, match="overloaded"):
            await client.call(1)
        go_on.set()


async def test_a_name_that_the_driver_lacks_is_named_with_those_it_has(nursery: trio.Nursery) -> None:
    async def script(s: Session) -> None:
        await s.welcome()
        await s.receive()

    url = await serve(nursery, script)
    async with open_client(url, "fake") as client:
        with pytest.raises(UnknownCommand, match="no command 'mul'; it has: add"):
            await client.call("mul")


async def test_an_answer_python_cannot_hold_fails_that_call_alone(nursery: trio.Nursery) -> None:
    two_keys = b"\x83h\x03w\x05replya\x00t\0\0\0\2a\x01jF?\xf0\0\0\0\0\0\0j"  # #{1 => [], 1.0 => []}

    async def script(s: Session) -> None:
        await s.welcome()
        assert (await s.receive())[1] == 0
        await s.stream.send_all(struct.pack(">I", len(two_keys)) + two_keys)
        await s.reply((await s.receive())[1], OK)
        await s.receive()

    url = await serve(nursery, script)
    async with open_client(url, "fake") as client:
        with pytest.raises(Failed, match="undecodable"):
            await client.call(1)
        assert await client.call(1) == OK


async def test_answers_nobody_asked_for_are_ignored(nursery: trio.Nursery) -> None:
    async def script(s: Session) -> None:
        await s.welcome()
        call_id = (await s.receive())[1]
        await s.reply(12345, b"unknown")
        await s.send((Atom("note"), b"x"), (Atom("part"), call_id, b"y"))
        await s.reply(call_id, b"once")
        await s.reply(call_id, b"twice")
        await s.reply((await s.receive())[1], b"next")
        await s.receive()

    url = await serve(nursery, script)
    async with open_client(url, "fake") as client:
        assert await client.call(1) == b"once"
        assert await client.call(1) == b"next"


async def test_ping_measures(nursery: trio.Nursery) -> None:
    async def script(s: Session) -> None:
        await s.welcome()
        _tag, ping_id = await s.receive()
        await s.send((Atom("pong"), ping_id))
        await s.receive()

    url = await serve(nursery, script)
    async with open_client(url, "fake") as client:
        assert await client.ping() >= 0


async def test_frames_in_single_bytes_are_put_together(nursery: trio.Nursery) -> None:
    from gendriverd import etf

    async def script(s: Session) -> None:
        await s.welcome()
        for byte in etf.frame((Atom("reply"), (await s.receive())[1], list(range(300)))):
            await s.stream.send_all(bytes([byte]))
        await s.receive()

    url = await serve(nursery, script)
    async with open_client(url, "fake") as client:
        assert await client.call(1) == list(range(300))
