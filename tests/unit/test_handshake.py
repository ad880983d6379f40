# SPDX-License-Identifier: MIT
"""The handshake without sockets: what a hello is, what a greeting holds; and reading a frame and not a byte more."""

from __future__ import annotations

import contextlib
import os
import socket
import threading

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from gendriverd import etf
from gendriverd.errors import ClientGone, HandshakeRefused
from gendriverd.etf import Atom
from gendriverd.farewell import say_last
from gendriverd.handshake import Hello, greeting, parse_hello, read_frame


def reason(data: bytes) -> str:
    with pytest.raises(HandshakeRefused) as refused:
        parse_hello(data)
    return refused.value.reason


def test_a_greeting_is_what_the_protocol_says_and_never_the_same() -> None:
    term = etf.decode(greeting("none")[4:])
    assert term[:2] == ("gen_driver", 1)
    assert len(term[2]["nonce"]) == 32
    assert term[2]["auth"] == "none"
    assert etf.decode(greeting("hmac")[4:])[2]["auth"] == "hmac"
    assert greeting("hmac") != greeting("hmac")


def test_a_hello_names_its_instance() -> None:
    assert parse_hello(etf.encode((Atom("hello"), 1, b"sum", {}))) == Hello("sum", "", b"")


def test_keys_that_nobody_knows_are_ignored() -> None:
    assert parse_hello(etf.encode((Atom("hello"), 1, b"sum", {Atom("later"): [1, 2, {b"x": 1.5}]}))).instance == "sum"


@pytest.mark.parametrize(("version", "shape"), [(0, (b"sum", {})), (2, (b"sum", {}, 1)), (2, ())])
def test_another_version_is_told_so_whatever_its_hello_looks_like(version: int, shape: tuple[object, ...]) -> None:
    assert reason(etf.encode((Atom("hello"), version, *shape))) == "bad_version"


@pytest.mark.parametrize(
    "term",
    [
        Atom("hello"),
        (),
        (Atom("hello"),),
        (b"hello", 1, b"sum", {}),
        (Atom("hallo"), 1, b"sum", {}),
        (Atom("hello"), True, b"sum", {}),
        (Atom("hello"), 1, Atom("sum"), {}),
        (Atom("hello"), 1, b"sum", []),
        (Atom("hello"), 1, b"sum", {}, 1),
        (Atom("hello"), 1, b"sum", {Atom("x"): 1 << 1000}),
    ],
)
def test_what_is_no_hello_is_refused_as_such(term: object) -> None:
    assert reason(etf.encode(term)) == "bad_hello"


@given(st.binary(max_size=200).map(lambda data: b"\x83" + data))
def test_no_bytes_raise_anything_but_a_refusal(data: bytes) -> None:
    with contextlib.suppress(HandshakeRefused):
        parse_hello(data)


async def test_what_follows_a_frame_stays_in_the_socket() -> None:
    ours, theirs = trio.socket.socketpair()
    with ours, theirs:
        await theirs.send(b"\0\0\0\2hixyz")
        assert await read_frame(ours) == b"\0\0\0\2hi"
        assert await ours.recv(100) == b"xyz"


@pytest.mark.parametrize("head", [b"\0\0\0\0", b"\0\0\x10\x01", b"\xff\xff\xff\xff", b"GET "])
async def test_a_length_that_no_hello_has_is_refused_before_it_is_read(head: bytes) -> None:
    ours, theirs = trio.socket.socketpair()
    with ours, theirs:
        await theirs.send(head)
        with pytest.raises(HandshakeRefused, match="bad_hello"):
            await read_frame(ours)


@pytest.mark.parametrize("part", [b"", b"\0\0", b"\0\0\0\x09half"])
async def test_a_client_that_leaves_in_between_is_gone(part: bytes) -> None:
    ours, theirs = trio.socket.socketpair()
    with ours, theirs:
        if part:
            await theirs.send(part)
        theirs.close()
        with pytest.raises(ClientGone):
            await read_frame(ours)


async def test_the_last_word_waits_for_the_clients_end_but_not_for_ever(autojump_clock: object) -> None:
    ours, theirs = trio.socket.socketpair()
    with ours, theirs:
        began = trio.current_time()
        await say_last(ours, b"bye")
        assert trio.current_time() - began == pytest.approx(2.0)
        assert await theirs.recv(100) == b"bye"
        assert await theirs.recv(100) == b""


def test_a_socket_that_somebody_has_set_to_block_blocks_no_more_than_its_client() -> None:
    """Whoever has the same socket may: the front, or a host that has refused it."""
    ours, theirs = socket.socketpair()

    async def read() -> None:
        with trio.socket.from_stdlib_socket(theirs) as client:
            os.set_blocking(theirs.fileno(), True)
            with trio.move_on_after(0.05):
                await read_frame(client)

    thread = threading.Thread(target=trio.run, args=(read,), daemon=True)
    thread.start()
    thread.join(10)
    blocked = thread.is_alive()
    ours.close()  # lets it go
    thread.join()
    assert not blocked
