# SPDX-License-Identifier: MIT
"""Terms to bytes and back, and the guard before erlang-py."""

from __future__ import annotations

import contextlib
import inspect
import struct
import sys
import time
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

import erlang
from gendriverd import etf
from gendriverd.etf import Atom, BitString, EtfError, ImproperList, Limits, Opaque

OTP25_CALL = bytes.fromhex("8368046400046361" + "6c6c" + "61006101" + "6b000401020304")

LEAVES = (
    st.integers(-(1 << 300), 1 << 300)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.binary()
    | st.booleans()
    | st.none()
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=60).map(Atom)
    | st.just(BitString(b"\xff\xe0", 3))
)
# Keys that Python tells apart as Erlang does.
KEYS = st.integers(2) | st.binary() | st.tuples(st.binary(), st.integers(2))
TERMS = st.recursive(
    LEAVES,
    lambda t: (
        st.lists(t)
        | st.lists(t).map(tuple)
        | st.dictionaries(KEYS, t)
        | st.builds(ImproperList, st.lists(t, min_size=1).map(tuple), st.integers() | st.binary())
    ),
    max_leaves=30,
)


def settled(term: object) -> object:
    """The atoms that are Python's own."""
    names = {"true": True, "false": False, "undefined": None}
    match term:
        case Atom() if term in names:
            return names[term]
        case list():
            return [settled(item) for item in term]
        case tuple():
            return tuple(settled(item) for item in term)
        case dict():
            return {key: settled(value) for key, value in term.items()}
        case ImproperList(elements, tail):
            return ImproperList(tuple(settled(item) for item in elements), tail)
    return term


@given(TERMS)
def test_what_is_encoded_is_decoded_again(term: object) -> None:
    assert etf.decode(etf.encode(term)) == settled(term)


@pytest.mark.parametrize("term", [[1, 2, 3], [], [0] * 65536, b"", (), {}, True, None, -0.0, 1 << 64])
def test_the_types_stay_apart(term: object) -> None:
    decoded = etf.decode(etf.encode(term))
    assert decoded == term
    assert type(decoded) is type(term)


def test_both_wire_forms_of_an_atom_are_one() -> None:
    assert etf.decode(b"\x83d\x00\x02ok") == etf.decode(b"\x83w\x02ok") == Atom("ok")
    assert etf.decode(OTP25_CALL) == (Atom("call"), 0, 1, [1, 2, 3, 4])


@pytest.mark.parametrize(
    "data",
    [
        b"\x83X" + b"w\x0dnonode@nohost" + bytes(12),
        b"\x83Z\x00\x03w\x0dnonode@nohost" + bytes(16),
        b"\x83x" + b"w\x0dnonode@nohost" + bytes(12),
        b"\x83qw\x05listsw\x03mapa\x02",
    ],
)
def test_what_only_erlang_understands_goes_back_as_it_came(data: bytes) -> None:
    term = etf.decode(data)
    assert isinstance(term, Opaque)
    assert etf.encode([term, 1000]) == b"\x83l\0\0\0\2" + data[1:] + b"b\0\0\3\xe8j"


@pytest.mark.parametrize(
    ("data", "term"),
    [
        (b"\x83l\0\0\0\1a\1l\0\0\0\1a\2j", [1, 2]),  # as ei writes lists element by element
        (b"\x83l\0\0\0\1a\1k\0\2\2\3", [1, 2, 3]),
        (b"\x83l\0\0\0\1a\1l\0\0\0\1a\2a\3", ImproperList((1, 2), 3)),
        (b"\x83M\0\0\0\2\3\xff\xff", BitString(b"\xff\xe0", 3)),  # bits that do not count
        (b"\x83M\0\0\0\1\x08x", b"x"),
    ],
)
def test_equal_terms_are_equal_values(data: bytes, term: object) -> None:
    assert etf.decode(data) == term


def test_terms_are_counted_as_they_are_announced() -> None:
    """As in the host: so both refuse the same, and for the same reason, though something worse comes later."""
    data = b"\x83h\2h\2a\1a\1h\2a\1a\1"
    assert etf.decode(data, Limits(terms=7)) == ((1, 1), (1, 1))
    for damaged in (data, data[:-2] + b"P\1"):
        with pytest.raises(EtfError) as refused:
            etf.decode(damaged, Limits(terms=6))
        assert refused.value.reason == "too_many_terms"


