# SPDX-License-Identifier: MIT
"""Small plain terms without erlang-py's detour, as most requests and replies are: same bytes, same values, or None.

Only ever a short cut: what is not plain (maps, long integers, anything but the forms below), deep, large or wrong in
any way is None, and goes the long way through the guard and erlang-py, which says what it is. Both say the same:
tests/unit/test_etf_quick.py holds them against each other.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

DEPTH: Final = 8  # of tuples and lists
SIZE: Final = 1024  # bytes decoded, and so no more terms
_ATOM_CHARACTERS, _ATOM_BYTES = 255, 255
_STRING_MAX = 65535
_I32, _U32, _U16, _F64 = (struct.Struct(code) for code in (">bi", ">BI", ">BH", ">Bd"))
_UNPACK_I32, _UNPACK_U32, _UNPACK_U16, _UNPACK_F64 = (
    struct.Struct(code).unpack_from for code in (">i", ">I", ">H", ">d")
)
_OWN = {b"true": True, b"false": False, b"undefined": None}
_INTS = [bytes((97, value)) for value in range(256)]
_JUST_INTS = {int}


class _NotPlain(Exception):
    """The long way, please."""


class Atom(str):
    """An atom. Equal to the str of its name."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"Atom({str.__repr__(self)})"


# --- in ----------------------------------------------------------------------


def decode(data: bytes) -> tuple[Any] | None:
    """The term in data, version byte first, in a tuple of its own. None: not a plain one."""
    if len(data) > SIZE or data[:1] != b"\x83":
        return None
    try:
        term, at = _term(data, 1, DEPTH)
    except (_NotPlain, IndexError, struct.error, UnicodeDecodeError, RecursionError):
        return None
    return (term,) if at == len(data) else None  # an end beyond the data's is a term that is cut off


@lru_cache(1024)
def _atom_of(name: bytes) -> Atom | bool | None:
    return _OWN[name] if name in _OWN else Atom(name.decode())


def _term(data: bytes, at: int, left: int) -> tuple[Any, int]:
    """The term whose tag is at `at`, and where it ends."""
    tag = data[at]
    if tag == 104:
        size = data[at + 1]
        items, at = _terms(data, at + 2, size, left)
        return tuple(items), at
    if tag == 108:
        (size,) = _UNPACK_U32(data, at + 1)
        if not 0 < size < len(data):
            raise _NotPlain
        items, at = _terms(data, at + 5, size, left)
        if data[at] != 106:
            raise _NotPlain
        return items, at + 1
    items, at = _terms(data, at, 1, left + 1)
    return items[0], at


def _terms(data: bytes, at: int, count: int, left: int) -> tuple[list[Any], int]:
    """So many, one behind the other. A slice may reach beyond the data: then the end does too, which is noticed."""
    if left == 0:
        raise _NotPlain
    found: list[Any] = []
    for _ in range(count):
        tag = data[at]
        item: Any
        if tag == 97:
            item, at = data[at + 1], at + 2
        elif tag == 119:
            end = at + 2 + data[at + 1]
            item, at = _atom_of(data[at + 2 : end]), end
        elif tag in (104, 108):
            item, at = _term(data, at, left - 1)
        elif tag == 98:
            (item,) = _UNPACK_I32(data, at + 1)
            at += 5
        elif tag == 109:
            end = at + 5 + _UNPACK_U32(data, at + 1)[0]
            item, at = data[at + 5 : end], end
        elif tag == 107:
            end = at + 3 + _UNPACK_U16(data, at + 1)[0]
            item, at = list(data[at + 3 : end]), end
        elif tag == 106:
            item, at = [], at + 1
        elif tag == 70:
            (item,) = _UNPACK_F64(data, at + 1)
            if not math.isfinite(item):
                raise _NotPlain
            at += 9
        else:
            raise _NotPlain
        found.append(item)
    return found, at


# --- out ---------------------------------------------------------------------


def encode(term: Any) -> bytes | None:
    """The term's bytes, version byte first. None: not a plain one."""
    try:
        return b"\x83" + _TO[type(term)](term, DEPTH)
    except (_NotPlain, KeyError, UnicodeEncodeError, RecursionError):
        return None


def _int(term: int, _left: int) -> bytes:
    if 0 <= term <= 255:
        return _INTS[term]
    if -(1 << 31) <= term < 1 << 31:
        return _I32.pack(98, term)
    raise _NotPlain


def _float(term: float, _left: int) -> bytes:
    if not math.isfinite(term):
        raise _NotPlain
    return _F64.pack(70, term)


@lru_cache(1024)
def _atom(term: Atom, _left: int) -> bytes:
    name = term.encode()
    if len(term) > _ATOM_CHARACTERS or len(name) > _ATOM_BYTES:
        raise _NotPlain
    return bytes((119, len(name))) + name


def _bytes(term: bytes, _left: int) -> bytes:
    if len(term) >= 1 << 32:
        raise _NotPlain
    return _U32.pack(109, len(term)) + term


def _list(term: list[Any], left: int) -> bytes:
    if not term:
        return b"j"
    if set(map(type, term)) == _JUST_INTS and len(term) <= _STRING_MAX:
        try:
            return _U16.pack(107, len(term)) + bytes(term)
        except ValueError:  # one of them is no byte
            pass
    return _U32.pack(108, len(term)) + _each(term, left) + b"j"


def _tuple(term: tuple[Any, ...], left: int) -> bytes:
    if len(term) > 255:
        raise _NotPlain
    return bytes((104, len(term))) + _each(term, left)


def _each(terms: list[Any] | tuple[Any, ...], left: int) -> bytes:
    if left == 0:
        raise _NotPlain
    left -= 1
    return b"".join([_TO[type(term)](term, left) for term in terms])


_TO: dict[type, Callable[[Any, int], bytes]] = {
    int: _int,
    bool: lambda term, _left: b"w\x04true" if term else b"w\x05false",
    type(None): lambda _term, _left: b"w\x09undefined",
    float: _float,
    Atom: _atom,
    str: lambda term, left: _bytes(term.encode(), left),
    bytes: _bytes,
    list: _list,
    tuple: _tuple,
}
