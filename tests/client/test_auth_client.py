# SPDX-License-Identifier: MIT
"""Both Python clients with a key: whom they take for the service, and that they say nothing to anybody else."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from fake_service import WELCOME, Session, serve
from gendriverd import auth, etf
from gendriverd.client import AuthFailed, Failed, connect, open_client
from gendriverd.client.protocol import Event, Greeted, ProtocolError, Receiver
from gendriverd.etf import Atom

SECRET = b"do-not-print-me-" * 3
KEY = ("anna", SECRET)
WELCOMED = etf.frame((Atom("welcome"), 1, WELCOME))
Shake = Callable[[Session], Awaitable[None]]
Answer = Callable[[bytes, bytes, bytes], bytes]


def greeting(wanted: str = "hmac") -> bytes:
    about = {Atom("server"): b"fake", Atom("auth"): Atom(wanted), Atom("nonce"): os.urandom(32)}
    return etf.frame((Atom("gen_driver"), 1, about))


def right(greeted: bytes, hello: bytes, proof: bytes) -> bytes:
    return WELCOMED + auth.proof_frame(auth.server_mac(SECRET, greeted, hello, proof, WELCOMED))


def service(answer: Answer) -> Shake:
    """Greets, checks the client's proof, says what `answer` makes of the frames, answers one call."""

    async def script(s: Session) -> None:
        greeted = greeting()
        await s.stream.send_all(greeted)
        hello, proof = etf.frame(await s.receive()), etf.frame(await s.receive())
        assert proof == auth.proof_frame(auth.client_mac(SECRET, greeted, hello))
        await s.stream.send_all(answer(greeted, hello, proof))
        if (message := await s.receive()) is not None:
            await s.reply(message[1], (Atom("ok"), message[3]))
            await s.receive()

    return script


async def blocking(url: str, key: tuple[str, bytes] | None) -> Any:
    def work() -> Any:
        with connect(url, "fake", key=key) as client:
            assert "print-me" not in f"{client!r} {client._key!r}"
            return client.call("add", 7)

    return await trio.to_thread.run_sync(work)


async def multiplexed(url: str, key: tuple[str, bytes] | None) -> Any:
    async with open_client(url, "fake", key=key) as client:
        assert "print-me" not in f"{client!r} {client._key!r}"
        return await client.call("add", 7)


FACES = pytest.mark.parametrize("face", [blocking, multiplexed])
Face = Callable[[str, tuple[str, bytes] | None], Awaitable[Any]]


@FACES
async def test_a_service_that_proves_the_key_is_called(nursery: trio.Nursery, face: Face) -> None:
    assert await face(await serve(nursery, service(right)), KEY) == (Atom("ok"), 7)


WRONG: dict[str, Answer] = {
    "another key": lambda g, h, p: WELCOMED + auth.proof_frame(auth.server_mac(bytes(32), g, h, p, WELCOMED)),
    "another welcome": lambda g, h, p: WELCOMED + auth.proof_frame(auth.server_mac(SECRET, g, h, p, g)),
    "the client's own": lambda g, h, p: WELCOMED + p,
    "the client's label": lambda g, h, p: WELCOMED + auth.proof_frame(auth.client_mac(SECRET, g + h + p, WELCOMED)),
    "31 bytes": lambda g, h, p: WELCOMED + auth.proof_frame(etf.decode(right(g, h, p)[len(WELCOMED) + 4 :])[1][:31]),
    "a reply in its place": lambda g, h, p: WELCOMED + etf.frame((Atom("reply"), 0, 1)),
    "a second welcome": lambda g, h, p: WELCOMED + right(g, h, p),
    "no term": lambda g, h, p: WELCOMED + b"\0\0\0\1x",
}


@FACES
@pytest.mark.parametrize("what", WRONG)
async def test_a_service_that_does_not_prove_it_is_not(nursery: trio.Nursery, face: Face, what: str) -> None:
    with pytest.raises(AuthFailed, match="bad_proof: what answers did not prove") as failed:
        await face(await serve(nursery, service(WRONG[what])), KEY)
    assert failed.value.reason == "bad_proof"
    assert "print-me" not in str(failed.value)


@FACES
@pytest.mark.parametrize(
    ("said", "key", "reason"),
    [
        (greeting("none"), KEY, "not_offered"),
        (etf.frame((Atom("gen_driver"), 1, {})), KEY, "not_offered"),
        (greeting("none") + WELCOMED, KEY, "not_offered"),
        (greeting("hmac"), None, "key_needed"),
        (greeting("hmac") + WELCOMED, None, "key_needed"),
        (greeting("password"), None, "unknown_method"),
        (greeting("password"), KEY, "unknown_method"),
    ],
    ids=[
        "none",
        "no_word_of_it",
        "none_and_welcomed",
        "hmac",
        "hmac_and_welcomed",
        "password",
        "password_with_a_key",
    ],
)
async def test_nothing_is_said_to_a_service_that_asks_for_something_else(
    nursery: trio.Nursery, face: Face, said: bytes, key: tuple[str, bytes] | None, reason: str
) -> None:
    heard: list[Any] = []

    async def script(s: Session) -> None:
        await s.stream.send_all(said)
        heard.append(await s.receive())

    url = await serve(nursery, script)
    with pytest.raises(AuthFailed) as failed:
        await face(url, key)
    assert failed.value.reason == reason
    while not heard:
        await trio.lowlevel.checkpoint()
    assert heard == [None]


def test_a_welcome_in_the_same_breath_as_the_greeting_is_no_welcome() -> None:
    """A receiver that is read ahead of what was sent must not take one that nobody has proved."""
    greeted = greeting()
    receiver = Receiver(instance="fake", key=auth.Key(*KEY))
    events: list[Event] = []
    with pytest.raises(AuthFailed, match="bad_proof"):
        events.extend(receiver.receive(greeted + WELCOMED + auth.proof_frame(bytes(32)) + WELCOMED))
    assert [type(event) for event in events] == [Greeted]
    with pytest.raises(ProtocolError):  # nor a proof before the welcome
        list(Receiver(instance="fake", key=auth.Key(*KEY)).receive(greeted + auth.proof_frame(bytes(32)) + WELCOMED))


def test_a_hello_with_a_key_is_never_the_same() -> None:
    greeted = greeting()
    hellos = set()
    for _ in range(100):
        event = next(Receiver(instance="fake", key=auth.Key(*KEY)).receive(greeted))
        assert isinstance(event, Greeted)
        hellos.add(event.reply)
    assert len(hellos) == 100


async def test_a_client_that_connects_anew_trusts_no_more_than_before(nursery: trio.Nursery) -> None:
    async def first(s: Session) -> None:
        await service(right)(s)

    async def stranger(s: Session) -> None:
        await s.welcome()

    url = await serve(nursery, first, stranger, service(right))
    async with open_client(url, "fake", key=KEY) as client:
        assert await client.call("add", 1) == (Atom("ok"), 1)
        with pytest.raises(Failed, match="disconnected"):
            await client.call("add", 2)
        with pytest.raises(Failed, match="unavailable") as failed:
            await client.call("add", 3)
        assert isinstance(failed.value.__cause__, AuthFailed)


@pytest.mark.parametrize("key", [("", SECRET), ("anna", b"short"), ("n" * 65, SECRET)])
async def test_what_is_no_key_is_a_mistake_of_the_caller(key: tuple[str, bytes]) -> None:
    with pytest.raises(ValueError, match="a key"):
        connect("tcp://127.0.0.1:1", "fake", key=key)
    with pytest.raises(ValueError, match="a key"):
        async with open_client("tcp://127.0.0.1:1", "fake", key=key):
            pass
