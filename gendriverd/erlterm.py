# SPDX-License-Identifier: MIT
"""Erlang's term syntax in: `parse` reads what a person types; `format`, from a file of its own, prints.

The values are those of `gendriverd.etf`. What the one prints the other reads.
Syntax: https://www.erlang.org/doc/system/data_types.html
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn, TypeVar

from gendriverd.erlterm_format import format  # noqa: A004 - io_lib's name
from gendriverd.etf import Atom, BitString, ImproperList, Term

__all__ = ["SyntaxProblem", "format", "parse"]

DEPTH = 128
_T = TypeVar("_T")


class SyntaxProblem(ValueError):
    """What is wrong, and at which column."""


_TOKEN = re.compile(
    r"""(?:\s|%[^\n]*)*
    (?: (?P<float>-?[0-9][0-9_]*\.[0-9][0-9_]*(?:[eE][+-]?[0-9]+)?)
      | (?P<based>-?[0-9]{1,2}\#[0-9a-zA-Z_]+)
      | (?P<int>-?[0-9][0-9_]*)
      | \$(?P<char>\\(?:x\{[0-9a-fA-F]+\}|x[0-9a-fA-F]{2}|[0-7]{1,3}|\^?.)|.)
      | (?P<atom>[a-zß-öø-ÿ][\w@]*)
      | '(?P<quoted>(?:[^'\\]|\\.)*)'
      | "(?P<string>(?:[^"\\]|\\.)*)"
      | (?P<variable>[A-Z_][\w@]*)
      | (?P<mark>\#\{|=>|<<|>>|[\[\]{}(),|:/.])
      | (?P<end>\Z)
      | (?P<other>.) )""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"\\(x\{[0-9a-fA-F]+\}|x[0-9a-fA-F]{2}|[0-7]{1,3}|\^.|.)", re.DOTALL)
_ESCAPES = {"n": 10, "r": 13, "t": 9, "s": 32, "e": 27, "b": 8, "f": 12, "v": 11, "d": 127}
_ATOMS = {"true": True, "false": False, "undefined": None}


@dataclass(slots=True)
class _Token:
    kind: str
    text: str
    at: int


def _unescape(text: str) -> str:
    def one(match: re.Match[str]) -> str:
        body = match[1]
        if body[0] == "x":
            return chr(int(body.strip("x{}"), 16))
        if body[0] in "01234567":
            return chr(int(body, 8))
        if body[0] == "^" and len(body) > 1:
            return chr(ord(body[1]) & 31)
        return chr(_ESCAPES.get(body, ord(body)))

    return _ESCAPE.sub(one, text)


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise OverflowError
    return value


def _based(text: str) -> int:
    base, digits = text.split("#")
    if not 2 <= abs(int(base)) <= 36:
        raise ValueError
    value = int(digits, abs(int(base)))
    return -value if base.startswith("-") else value


