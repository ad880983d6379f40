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
        ("99#1", "column 1: '99#1' is no number of base 2 to 36"),
        ("1.0e999", "column 1: '1.0e999' is no float, or too large for one"),
        ("#{[1] => 2}", "column 3: a list or map cannot be a key here"),
        ("'open", "column 1: a term expected, found"),
        ("[" * 200, "column 129: nested deeper than 128"),
        ("\x00", "column 1: a term expected"),
        ("1__0", "column 1: '1__0' is no integer"),
        ("1_.5", "column 1: '1_.5' is no float"),
        ("\u0661", "column 1: a term expected"),  # a digit, but not Erlang's
        (r"$\x{110000}", r"column 1: '\\x{110000}' is no text: an escape in it stands for no character"),
        (r'{"\x{ffffffffff}"}', "column 2: "),
        (r'<<"\x{d800}"/utf8>>', "column 3: no surrogate has a UTF-8 form"),
        ("#{1 => a, 1.0 => b}", "column 11: 1 and 1.0 cannot both be keys here"),
        ("#{{true} => a, {1} => b}", "column 16: {true} and {1} cannot both be keys here"),
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
        case ImproperList(elements, tail):
            return ImproperList(tuple(canonical(item) for item in elements), canonical(tail))
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
        (1000.0, "1.0e3"),
        (100.0, "100.0"),
        (123456.0, "123456.0"),
        (0.0001, "0.0001"),
        (0.00012, "1.2e-4"),
        (-0.0, "-0.0"),
        (1e15, "1.0e15"),
        (1234567890123456789.0, "1.2345678901234568e18"),
        (Atom("a\x07\x9b"), r"'a\007\233'"),
        (Atom("a\u202eb"), r"'a\x{202E}b'"),
        ([0x1F600], '"\U0001f600"'),
        ([97, 0x202E], "[97,8238]"),
        (b"\xc2\x9b", "<<194,155>>"),
        ([104, 105], '"hi"'),
        ([0, 1], "[0,1]"),
        (b"hi", '<<"hi">>'),
        (b"\x00\xff", "<<0,255>>"),
        (Atom("Hello"), "'Hello'"),
        (Atom("end"), "'end'"),
        ((Atom("ok"), {b"k": 1}), '{ok,#{<<"k">> => 1}}'),
    ],
)
def test_it_prints_as_erlang_does_but_for_what_a_terminal_obeys(term: object, text: str) -> None:
    assert erlterm.format(term) == text


def test_integers_beyond_pythons_digits_are_written_in_base_16() -> None:
    text = "-16#1" + "0" * 5000
    assert erlterm.parse(text) == -(1 << 20000)
    assert erlterm.format(-(1 << 20000)) == text
    with pytest.raises(erlterm.SyntaxProblem, match=r"'9{40}\.\.' is no integer of at most 4300 digits"):
        erlterm.parse("9" * 5000)
