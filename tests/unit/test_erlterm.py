# SPDX-License-Identifier: MIT
"""Erlang's term syntax: what a person types is read, what is printed can be read again."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gendriverd import erlterm
from gendriverd.etf import Atom, BitString, ImproperList

GOOD = {
    "ok": Atom("ok"),
    "'two words'": Atom("two words"),
    r"'it\'s'": Atom("it's"),
    "true": True,
    "undefined": None,
    "42": 42,
    "-7": -7,
    "1_000": 1000,
    "16#ff": 255,
    "-2#101": -5,
    "$a": 97,
    r"$\n": 10,
    "1.5": 1.5,
    "-2.0e3": -2000.0,
    '"abc"': [97, 98, 99],
    r'"a\n\x{e5}"': [97, 10, 229],
    '"ab" "c"': [97, 98, 99],
    "[]": [],
    "[1, 2|[3]]": [1, 2, 3],
    "[1|2]": ImproperList((1,), 2),
    "{}": (),
    "{a,{b}}": (Atom("a"), (Atom("b"),)),
    "#{}": {},
    "#{a => 1, <<1>> => []}": {Atom("a"): 1, b"\1": []},
    "<<>>": b"",
    '<<"abc">>': b"abc",
    '<<"å"/utf8>>': "å".encode(),
    "<<1,2,255>>": b"\x01\x02\xff",
    "<<5:3>>": BitString(b"\xa0", 3),
    "<<1:16>>": b"\x00\x01",
    " % a comment\n ok . ": Atom("ok"),
}


@pytest.mark.parametrize("text", GOOD)
def test_it_reads_what_erlang_reads(text: str) -> None:
    term = erlterm.parse(text)
    assert term == GOOD[text]
    assert type(term) is type(GOOD[text])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "column 1: a term expected, found the end"),
        ("[1,", "column 4: a term expected, found the end"),
        ("{a b}", "column 4: ',' or '}' expected, found 'b'"),
        ("Foo", "column 1: Foo is a variable; an atom is written 'Foo'"),
        ("ok ok", "column 4: the end of the term expected, found 'ok'"),
        ("#{a = 1}", "column 5: '=>' expected"),
        ("<<300:x>>", "column 7: a number of bits"),
        ('<<"å€">>', "column 3: characters beyond 255 need /utf8"),
        ("99#1", "column 1: 99#1 is no number of base 2 to 36"),
        ("1.0e999", "column 1: 1.0e999 is too large for a float"),
        ("#{[1] => 2}", "column 3: a list or map cannot be a key here"),
        ("'open", "column 1: a term expected, found"),
        ("[" * 200, "column 129: nested deeper than 128"),
        ("\x00", "column 1: a term expected"),
    ],
)
def test_a_malformed_term_gets_one_sentence_with_its_column(text: str, problem: str) -> None:
    with pytest.raises(erlterm.SyntaxProblem) as raised:
        erlterm.parse(text)
    assert str(raised.value).startswith(problem)
    assert "\n" not in str(raised.value)


@given(st.text())
def test_no_text_raises_anything_else(text: str) -> None:
    with contextlib.suppress(erlterm.SyntaxProblem):
        erlterm.parse(text)


LEAVES = (
    st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.binary()
    | st.booleans()
    | st.none()
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=40).map(Atom)
    | st.just(BitString(b"\xff\xe0", 3))
)
KEYS = st.integers() | st.binary()
TERMS = st.recursive(
    LEAVES,
    lambda t: (
        st.lists(t)
        | st.lists(t).map(tuple)
        | st.dictionaries(KEYS, t)
        | st.builds(ImproperList, st.lists(t, min_size=1).map(tuple), st.integers())
    ),
    max_leaves=20,
)


def canonical(term: object) -> object:
    """'true' as an atom is true."""
    match term:
        case Atom("true"):
            return True
        case Atom("false"):
            return False
        case Atom("undefined"):
            return None
        case list():
            return [canonical(item) for item in term]
        case tuple():
            return tuple(canonical(item) for item in term)
        case dict():
            return {key: canonical(value) for key, value in term.items()}
    return term


@given(TERMS)
def test_what_is_printed_is_read_again(term: object) -> None:
    text = erlterm.format(canonical(term))
    assert "\n" not in text
    assert erlterm.parse(text) == canonical(term)


@pytest.mark.parametrize(
    ("term", "text"),
    [
        (10.0, "10.0"),
        (1e22, "1.0e22"),
        (1.5e-7, "1.5e-7"),
        ([104, 105], '"hi"'),
        ([0, 1], "[0,1]"),
        (b"hi", '<<"hi">>'),
        (b"\x00\xff", "<<0,255>>"),
        (Atom("Hello"), "'Hello'"),
        (Atom("end"), "'end'"),
        ((Atom("ok"), {b"k": 1}), '{ok,#{<<"k">> => 1}}'),
    ],
)
def test_it_prints_as_erlang_does(term: object, text: str) -> None:
    assert erlterm.format(term) == text
