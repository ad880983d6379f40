# SPDX-License-Identifier: MIT
"""Handshakes over a socket with an instance that is played: who must prove what, and what a host is told of it."""

from __future__ import annotations

import os
import socket
from typing import Any

import pytest
import trio

from gendriverd import etf
from gendriverd.auth import Grant, Key, Keyring
from gendriverd.client.introduction import Introduction
from gendriverd.client_lines import ClientLines
from gendriverd.connections import Handover
from gendriverd.errors import HandshakeRefused
from gendriverd.etf import Atom
from gendriverd.handshake import Certified, Handshakes
from gendriverd.messages import Ready
from gendriverd.permissions import Permissions
from gendriverd.schema import DaemonConfig
from gendriverd.sources import Epoch, Peer, of_address, of_nobody, of_user

KNOWN = {"sum": 1, "mean": 2}
WELCOME = etf.frame((Atom("welcome"), 1, {}))
ANNA = Key("anna", b"a" * 32)
GRANTS = [
    Grant("anna", (ANNA,), frozenset({"anna.example"}), frozenset({"mean", 9})),
    Grant("bert", (), frozenset({"urn:x:bert"}), instances={"echo": None}),
]
REMOTE = of_address("192.0.2.1", 4711)
AUTH = (Atom("refused"), Atom("auth"))
BUSY = (Atom("refused"), Atom("busy"))


class Lines:
    def __init__(self) -> None:
        self.said: list[dict[str, Any]] = []

    def __getattr__(self, level: str) -> Any:
        return lambda event, **about: self.said.append({"event": event, "level": level, **about})


class Played:
    """Supervisor, instance and host in one: it takes whoever is passed, and keeps what it was told."""

    def __init__(self) -> None:
        self.name = "sum"
        self.ready = Ready(1, KNOWN, [], "")
        self.permissions = Permissions(KNOWN, self.log())
        self.welcome = WELCOME
        self.told: list[tuple[bytes, list[int] | None]] = []
        self.up = trio.Event()
        self.up.set()
        self.asked = trio.Event()  # somebody waits for it

    def log(self) -> Any:
        self.lines = Lines()
        return self.lines

    def find(self, name: str) -> Played:
        if name != self.name:
            raise HandshakeRefused("unknown_instance")
        return self

    async def wait_ready(self) -> Played:
        self.asked.set()
        await self.up.wait()
        return self

    async def offer(
        self, peer: str, lines: ClientLines, welcome: bytes, allowed: Any, client: int, limit: float
    ) -> Handover:
        self.told.append((welcome, allowed))
        with socket.socket(fileno=os.dup(client)) as passed:
            passed.sendall(welcome)
        return Handover.ADOPTED


class Door:
    def __init__(self, *, keys: bool = True, users: frozenset[int] | None = None, **settings: object) -> None:
        self.played = Played()
        self.keys: Any = type("Keys", (), {"ring": Keyring(GRANTS) if keys else None})()
        supervisor: Any = self.played
        log: Any = self.played.lines
        self.handshakes = Handshakes(supervisor, DaemonConfig.model_validate(settings), users, self.keys, log)

    async def hear(
        self, say: bytes = b"", peer: Peer = REMOTE, certified: Certified = None, key: Key | None = None
    ) -> list[Any]:
        """What one client hears to its end, who says `say`, or with a key what proves it."""
        ours, theirs = trio.socket.socketpair()
        heard = b""
        with ours:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.handshakes.serve, theirs, peer, certified)
                while chunk := await ours.recv(65536):
                    heard += chunk
                    if key is not None:
                        say, key = Introduction("sum", key).greeted(heard, etf.decode(heard[4:])[2]), None
                    if say:
                        await ours.send(say)
                        say = b""
                        ours.shutdown(socket.SHUT_WR)
        return frames(heard)

    @property
    def whys(self) -> list[str]:
        return [line.get("why", "") for line in self.played.lines.said if line["event"] == "client_refused"]


def frames(data: bytes) -> list[Any]:
    found = []
    while data:
        end = 4 + int.from_bytes(data[:4], "big")
        found.append(etf.decode(data[4:end]))
        data = data[end:]
    return found


def hello(instance: str = "sum", **about: bytes) -> bytes:
    return etf.frame((Atom("hello"), 1, instance.encode(), {Atom(key): value for key, value in about.items()}))


async def test_who_proves_a_key_gets_what_it_opens_and_its_host_is_told() -> None:
    door = Door(auth="hmac")
    greeted, welcomed, proved = await door.hear(key=ANNA)
    assert (greeted[2]["auth"], welcomed[0], proved[0]) == ("hmac", "welcome", "proof")
    assert [allowed for _, allowed in door.played.told] == [[2, 9]]