def fun(*free: bytes) -> bytes:
    """A NEW_FUN with these terms in it."""
    rest = bytes(21) + struct.pack(">I", len(free)) + b"w\1ma\0a\0Xw\1n" + bytes(12) + b"".join(free)
    return b"p" + struct.pack(">I", 4 + len(rest)) + rest


def test_maps_and_lists_in_a_fun_go_back_as_they_came() -> None:
    inner = fun(b"t\0\0\0\1a\1j", b"l\0\0\0\1a\1l\0\0\0\1a\2j", fun(b"t\0\0\0\0"))
    data = b"\x83h\3" + inner + b"t\0\0\0\1" + inner + b"j" + b"t\0\0\0\0"
    assert etf.decode(data) == (Opaque(inner), {Opaque(inner): []}, {})
    assert etf.encode(etf.decode(data)) == data


M = (1 << 61) - 1  # Python's hash of an integer is its remainder
POWERS = [2.0 ** (61 * n) for n in range(-16, 17)]  # of one hash


@pytest.mark.parametrize(
    "keys",
    [
        [M * n for n in range(257)],
        [(M * n,) for n in range(257)],
        [((-1, M * n), b"a") for n in range(257)],
        [(one, two) for one in POWERS for two in POWERS][:257],
        [ImproperList((M * n,), 1) for n in range(257)],
    ],
    ids=["integers", "tuples", "nested", "floats", "improper"],
)
def test_of_one_hash_a_map_has_256_keys_and_no_more(keys: list[object]) -> None:
    assert len({hash(key) for key in keys}) == 1
    others = dict.fromkeys(range(1, 1000))
    few = dict.fromkeys(keys[1:]) | others
    assert etf.decode(etf.encode(few)) == few
    for many in (dict.fromkeys(keys) | others, [({1: dict.fromkeys(keys)},)]):
        with pytest.raises(EtfError, match="more than 256 keys of the same hash") as refused:
            etf.decode(etf.encode(many))
        assert refused.value.reason == "not_representable"


def test_no_dict_is_made_of_keys_that_were_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []

    def spied(data: bytes) -> object:
        seen.append(binary_to_term(data))
        return seen[-1]

    binary_to_term = erlang.binary_to_term
    monkeypatch.setattr(erlang, "binary_to_term", spied)
    assert etf.decode(etf.encode({1: {2: []}})) == {1: {2: []}}
    (whole,) = seen
    assert isinstance(whole, tuple)
    assert isinstance(whole[2], tuple)


NESTED = b"\x83" + b"l\0\0\0\1" * 129 + b"j" * 130


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "bad_term"),
        (b"\x82a\1", "bad_term"),
        (b"\x83", "bad_term"),
        (b"\x83\x01", "bad_term"),
        (b"\x83a\1a", "trailing_bytes"),
        (b"\x83P\0\0\0\2" + zlib.compress(b"a\1"), "compressed"),
        (b"\x83h\1P\0\0\0\2" + zlib.compress(b"a\1"), "compressed"),
        (b"\x83p\0\0\1\0" + bytes(24) + b"\1w\1ma\0a\0Xw\1n" + bytes(12) + b"P", "bad_term"),  # a fun that is cut off
        (b"\x83m\xff\xff\xff\xffabc", "bad_term"),
        (b"\x83i\xff\xff\xff\xff", "bad_term"),
        (b"\x83l\xff\xff\xff\xffj", "bad_term"),
        (b"\x83t\x7f\xff\xff\xff", "bad_term"),
        (NESTED, "too_deep"),
        (b"\x83o" + struct.pack(">I", 4097) + bytes(4098), "bignum_too_large"),
        (b"\x83F\x7f\xf0\0\0\0\0\0\0", "bad_term"),
        (b"\x83F\x7f\xf8\0\0\0\0\0\0", "bad_term"),
        (b"\x83n\1\7\1", "bad_term"),
        (b"\x83M\0\0\0\1\x09\0", "bad_term"),
        (b"\x83w\2\xff\xff", "bad_term"),
        (b"\x83v\4\0" + b"a" * 1024, "bad_term"),
        (b"\x83l\0\0\0\0j", "bad_term"),
        (b"\x83t\0\0\0\2a\1jF?\xf0\0\0\0\0\0\0j", "not_representable"),  # #{1 => [], 1.0 => []}
        (b"\x83t\0\0\0\1l\0\0\0\1b\0\0\1\0jj", "not_representable"),  # #{[256] => []}
    ],
)
def test_what_is_no_term_is_refused_with_its_reason(data: bytes, reason: str) -> None:
    with pytest.raises(EtfError) as refused:
        etf.decode(data)
    assert refused.value.reason == reason


