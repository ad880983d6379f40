# SPDX-License-Identifier: MIT
"""Terms of Erlang's External Term Format as Python values: the one typed module around erlang-py.

| Erlang                     | Python                    | remark                                             |
|----------------------------|---------------------------|----------------------------------------------------|
| integer, float             | int, float                | NaN and infinity are no terms                      |
| atom                       | Atom                      | a str; the same whichever form it travelled in     |
| true, false, undefined     | True, False, None         |                                                    |
| binary                     | bytes                     | a str is encoded too: as a binary, in UTF-8        |
| bit string                 | BitString                 |                                                    |
| list, [], "abc"            | list                      | "abc" is [97, 98, 99]                              |
| improper list              | ImproperList              |                                                    |
| tuple, map                 | tuple, dict               | a key must be hashable, and differ from the others |
| pid, port, reference, fun  | Opaque                    | its bytes; goes back as it came                    |

What cannot be a Python value (a map with a list as a key, with both 1 and 1.0, or with keys that were chosen to take
a dict ages: etf_keys) is an EtfError, never a wrong value.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

import erlang
from gendriverd import etf_quick
from gendriverd.etf_guard import DEFAULT, EtfError, Limits, check, rewritten
from gendriverd.etf_keys import complaint
from gendriverd.etf_quick import Atom

__all__ = [
    "DEFAULT",
    "Atom",
    "BitString",
    "EtfError",
    "ImproperList",
    "Limits",
    "Opaque",
    "Term",
    "decode",
    "encode",
    "frame",
]

Term: TypeAlias = Any  # one of the right-hand column above

ENCODE_DEPTH = 256  # erlang-py recurses
_ATOM_CHARACTERS = 255
_MAP, _SMALL_BIG, _LARGE_BIG = 116, 110, 111
_STRING_MAX = 65535


@dataclass(frozen=True, slots=True)
class BitString:
    """Bits that are no whole bytes: of the last byte of `data` the `bits` (1..7) high ones count, the others are 0."""

    data: bytes
    bits: int


@dataclass(frozen=True, slots=True)
class ImproperList:
    """[e1, .. en | tail]; at least one element. Decoded, `tail` is no list: [1 | [2]] is the list [1, 2]."""

    elements: tuple[Term, ...]
    tail: Term


@dataclass(frozen=True, slots=True)
class Opaque:
    """A pid, port, reference or fun: its bytes, without version byte."""

    data: bytes


def decode(data: bytes, limits: Limits = DEFAULT) -> Term:
    """One term, version byte first. EtfError, with its `reason`, for anything else."""
    if limits.terms >= etf_quick.SIZE and limits.depth >= etf_quick.DEPTH and (plain := etf_quick.decode(data)):
        return plain[0]
    shape = check(data, limits)
    try:
        return _from(_as_erlang_py(rewritten(data, shape)))
    except RecursionError:
        raise EtfError("nested deeper than Python's stack allows here", "too_deep") from None


def encode(term: Term) -> bytes:
    """The term's bytes, version byte first. EtfError names what cannot be encoded."""
    if (plain := etf_quick.encode(term)) is not None:
        return plain
    try:
        result: bytes = erlang.term_to_binary(_to(term, 0))
    except RecursionError:
        raise EtfError("nested deeper than Python's stack allows here", "too_deep") from None
    return result


def frame(term: Term) -> bytes:
    """The term as a frame: a 4-byte big-endian length, then its bytes."""
    data = encode(term)
    return struct.pack(">I", len(data)) + data


# --- from what erlang-py made ----------------------------------------------


def _as_erlang_py(data: bytes) -> Any:
    try:
        return erlang.binary_to_term(data)
    except (erlang.ParseException, ValueError, TypeError, AttributeError) as exc:
        raise EtfError(f"not representable: {exc}", "not_representable") from exc


def _from_atom(value: Any) -> Term:
    name = value.value
    return Atom(name.decode("latin-1") if isinstance(name, bytes) else name)


def _from_binary(value: Any) -> Term:
    if value.bits == 8:
        return value.value
    last = value.value[-1] & -(1 << (8 - value.bits))
    return BitString(value.value[:-1] + bytes([last & 255]), value.bits)


def _from_tuple(value: tuple[Any, ...]) -> Term:
    if value and type(value[0]) is float and value[0] != value[0]:  # MAP_MARK
        return _to_dict(list(map(_from, value[1::2])), map(_from, value[2::2]))
    return tuple(map(_from, value))


def _to_dict(keys: list[Term], values: Iterable[Term]) -> dict[Term, Term]:
    pairs = list(values)
    try:
        if (why := complaint(keys)) is not None:
            raise EtfError(why, "not_representable")
        found = dict(zip(keys, pairs, strict=True))
    except TypeError:
        raise EtfError("a map with a list or a map as a key", "not_representable") from None
    if len(found) != len(keys):
        raise EtfError("a map with two keys that are one in Python, as 1 and 1.0", "not_representable")
    return found