class _Parser:
    """Recursive descent over tokens; `token` is the next one."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.depth = 0
        self.token = self._next()

    def _next(self) -> _Token:
        match = _TOKEN.match(self.text, self.at)
        assert match is not None  # noqa: S101 - `other` takes any character
        kind = match.lastgroup or "end"
        self.at = match.end()
        start = match.start(kind) if kind not in ("char", "quoted", "string") else match.start(kind) - 1
        return _Token(kind, match[kind], start)

    def fail(self, wanted: str) -> NoReturn:
        token = self.token
        if token.kind == "variable":
            raise SyntaxProblem(f"column {token.at + 1}: {token.text} is a variable; an atom is written '{token.text}'")
        found = "the end" if token.kind == "end" else repr(self.text[token.at : self.at])
        raise SyntaxProblem(f"column {token.at + 1}: {wanted} expected, found {found}")

    def value(self, token: _Token, convert: Callable[[str], _T], what: str) -> _T:
        """What the token's text stands for."""
        try:
            return convert(token.text)
        except (ValueError, OverflowError):
            shown = repr(token.text if len(token.text) <= 40 else token.text[:40] + "..")
            raise SyntaxProblem(f"column {token.at + 1}: {shown} is {what}") from None

    def take(self, mark: str) -> bool:
        if self.token.kind == "mark" and self.token.text == mark:
            self.token = self._next()
            return True
        return False

    def expect(self, mark: str, wanted: str) -> None:
        if not self.take(mark):
            self.fail(wanted)

    def whole(self) -> Term:
        term = self.term()
        self.take(".")
        if self.token.kind != "end":
            self.fail("the end of the term")
        return term

    def term(self) -> Term:
        token = self.token
        if self.depth == DEPTH:
            raise SyntaxProblem(f"column {token.at + 1}: nested deeper than {DEPTH}")
        if token.kind == "mark":
            self.depth += 1
            term = self.bracketed()
            self.depth -= 1
            return term
        if token.kind in ("variable", "other", "end"):
            self.fail("a term")
        self.token = self._next()
        return self.leaf(token)

    def leaf(self, token: _Token) -> Term:
        text = token.text
        match token.kind:
            case "int":
                return self.value(token, int, "no integer of at most 4300 digits (in base 16 there may be more)")
            case "float":
                return self.value(token, _finite, "no float, or too large for one")
            case "based":
                return self.value(token, _based, "no number of base 2 to 36")
            case "char":
                return ord(self.text_of(token))
            case "atom":
                return _ATOMS[text] if text in _ATOMS else Atom(text)
            case "quoted":
                name = self.text_of(token)
                return _ATOMS[name] if name in _ATOMS else Atom(name)
        codes = [ord(character) for character in self.text_of(token)]
        while self.token.kind == "string":  # strings beside each other are one
            codes += [ord(character) for character in self.text_of(self.token)]
            self.token = self._next()
        return codes

    def text_of(self, token: _Token) -> str:
        return self.value(token, _unescape, "no text: an escape in it stands for no character")

    def bracketed(self) -> Term:
        if self.take("["):
            return self.list()
        if self.take("{"):
            return tuple(self.series("}", "',' or '}'"))
        if self.take("#{"):
            return self.map()
        if self.take("<<"):
            return self.binary()
        self.fail("a term")

    def series(self, close: str, wanted: str) -> list[Term]:
        terms: list[Term] = []
        if self.take(close):
            return terms
        while True:
            terms.append(self.term())
            if self.take(close):
                return terms
            self.expect(",", wanted)

    def list(self) -> Term:
        terms: list[Term] = []
        if self.take("]"):
            return terms
        while True:
            terms.append(self.term())
            if self.take("]"):
                return terms
            if self.take("|"):
                tail = self.term()
                self.expect("]", "']'")
                return [*terms, *tail] if isinstance(tail, list) else ImproperList(tuple(terms), tail)
            self.expect(",", "',', '|' or ']'")

    def map(self) -> Term:
        pairs: dict[Term, Term] = {}
        spelled: dict[Term, str] = {}
        if self.take("}"):
            return pairs
        while True:
            at = self.token.at
            key = self.term()
            self.expect("=>", "'=>'")
            value = self.term()
            try:
                pairs[key] = value
            except TypeError:
                raise SyntaxProblem(f"column {at + 1}: a list or map cannot be a key here") from None
            if spelled.setdefault(key, text := format(key)) != text:
                raise SyntaxProblem(f"column {at + 1}: {spelled[key]} and {text} cannot both be keys here")
            if self.take("}"):
                return pairs
            self.expect(",", "',' or '}'")

    def binary(self) -> Term:
        data, bits = b"", 8
        if self.take(">>"):
            return data
        while True:
            if bits != 8:
                self.fail("'>>' behind the last bits")
            part, bits = self.segment()
            data += part
            if self.take(">>"):
                return data if bits == 8 else BitString(data, bits)
            self.expect(",", "',' or '>>'")

    def segment(self) -> tuple[bytes, int]:
        token = self.token
        if token.kind == "string":
            text = self.text_of(token)
            self.token = self._next()
            utf8 = self.take("/") and self.atom("utf8")
            try:
                return text.encode("utf-8" if utf8 else "latin-1"), 8
            except UnicodeEncodeError:
                wrong = "no surrogate has a UTF-8 form" if utf8 else "characters beyond 255 need /utf8"
                raise SyntaxProblem(f"column {token.at + 1}: {wrong}") from None
        if token.kind in ("int", "based", "char"):
            self.token = self._next()
            value = self.leaf(token)
            size = self.size() if self.take(":") else 8
            padded = (value & ((1 << size) - 1)) << (-size % 8)
            return padded.to_bytes((size + 7) // 8, "big"), size % 8 or 8
        self.fail("a string or an integer")

    def atom(self, name: str) -> bool:
        if self.token.kind != "atom" or self.token.text != name:
            self.fail(name)
        self.token = self._next()
        return True

    def size(self) -> int:
        token = self.token
        if token.kind != "int" or not 1 <= int(token.text) <= 1 << 16:
            self.fail("a number of bits from 1 to 65536")
        self.token = self._next()
        return int(token.text)


def parse(text: str) -> Term:
    """One term; a dot at the end may stand. SyntaxProblem: the column, and what was expected there."""
    try:
        return _Parser(text).whole()
    except RecursionError:
        raise SyntaxProblem("column 1: nested deeper than Python's stack allows here") from None