def test_the_budgets_are_the_callers() -> None:
    data = etf.encode([[1000], 1 << 80])
    assert etf.decode(data) == [[1000], 1 << 80]
    for limits, reason in (
        (Limits(depth=1), "too_deep"),
        (Limits(terms=3), "too_many_terms"),
        (Limits(bignum=10), "bignum_too_large"),
    ):
        with pytest.raises(EtfError) as refused:
            etf.decode(data, limits)
        assert refused.value.reason == reason


@pytest.mark.parametrize(
    ("term", "culprit"),
    [
        (float("nan"), "nan is no Erlang term"),
        (float("inf"), "inf is no Erlang term"),
        ({1, 2}, "a set is no Erlang term"),
        (Atom("a" * 256), "an atom of 256 characters"),
        (Atom("\ud800"), "an atom that is not UTF-8"),
        ("\ud800", "text that is not UTF-8"),
        (ImproperList((), 1), "at least one element"),
        (BitString(b"", 3), "1 to 7 bits"),
        (BitString(b"a", 8), "1 to 7 bits"),
        (Opaque(b""), "cut off"),
        (Opaque(b"P"), "compressed"),
    ],
)
def test_what_is_no_term_cannot_be_encoded_and_is_named(term: object, culprit: str) -> None:
    with pytest.raises(EtfError, match=culprit):
        etf.encode([term])


@pytest.mark.parametrize(
    "term",
    [{"a": 1, b"a": 2}, {True: 1, Atom("true"): 2}, {None: 1, Atom("undefined"): 2}],
    ids=["text", "bool", "none"],
)
def test_two_keys_that_are_one_in_erlang_are_no_map(term: object) -> None:
    with pytest.raises(EtfError, match="two keys"):
        etf.encode(term)


def test_nesting_beyond_reason_is_an_error_and_no_recursion() -> None:
    term: list[object] = []
    for _ in range(100_000):
        term = [term]
    with pytest.raises(EtfError) as refused:
        etf.encode(term)
    assert refused.value.reason == "too_deep"
    while term:  # or its destructor recurses
        term = term.pop()  # type: ignore[assignment]


def test_a_list_written_cons_by_cons_is_one_list_however_long() -> None:
    conses = b"".join(b"l\0\0\0\1b" + struct.pack(">i", n) for n in range(100_000))
    assert etf.decode(b"\x83" + conses + b"j") == list(range(100_000))
    assert etf.decode(b"\x83h\2" + conses + b"k\0\2ab" + b"a\7") == ([*range(100_000), 97, 98], 7)
    assert etf.decode(b"\x83" + conses + b"a\7") == ImproperList(tuple(range(100_000)), 7)
    inner = b"l\0\0\0\1a\1l\0\0\0\2a\2a\3j"
    assert etf.decode(b"\x83l\0\0\0\1" + inner + b"l\0\0\0\1" + inner + b"j") == [[1, 2, 3], [1, 2, 3]]
    assert etf.decode(b"\x83l\0\0\0\1" + inner + inner) == [[1, 2, 3], 1, 2, 3]


def test_a_stack_that_is_nearly_used_up_is_an_error_and_no_recursion() -> None:
    term: object = []
    for _ in range(120):
        term = {b"": [term]}
    data = etf.encode([[]])[:-1] + b"j"
    nested = b"\x83" + b"l\0\0\0\1" * 120 + b"j" * 121

    def beneath(frames: int) -> None:
        if frames:
            beneath(frames - 1)
            return
        assert etf.decode(data) == [[]]
        for work in (lambda: etf.encode(term), lambda: etf.decode(nested)):
            with pytest.raises(EtfError) as refused:
                work()
            assert refused.value.reason == "too_deep"

    beneath(sys.getrecursionlimit() - len(inspect.stack(0)) - 80)


def test_a_long_integer_costs_no_time_to_encode() -> None:
    for number in (1 << 31, -(1 << 31) - 1, (1 << 2040) - 1, 1 << 2040, -(1 << 32000)):
        assert etf.decode(etf.encode(number)) == number
    began = time.process_time()
    etf.encode(1 << (8 << 20))  # quadratic: minutes
    assert time.process_time() - began < 10


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    with contextlib.suppress(EtfError):
        etf.decode(b"\x83" + data)


@given(TERMS, st.data())
def test_no_damaged_term_raises_anything_else(term: object, data: st.DataObject) -> None:
    damaged = bytearray(etf.encode(term))
    damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(EtfError):
        etf.decode(bytes(damaged))