async def test_a_certificate_of_a_key_opens_the_same_without_a_proof() -> None:
    door = Door(auth="hmac")
    greeted, welcomed = await door.hear(hello(), certified=("CN", "anna.example"))
    assert (greeted[2]["auth"], welcomed[0]) == ("none", "welcome")
    assert door.played.told == [(WELCOME, [2, 9])]
    assert {"event": "client_authenticated", "key": "anna"}.items() <= door.played.lines.said[-1].items()


@pytest.mark.parametrize(
    ("names", "why"),
    [
        ((), "a certificate of no key"),
        (("anna",), "a certificate of no key"),
        (("carl.example", "ANNA.example"), "a certificate of no key"),
        (("urn:x:bert",), "a key that does not open this instance"),
    ],
)
async def test_a_certificate_that_opens_nothing_here_is_refused(names: tuple[str, ...], why: str) -> None:
    door = Door(auth="hmac")
    assert (await door.hear(hello(), certified=names))[1:] == [AUTH]
    assert door.whys == [why]
    assert door.played.told == []


async def test_a_certificate_of_no_key_is_not_saved_by_a_right_proof() -> None:
    door = Door(auth="hmac")
    said = hello(key=b"anna", nonce=bytes(32))
    assert (await door.hear(said, certified=("carl.example",)))[1:] == [AUTH]


async def test_where_nothing_is_asked_for_everybody_may_ask_for_everything() -> None:
    door = Door(keys=False)
    for certified in (None, ("carl.example",)):
        greeted, welcomed = await door.hear(hello(), certified=certified)
        assert (greeted[2]["auth"], welcomed[0]) == ("none", "welcome")
    assert door.played.told == [(WELCOME, None)] * 2


async def test_a_user_who_is_not_named_is_refused_before_a_byte_is_read() -> None:
    door = Door(keys=False, users=frozenset({0, 1000}))
    assert (await door.hear(peer=of_user(1, 1001)))[1:] == [AUTH]  # it has said nothing
    assert door.whys == ["a user who is not in unix_users"]
    for peer in (of_user(1, 1000), of_user(1, 0), REMOTE):
        assert (await door.hear(hello(), peer))[1][0] == "welcome"


async def test_a_failure_behind_a_certificate_counts_too() -> None:
    door = Door(auth="hmac", penalty_after=2)
    for _ in range(2):
        await door.hear(hello(), certified=("carl.example",))
    assert await door.hear(hello(), certified=("anna.example",)) == []
    assert await door.hear(hello(), of_address("192.0.2.2", 1), ("anna.example",)) != []


async def test_whom_a_stop_cuts_short_has_not_failed() -> None:
    door = Door(keys=False, penalty_after=1)
    ours, theirs = trio.socket.socketpair()
    with ours:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(door.handshakes.serve, theirs, REMOTE)
            assert await ours.recv(4096)
            nursery.start_soon(door.handshakes.stop)
            assert frames(await ours.recv(4096)) == [(Atom("refused"), Atom("draining"))]
            ours.close()
    assert not [line for line in door.played.lines.said if line["event"] == "source_penalised"]


@pytest.mark.parametrize("said", [b"", hello()[:7]])
async def test_who_has_left_behind_a_front_has_not_failed_as_the_front_may_have_died(said: bytes) -> None:
    door = Door(keys=False, penalty_after=1)
    for peer, penalised in ((REMOTE._replace(epoch=Epoch()), False), (REMOTE, True)):
        ours, theirs = trio.socket.socketpair()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(door.handshakes.serve, theirs, peer)
            assert await ours.recv(4096)
            if said:
                await ours.send(said)
            ours.close()
        assert any(line["event"] == "source_penalised" for line in door.played.lines.said) == penalised


async def test_of_those_who_are_refused_no_more_are_waited_for_than_handshakes_are_let_in(
    autojump_clock: object,
) -> None:
    """They hear why, and do not leave: whoever is one too many has its descriptor closed."""
    door = Door(keys=False, handshake_pending=3)
    held: list[trio.socket.SocketType] = []
    async with trio.open_nursery() as nursery:
        for _ in range(8):
            ours, theirs = trio.socket.socketpair()
            held.append(ours)
            nursery.start_soon(door.handshakes.serve, theirs, REMOTE)
            assert frames(await ours.recv(4096))[0][0] == "gen_driver"
            await ours.send(b"\0\0\0\4GET ")
            assert frames(await ours.recv(4096)) == [(Atom("refused"), Atom("bad_hello"))]
            assert await ours.recv(4096) == b""
        assert [await is_open(each) for each in held] == [True] * 3 + [False] * 5
    for each in held:
        each.close()


