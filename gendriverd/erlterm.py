# SPDX-License-Identifier: MIT
"""Erlang's term syntax in and out: `parse` reads what a person types, `format` prints on one line as ~tp would.

The values are those of `gendriverd.etf`. Syntax: https://www.erlang.org/doc/system/data_types.html
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NoReturn

from gendriverd.etf import Atom, BitString, ImproperList, Opaque, Term

DEPTH = 128


class SyntaxProblem(ValueError):
    """What is wrong, and at which column."""


_TOKEN = re.compile(
    r"""(?:\s|%[^\n]*)*
    (?: (?P<float>-?\d[\d_]*\.\d[\d_]*(?:[eE][+-]?\d+)?)
      | (?P<based>-?\d{1,2}\#[0-9a-zA-Z_]+)
      | (?P<int>-?\d[\d_]*)
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
_PLAIN_ATOM = re.compile(r"[a-zß-öø-ÿ][a-zA-Z0-9_@À-ÖØ-öø-ÿ]*\Z")
_RESERVED = frozenset(
    [
        "after",
        "and",
        "andalso",
        "band",
        "begin",
        "bnot",
        "bor",
        "bsl",
        "bsr",
        "bxor",
        "case",
        "catch",
        "cond",
        "div",
        "else",
        "end",
        "fun",
        "if",
        "let",
        "maybe",
        "not",
        "of",
        "or",
        "orelse",
        "receive",
        "rem",
        "try",
        "when",
        "xor",
    ]
)


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


class _Parser:
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
                return int(text)
            case "float":
                return self.number(token, float(text))
            case "based":
                return self.based(token)
            case "char":
                return ord(_unescape(text))
            case "atom":
                return _ATOMS[text] if text in _ATOMS else Atom(text)
            case "quoted":
                name = _unescape(text)
                return _ATOMS[name] if name in _ATOMS else Atom(name)
        parts = text  # strings beside each other are one
        while self.token.kind == "string":
            parts += self.token.text
            self.token = self._next()
        return [ord(character) for character in _unescape(parts)]

    def number(self, token: _Token, value: float) -> float:
        if value in (float("inf"), float("-inf")):
            raise SyntaxProblem(f"column {token.at + 1}: {token.text} is too large for a float")
        return value

    def based(self, token: _Token) -> int:
        base, digits = token.text.split("#")
        try:
            if not 2 <= abs(int(base)) <= 36:
                raise ValueError
            value = int(digits, abs(int(base)))
        except ValueError:
            raise SyntaxProblem(f"column {token.at + 1}: {token.text} is no number of base 2 to 36") from None
        return -value if base.startswith("-") else value

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
            text = _unescape(token.text)
            self.token = self._next()
            utf8 = self.take("/") and self.atom("utf8")
            if not utf8 and any(ord(character) > 255 for character in text):
                raise SyntaxProblem(f"column {token.at + 1}: characters beyond 255 need /utf8")
            return text.encode() if utf8 else text.encode("latin-1"), 8
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
    return _Parser(text).whole()


# --- out ---------------------------------------------------------------------


def _printable(codes: list[Term] | bytes) -> bool:
    return len(codes) > 0 and all(
        type(code) is int and (32 <= code < 127 or code in (8, 9, 10, 11, 12, 13, 27) or 160 <= code < 0xD800)
        for code in codes
    )


_PRINTED = {10: "\\n", 13: "\\r", 9: "\\t", 27: "\\e", 8: "\\b", 12: "\\f", 11: "\\v", 92: "\\\\"}


def _text(text: str, quote: str) -> str:
    escaped = "".join(_PRINTED.get(ord(character), character) for character in text)
    return quote + escaped.replace(quote, "\\" + quote) + quote


def _atom(name: str) -> str:
    return name if _PLAIN_ATOM.match(name) and name not in _RESERVED else _text(name, "'")


def _binary(data: bytes) -> str:
    if _printable(data) and all(code < 127 for code in data):
        return "<<" + _text(data.decode(), '"') + ">>"
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = ""
    if text and _printable([ord(character) for character in text]):
        return "<<" + _text(text, '"') + "/utf8>>"
    return "<<" + ",".join(map(str, data)) + ">>"


def _float(value: float) -> str:
    text = repr(value)
    mantissa, _, exponent = text.partition("e")
    if not exponent:
        return text
    return f"{mantissa if '.' in mantissa else mantissa + '.0'}e{int(exponent)}"


def _bits(value: BitString) -> str:
    last = value.data[-1] >> (8 - value.bits)
    return "<<" + ",".join([*map(str, value.data[:-1]), f"{last}:{value.bits}"]) + ">>"


def format(term: Term) -> str:  # noqa: A001, C901 - io_lib's name; one case a type
    """The term in Erlang's syntax, on one line."""
    match term:
        case None:
            return "undefined"
        case bool():
            return "true" if term else "false"
        case int():
            return str(term)
        case float():
            return _float(term)
        case Atom():
            return _atom(term)
        case str():
            return _binary(term.encode())
        case bytes():
            return _binary(term)
        case list():
            if _printable(term):
                return _text("".join(map(chr, term)), '"')
            return "[" + ",".join(map(format, term)) + "]"
        case tuple():
            return "{" + ",".join(map(format, term)) + "}"
        case dict():
            return "#{" + ",".join(f"{format(key)} => {format(value)}" for key, value in term.items()) + "}"
        case BitString():
            return _bits(term)
        case ImproperList(elements, tail):
            return "[" + ",".join(map(format, elements)) + "|" + format(tail) + "]"
        case Opaque(data):
            return f"#Opaque<{data.hex()}>"
    raise TypeError(f"no term: {term!r:.60}")
