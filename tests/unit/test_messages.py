# SPDX-License-Identifier: MIT
"""What a host may say is a closed set: everything else is BadMessage, and nothing is another exception."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gendriverd.errors import BadMessage
from gendriverd.etf import Atom
from gendriverd.messages import Adopted, Closed, Drained, LogLine, Pong, Ready, Refuse, Refused, parse

A = Atom
TAGS = ["ready", "refuse", "adopted", "refused", "closed", "log", "drained", "pong", "conn", "x"]
TERMS = st.recursive(
    st.integers() | st.binary() | st.booleans() | st.floats() | st.none() | st.sampled_from(TAGS).map(Atom),
    lambda inner: st.lists(inner) | st.dictionaries(st.binary() | st.sampled_from(TAGS).map(Atom), inner),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        (
            (A("ready"), {A("abi"): 1, A("commands"): {b"sum": 1}, A("atoms"): [b"ok"], A("source"): b"f00"}),
            Ready(1, {"sum": 1}, ["ok"], "f00"),
        ),
        ((A("refuse"), b"no"), Refuse("no")),
        ((A("adopted"), 7), Adopted(7)),
        ((A("refused"), 7, A("too_many")), Refused(7, "too_many")),
        ((A("closed"), 7, A("eof"), {A("calls"): 3}), Closed(7, "eof", {"calls": 3})),
        (
            (A("log"), A("info"), b"driver_log", {A("message"): b"hi", A("n"): 1}),
            LogLine("info", "driver_log", {"message": "hi", "n": 1}),
        ),
        ((A("drained"),), Drained()),
        ((A("pong"), 1), Pong(1)),
    ],
)
def test_each_word_of_the_control_channel_is_understood(said: object, meant: object) -> None:
    assert parse(said) == meant


@pytest.mark.parametrize(
    "said",
    [
        A("drained"),
        (),
        (A("drained"), 1),
        (b"drained",),
        (A("adopted"), -1),
        (A("adopted"), True),
        (A("adopted"), 2**64),
        (A("refused"), 1, A("because")),
        (A("closed"), 1, b"eof", {}),
        (A("log"), A("shout"), b"x", {}),
        (A("log"), A("info"), b"x", {A(f"k{n}"): 1 for n in range(17)}),
        (A("log"), A("info"), b"x", {A("k"): b"x" * 8193}),
        (A("log"), A("info"), b"x", {A(f"k{n}"): b"x" * 600 for n in range(15)}),
        (A("log"), A("info"), b"x" * 65, {}),
        (A("log"), A("info"), b"x", {b"k" * 65: 1}),
        (A("ready"), {A("commands"): {b"c": 2**30}}),
        (A("ready"), {A("commands"): {b"%d" % n: n for n in range(257)}}),
        (A("ready"), {A("atoms"): [b"x" * 250] * 256}),
        (A("ready"), {A("atoms"): b"x"}),
        (A("conn"), 1, b"", b""),
    ],
)
def test_anything_else_is_no_message(said: object) -> None:
    with pytest.raises(BadMessage):
        parse(said)


class Undecodable(bytes):
    """Nobody may spell it out."""

    def decode(self, *_: object) -> str:
        raise AssertionError


@pytest.mark.parametrize(
    "said",
    [
        (A("refuse"), Undecodable(4097)),
        (A("log"), A("info"), Undecodable(65), {}),
        (A("log"), A("info"), b"x", {A("k"): Undecodable(8193)}),
        (A("log"), A("info"), b"x", {A(f"k{n}"): Undecodable(600) for n in range(14)}),
        (A("ready"), {A("commands"): {Undecodable(1021): 1}}),
    ],
)
def test_a_text_that_is_too_long_is_refused_before_it_is_decoded(said: object) -> None:
    with pytest.raises(BadMessage, match="bytes"):
        parse(said)


@given(st.tuples(st.sampled_from(TAGS).map(Atom), TERMS, TERMS, TERMS), st.integers(1, 4))
def test_no_term_raises_anything_but_bad_message(parts: tuple[object, ...], length: int) -> None:
    with contextlib.suppress(BadMessage):
        parse(parts[:length])