async def is_open(sock: trio.socket.SocketType) -> bool:
    """The other end is, though it says nothing any more."""
    try:
        await sock.send(b"x")
    except (BrokenPipeError, ConnectionResetError):
        return False
    return True


@pytest.mark.parametrize("shown", ["key", "certificate", "nothing"])
async def test_who_waits_for_an_instance_while_keys_are_taken_away_does_not_come_in(shown: str) -> None:
    door = Door(auth="hmac", keys=shown != "nothing")
    door.played.up = trio.Event()
    key = ANNA if shown == "key" else None
    say = b"" if shown == "key" else hello()
    certified = ("anna.example",) if shown == "certificate" else None
    heard: list[Any] = []

    async def client() -> None:
        heard.extend(await door.hear(say, key=key, certified=certified))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(client)
        await door.played.asked.wait()
        door.keys.ring = Keyring(GRANTS[1:])
        door.played.up.set()
    assert heard[1:] == [AUTH]
    assert door.played.told == []


async def test_a_proof_is_held_against_the_keys_that_are_in_use_when_it_comes() -> None:
    door = Door(auth="hmac")
    ours, theirs = trio.socket.socketpair()
    with ours:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(door.handshakes.serve, theirs, REMOTE)
            greeted = await ours.recv(4096)
            said = Introduction("sum", ANNA).greeted(greeted, etf.decode(greeted[4:])[2])
            door.keys.ring = Keyring(GRANTS[1:])
            await ours.send(said)
            assert frames(await ours.recv(4096)) == [AUTH]
            ours.close()
    assert door.whys == ["unknown key"]


async def test_a_reload_that_changes_nothing_of_a_key_lets_those_in_who_wait() -> None:
    door = Door(auth="hmac")
    door.played.up = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(door.hear, b"", REMOTE, None, ANNA)
        await door.played.asked.wait()
        door.keys.ring = Keyring([*GRANTS])
        door.played.up.set()
    assert [allowed for _, allowed in door.played.told] == [[2, 9]]


async def test_a_user_who_is_not_named_any_more_does_not_come_in() -> None:
    door = Door(keys=False, users=frozenset({1000}))
    door.played.up = trio.Event()
    heard: list[Any] = []

    async def client() -> None:
        heard.extend(await door.hear(hello(), of_user(1, 1000)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(client)
        await door.played.asked.wait()
        door.handshakes.configure(DaemonConfig(), frozenset({0}))
        door.played.up.set()
    assert heard[1:] == [AUTH]


async def test_one_source_does_not_take_all_places_of_those_who_wait_for_an_instance() -> None:
    door = Door(keys=False, handshake_per_source=2)
    door.played.up = trio.Event()
    another = of_address("192.0.2.2", 1)
    heard: list[list[Any]] = []

    async def client(peer: Peer) -> None:
        heard.append(await door.hear(hello(), peer))

    async with trio.open_nursery() as nursery:
        for peer in (REMOTE, REMOTE, another):
            door.played.asked = trio.Event()
            nursery.start_soon(client, peer)
            await door.played.asked.wait()
        await client(REMOTE)
        assert heard.pop()[1:] == [BUSY]
        door.played.up.set()
    assert [said[1][0] for said in heard] == [Atom("welcome")] * 3


async def test_one_source_does_not_take_all_places_of_those_who_are_told_why(autojump_clock: object) -> None:
    door = Door(keys=False, handshake_per_source=2)
    held = []
    async with trio.open_nursery() as nursery:
        for peer in (REMOTE, REMOTE, REMOTE, of_address("192.0.2.2", 1)):
            ours, theirs = trio.socket.socketpair()
            held.append(ours)
            nursery.start_soon(door.handshakes.serve, theirs, peer)
            await ours.recv(4096)
            await ours.send(b"\0\0\0\4GET ")
            assert frames(await ours.recv(4096)) == [(Atom("refused"), Atom("bad_hello"))]
            assert await ours.recv(4096) == b""
        assert [await is_open(each) for each in held] == [True, True, False, True]
    for each in held:
        each.close()


def test_a_user_that_cannot_be_told_is_nobody_who_was_named() -> None:
    assert of_nobody().user not in frozenset({0, 1000})
    assert of_nobody().user is not None
