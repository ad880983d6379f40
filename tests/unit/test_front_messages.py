# SPDX-License-Identifier: MIT
"""What a front may say is a closed set: everything else is BadMessage, and nothing is another exception."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gendriverd.errors import BadMessage
from gendriverd.etf import Atom
from gendriverd.front_messages import (
    FrontClient,
    FrontMessage,
    FrontPong,
    FrontReady,
    FrontRefused,
    FrontRenewed,
    parse_front,
)
from gendriverd.quantities import Address

A = Atom
HELD = {A("landlock"): 7, A("seccomp"): 1}
HOST = Address("127.0.0.1", 5, "")
TAGS = ["ready", "pong", "client", "refused", "landlock", "seccomp", "none", "renewed", "x"]
TERMS = st.recursive(
    st.integers() | st.binary() | st.booleans() | st.floats() | st.none() | st.sampled_from(TAGS).map(Atom),
    lambda inner: st.lists(inner) | st.dictionaries(st.binary() | st.sampled_from(TAGS).map(Atom), inner),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ((A("ready"), HELD), FrontReady(7, 1)),
        ((A("client"), b"127.0.0.1", 5, A("none")), FrontClient(HOST, None)),
        ((A("client"), b"127.0.0.1", 5, []), FrontClient(HOST, ())),
        ((A("client"), b"fe80::1%eth0", 5, [b"CN=anna"]), FrontClient(Address("fe80::1%eth0", 5, ""), ("CN=anna",))),
        ((A("refused"), b"127.0.0.1", 5, b"why"), FrontRefused(HOST, "why")),
        ((A("renewed"),), FrontRenewed()),
        ((A("pong"), 7), FrontPong(7)),
    ],
)
def test_a_message_is_understood(said: tuple[object, ...], meant: FrontMessage) -> None:
    assert parse_front(said) == meant


@pytest.mark.parametrize(
    "said",
    [
        5,
        (),
        (A("ready"),),
        (A("ready"), {}),
        (A("ready"), {**HELD, A("seccomp"): -1}),
        (A("client"), b"localhost", 5, A("none")),
        (A("client"), b"127.0.0.1", 65536, A("none")),
        (A("client"), b"127.0.0.1", True, A("none")),
        (A("client"), b"127.0.0.1", 5, A("nobody")),
        (A("client"), b"127.0.0.1", 5, [b"x"] * 33),
        (A("client"), b"127.0.0.1", 5, [b"x" * 256]),
        (A("client"), b"127.0.0.1", 5, [b"\xff"]),
        (A("client"), b"127.0.0.1", 5, [b"a\0b"]),
        (A("refused"), b"127.0.0.1", 5, A("why")),
        (A("adopted"), 1),
    ],
)
def test_all_else_is_none(said: object) -> None:
    with pytest.raises(BadMessage):
        parse_front(said)


@given(st.tuples(st.sampled_from(TAGS).map(Atom), TERMS) | st.tuples(st.sampled_from(TAGS).map(Atom), *[TERMS] * 3))
def test_nothing_is_another_exception(said: tuple[object, ...]) -> None:
    with contextlib.suppress(BadMessage):
        parse_front(said)
