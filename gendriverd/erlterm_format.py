# SPDX-License-Identifier: MIT
"""Erlang's term syntax out: a term on one line, as ~tp would print it.

The values are those of `gendriverd.etf`; what is printed here `gendriverd.erlterm` reads. Nothing that a terminal would
obey is printed: it is escaped.
"""

from __future__ import annotations

import re
from decimal import Decimal

from gendriverd.etf import Atom, BitString, ImproperList, Opaque, Term

_PLAIN_ATOM = re.compile(r"[a-zß-öø-ÿ][a-zA-Z0-9_@À-ÖØ-öø-ÿ]*\Z")
_RESERVED = re.compile(
    r"(?:after|and|andalso|band|begin|bnot|bor|bsl|bsr|bxor|case|catch|cond|div|else|end|fun|if|let|maybe|not|of|or|orelse"
    r"|receive|rem|try|when|xor)\Z"
)
_PRINTED = {10: "\\n", 13: "\\r", 9: "\\t", 27: "\\e", 8: "\\b", 12: "\\f", 11: "\\v", 92: "\\\\"}


def _printable(codes: list[Term] | bytes) -> bool:
    """A text, as io_lib:printable_unicode_list/1 has it, but for what a terminal would not show."""
    return len(codes) > 0 and all(
        type(code) is int and (code in _PRINTED or (32 <= code <= 0x10FFFF and chr(code).isprintable()))
        for code in codes
    )


def _character(character: str, quote: str) -> str:
    code = ord(character)
    if code in _PRINTED:
        return _PRINTED[code]
    if character.isprintable():
        return "\\" + quote if character == quote else character
    return f"\\{code:03o}" if code < 256 else f"\\x{{{code:X}}}"


def _text(text: str, quote: str) -> str:
    return quote + "".join(_character(character, quote) for character in text) + quote


def _atom(name: str) -> str:
    return name if _PLAIN_ATOM.match(name) and not _RESERVED.match(name) else _text(name, "'")


def _binary(data: bytes) -> str:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = ""
    if text and _printable([ord(character) for character in text]):
        return "<<" + _text(text, '"') + (">>" if text.isascii() else "/utf8>>")
    return "<<" + ",".join(map(str, data)) + ">>"


def _int(value: int) -> str:
    try:
        return str(value)
    except ValueError:  # Python's bound on decimal digits
        return f"{'-' if value < 0 else ''}16#{abs(value):X}"


def _float(value: float) -> str:
    """The shorter of 1234.5 and 1.2345e3, as float_to_list(.., [short]) of OTP 25 chooses."""
    sign, digits, power = Decimal(repr(value)).normalize().as_tuple()
    text, point = "".join(map(str, digits)), len(digits) + int(power)  # 0.TEXT times 10 to the POINT
    exponent = str(point - 1)
    exponential = f"{text[0]}.{text[1:] or '0'}e{exponent}"
    if value == 0:
        plain = "0.0"
    elif point <= 0:
        plain = "0." + "0" * -point + text
    elif point >= len(text):
        plain = text + "0" * (point - len(text)) + ".0"
    else:
        plain = text[:point] + "." + text[point:]
    short = 0 < point < len(text) or (len(plain) <= len(exponential) and abs(value) < 1 << 53)
    return ("-" if sign else "") + (plain if short or value == 0 else exponential)


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
            return _int(term)
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
