# SPDX-License-Identifier: MIT
"""The short cut for small plain terms says what the long way says, or nothing."""

from __future__ import annotations

import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gendriverd import etf, etf_quick
from gendriverd.etf import Atom, BitString, EtfError, Limits, Term

PLAIN = st.recursive(
    st.integers(-(1 << 31), (1 << 31) - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.binary()
    | st.booleans()
    | st.none()
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=60).map(Atom)
    | st.lists(st.integers(0, 255)),
    lambda inner: st.lists(inner, max_size=4) | st.lists(inner, max_size=4).map(tuple),
    max_leaves=12,
)
CALL = bytes.fromhex("8368047704" + "63616c6c" + "61006101" + "6b000401020304")


def exactly(term: Term) -> object:
    """With what == does not tell: 1 from True and 1.0, an atom from its name."""
    inside = [exactly(item) for item in term] if isinstance(term, (list, tuple)) else struct_of(term)
    return type(term), inside


def struct_of(term: Term) -> object:
    return struct.pack(">d", term) if isinstance(term, float) else term


def the_long_way(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(etf_quick, "decode", lambda _data: None)
    monkeypatch.setattr(etf_quick, "encode", lambda _term: None)
    return monkeypatch


def encoded(term: Term) -> bytes:
    with pytest.MonkeyPatch.context() as patch:
        the_long_way(patch)
        return etf.encode(term)


def decoded(data: bytes) -> tuple[Term] | None:
    """As the long way has it. None: it is refused."""
    with pytest.MonkeyPatch.context() as patch:
        the_long_way(patch)
        try:
            return (etf.decode(data),)
        except EtfError:
            return None


def agrees(data: bytes) -> None:
    if (quick := etf_quick.decode(data)) is not None:
        slow = decoded(data)
        assert slow is not None
        assert exactly(quick[0]) == exactly(slow[0])


@given(PLAIN)
@example([True, 1])
@example([1.0])
@example(Atom("true"))
@example([*range(256), 256])
@example("text")
@example(-0.0)
def test_it_writes_the_same_bytes(term: Term) -> None:
    quick = etf_quick.encode(term)
    assert quick is None or quick == encoded(term)


@given(PLAIN)
@example(Atom("undefined"))
@example([[], [[]], ()])
def test_it_reads_the_same_values(term: Term) -> None:
    agrees(encoded(term))


@given(PLAIN, st.data())
def test_of_a_damaged_term_it_says_nothing_else_than_the_long_way(term: Term, data: st.DataObject) -> None:
    damaged = bytearray(encoded(term))
    damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    agrees(bytes(damaged[: data.draw(st.integers(0, len(damaged)))]))
    agrees(bytes(damaged))


@given(st.lists(st.sampled_from([0, 1, 2, 70, 97, 98, 104, 106, 107, 108, 109, 119, 255]), max_size=40).map(bytes))
def test_of_any_bytes_it_says_nothing_else_than_the_long_way(data: bytes) -> None:
    agrees(b"\x83" + data)


def test_requests_and_replies_go_the_short_way() -> None:
    assert etf_quick.encode((Atom("call"), 0, 1, [1, 2, 3, 4])) == CALL
    assert etf_quick.decode(CALL) == ((Atom("call"), 0, 1, [1, 2, 3, 4]),)
    assert etf_quick.decode(etf.encode((Atom("reply"), 7, (Atom("ok"), 10.0)))) == (
        (Atom("reply"), 7, (Atom("ok"), 10.0)),
    )


@pytest.mark.parametrize(
    "term",
    [1 << 31, float("nan"), BitString(b"\xe0", 3), {}, Atom("x" * 256), "\ud800", object(), tuple([0] * 256)],
    ids=["long integer", "no number", "bits", "map", "long atom", "no text", "no term", "long tuple"],
)
def test_what_is_not_plain_is_left_to_the_long_way(term: object) -> None:
    assert etf_quick.encode(term) is None
    assert etf_quick.encode([(term,)]) is None


def test_depth_and_size_have_an_end() -> None:
    deep: Term = 0
    for _ in range(etf_quick.DEPTH):
        deep = (deep,)
    assert etf_quick.decode(etf.encode(deep)) == (deep,)
    assert etf_quick.encode((deep,)) is None
    assert etf_quick.decode(encoded((deep,))) is None
    assert etf_quick.decode(etf.encode(bytes(etf_quick.SIZE))) is None


@pytest.mark.parametrize("limits", [Limits(depth=1), Limits(terms=2)], ids=["depth", "terms"])
def test_a_callers_tighter_budget_holds_for_plain_terms(limits: Limits) -> None:
    with pytest.raises(EtfError):
        etf.decode(etf.encode(((1, 2), 3)), limits)