def _from_otp_list(value: Any) -> Term:
    items = list(map(_from, value.value))
    if not value.improper:
        return items
    tail = items.pop()  # erlang-py calls improper what ends in anything but []
    if isinstance(tail, list):  # STRING_EXT
        return items + tail
    return ImproperList(tuple(items), tail)


def _itself(value: Any) -> Term:
    return value


def _from_opaque(value: Any) -> Term:
    return Opaque(value.binary())


_FROM: dict[type, Callable[[Any], Term]] = {
    int: _itself,
    float: _itself,
    bool: _itself,
    type(None): _itself,
    bytes: list,  # STRING_EXT
    list: lambda value: list(map(_from, value)),
    tuple: _from_tuple,
    erlang.OtpErlangAtom: _from_atom,
    erlang.OtpErlangBinary: _from_binary,
    erlang.OtpErlangList: _from_otp_list,
    erlang.OtpErlangPid: _from_opaque,
    erlang.OtpErlangPort: _from_opaque,
    erlang.OtpErlangReference: _from_opaque,
    erlang.OtpErlangFunction: _from_opaque,
}


def _from(value: Any) -> Term:
    return _FROM[type(value)](value)


# --- to what erlang-py takes -----------------------------------------------


def _to_atom(term: Atom, _depth: int) -> Any:
    if len(term) > _ATOM_CHARACTERS:
        raise EtfError(f"an atom of {len(term)} characters; at most {_ATOM_CHARACTERS}: {term[:20]!r}..")
    try:
        term.encode()
    except UnicodeEncodeError:
        raise EtfError(f"an atom that is not UTF-8: {term[:20]!r}") from None
    return erlang.OtpErlangAtom(str(term))


def _to_int(term: int, _depth: int) -> Any:
    if -(1 << 31) <= term < 1 << 31:
        return term
    # As bytes: erlang-py's time is quadratic in an integer's length.
    size = (term.bit_length() + 7) // 8
    head = bytes([size]) if size < 256 else struct.pack(">I", size)
    digits = bytes([term < 0]) + abs(term).to_bytes(size, "little")
    return erlang.OtpErlangFunction(_SMALL_BIG if size < 256 else _LARGE_BIG, head + digits)


def _to_bits(term: BitString, _depth: int) -> Any:
    if not term.data or not 1 <= term.bits <= 7:
        raise EtfError(f"a BitString has a last byte, of which 1 to 7 bits count: {term!r:.60}")
    return erlang.OtpErlangBinary(term.data, term.bits)


def _to_opaque(term: Opaque, _depth: int) -> Any:
    check(b"\x83" + term.data)
    return erlang.OtpErlangFunction(term.data[0], term.data[1:])


def _to_float(term: float, _depth: int) -> Any:
    if not math.isfinite(term):
        raise EtfError(f"{term!r} is no Erlang term")
    return term


def _to_text(term: str, _depth: int) -> Any:
    try:
        return erlang.OtpErlangBinary(term.encode())
    except UnicodeEncodeError:
        raise EtfError(f"text that is not UTF-8: {term[:20]!r}") from None


def _to_list(term: list[Term], depth: int) -> Any:
    if not term:
        return []
    if len(term) <= _STRING_MAX and all(type(item) is int and 0 <= item <= 255 for item in term):
        return bytes(term)
    return erlang.OtpErlangList([_to(item, depth + 1) for item in term])


def _to_improper(term: ImproperList, depth: int) -> Any:
    if not term.elements:
        raise EtfError("an ImproperList has at least one element")
    return erlang.OtpErlangList([_to(item, depth + 1) for item in (*term.elements, term.tail)], improper=True)


def _to_map(term: dict[Term, Term], depth: int) -> Any:
    # As bytes: erlang-py's own classes cannot be keys of one dict safely.
    parts = [struct.pack(">I", len(term))]
    keys = set()
    for key, value in term.items():
        encoded = _body(key, depth)
        if encoded in keys:
            raise EtfError(f"a dict with two keys that are one in Erlang: {key!r:.60}")
        keys.add(encoded)
        parts += [encoded, _body(value, depth)]
    return erlang.OtpErlangFunction(_MAP, b"".join(parts))


def _body(term: Term, depth: int) -> bytes:
    data: bytes = erlang.term_to_binary(_to(term, depth + 1))
    return data[1:]


_TO: dict[type, Callable[[Any, int], Any]] = {
    int: _to_int,
    bool: lambda term, _depth: term,
    type(None): lambda term, _depth: term,
    float: _to_float,
    Atom: _to_atom,
    str: _to_text,
    bytes: lambda term, _depth: erlang.OtpErlangBinary(term),
    list: _to_list,
    tuple: lambda term, depth: tuple(_to(item, depth + 1) for item in term),
    dict: _to_map,
    BitString: _to_bits,
    ImproperList: _to_improper,
    Opaque: _to_opaque,
}


def _to(term: Term, depth: int) -> Any:
    if depth > ENCODE_DEPTH:
        raise EtfError(f"nested deeper than {ENCODE_DEPTH}", "too_deep")
    convert = _TO.get(type(term))
    if convert is None:
        raise EtfError(f"a {type(term).__name__} is no Erlang term: {term!r:.60}")
    return convert(term, depth)
