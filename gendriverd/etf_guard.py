# SPDX-License-Identifier: MIT
"""The guard before erlang-py: looks over a whole term, iteratively and within budgets, and refuses what is unsafe.

The same rules as the host's validator (gendriverd/host/etf.c), checked against the same vectors. erlang-py inflates
compressed terms without a bound, is quadratic in the length of integers, recurses as deep as the term does, and takes
NaN: so it only ever sees what passed here. Its dicts are anybody's to fill with keys of one hash: so it sees no maps.
Format: https://www.erlang.org/doc/apps/erts/erl_ext_dist.html
"""

from __future__ import annotations

import math
import re
import struct
from dataclasses import dataclass
from typing import Literal

Reason = Literal[
    "bad_term",
    "compressed",
    "trailing_bytes",
    "too_deep",
    "too_many_terms",
    "bignum_too_large",
    "not_representable",
]


class EtfError(ValueError):
    """A term that cannot be decoded or encoded; `reason` is one of the closed set `Reason`."""

    def __init__(self, text: str, reason: Reason = "bad_term") -> None:
        super().__init__(text)
        self.reason: Reason = reason


@dataclass(frozen=True, slots=True)
class Limits:
    """Budgets of one term: nesting, terms in all, bytes of one integer."""

    depth: int = 128
    terms: int = 1_000_000
    bignum: int = 4096


DEFAULT = Limits()


@dataclass(frozen=True, slots=True)
class Shape:
    """Of a valid term, without what is in funs: where its maps are, and the lists that are tails of lists, each as
    (first, tail).
    """

    maps: list[int]
    tails: list[tuple[int, int]]


VERSION = 131
_U16 = struct.Struct(">H")
_U32 = struct.Struct(">I")
_F64 = struct.Struct(">d")
_FLOAT_TEXT = re.compile(rb"[+-]?\d+\.\d+([eE][+-]?\d+)?")

_FIXED = {97: 1, 98: 4, 106: 0}  # SMALL_INTEGER, INTEGER, NIL
_SIZED = {109: _U32, 107: _U16}  # BINARY, STRING: a length, then bytes
# A node's name, then so many bytes: PID, NEW_PID, PORT, NEW_PORT, V4_PORT, REFERENCE.
_NAMED = {103: 9, 88: 12, 102: 5, 89: 8, 120: 12, 101: 5}
_CREATION = {114: 1, 90: 4}  # NEW_REFERENCE, NEWER_REFERENCE
MAP_MARK = b"F\x7f\xf8\0\0\0\0\0\0"  # NaN: before a map's pairs, for erlang-py
_OLD, _OLD_CREATION, _OLD_REFERENCE = (103, 102, 101), 3, 0x3FFFF
_ATOM_WIDTH = {119: 1, 115: 1, 118: 2, 100: 2}
_UTF8 = (118, 119)


def _atom(data: bytes, at: int) -> int:
    """Where the atom whose tag is at `at` ends."""
    width = _ATOM_WIDTH.get(data[at])
    if width is None:
        raise EtfError(f"byte {at}: tag {data[at]} where an atom must be")
    size = data[at + 1] if width == 1 else _U16.unpack_from(data, at + 1)[0]
    text = data[at + 1 + width : at + 1 + width + size]
    characters = len(text.decode()) if data[at] in _UTF8 else len(text)
    if len(text) != size or characters > 255:
        raise EtfError(f"byte {at}: an atom that is cut off or longer than 255 characters")
    return at + 1 + width + size


def _integer(data: bytes, at: int) -> int:
    if data[at] not in (97, 98):
        raise EtfError(f"byte {at}: tag {data[at]} where an integer must be")
    return at + 1 + _FIXED[data[at]]


def _fun(data: bytes, at: int) -> tuple[int, int, int]:
    """Of a NEW_FUN: where its free terms begin, how many they are, where it must end."""
    size, free = _U32.unpack_from(data, at + 1)[0], _U32.unpack_from(data, at + 26)[0]
    if size > len(data) - at - 1:
        raise EtfError(f"byte {at}: a fun that is cut off")
    after = _integer(data, _integer(data, _atom(data, at + 30)))
    if data[after] not in (103, 88):
        raise EtfError(f"byte {after}: tag {data[after]} where a pid must be")
    return _atom(data, after + 1) + _NAMED[data[after]], free, at + 1 + size


def _leaf(data: bytes, at: int, tag: int, limits: Limits) -> int:  # noqa: C901 - a table of tags
    """Where the term whose tag is at `at`, and which holds no other term, ends."""
    if tag in _ATOM_WIDTH:
        return _atom(data, at)
    if tag == 70:
        if not math.isfinite(_F64.unpack_from(data, at + 1)[0]):
            raise EtfError(f"byte {at}: a float that is no number")
        return at + 9
    if tag in (110, 111):
        size, end = (data[at + 1], at + 2) if tag == 110 else (_U32.unpack_from(data, at + 1)[0], at + 5)
        if data[end] > 1:
            raise EtfError(f"byte {at}: an integer with sign {data[end]}")
        if size > len(data) - end - 1:
            raise EtfError(f"byte {at}: an integer that is cut off")
        if size > limits.bignum:
            raise EtfError(f"byte {at}: an integer of {size} bytes; at most {limits.bignum}", "bignum_too_large")
        return end + 1 + size
    if tag in _NAMED:
        after = _atom(data, at + 1)
        return _old(data, at, after, after + _NAMED[tag]) if tag in _OLD else after + _NAMED[tag]
    if tag in _CREATION:
        words: int = _U16.unpack_from(data, at + 1)[0]
        if not 1 <= words <= 5:
            raise EtfError(f"byte {at}: a reference of {words} words")
        after = _atom(data, at + 3)
        if tag == 114 and (data[after] > _OLD_CREATION or _U32.unpack_from(data, after + 1)[0] > _OLD_REFERENCE):
            raise EtfError(f"byte {at}: a reference beyond what its form can hold")
        return after + _CREATION[tag] + 4 * words
    if tag == 77:
        length: int = _U32.unpack_from(data, at + 1)[0]
        bits = data[at + 5]
        if length == 0 or not 1 <= bits <= 8:
            raise EtfError(f"byte {at}: a bit string with {bits} bits in its last byte")
        return at + 6 + length
    if tag == 113:
        return _integer_97(data, _atom(data, _atom(data, at + 1)))
    if tag == 99:
        text, end_of_text, _ = data[at + 1 : at + 32].partition(b"\0")
        if not end_of_text or not _FLOAT_TEXT.fullmatch(text) or not math.isfinite(float(text)):
            raise EtfError(f"byte {at}: a float that is no number")
        return at + 32
    if tag == 80:
        raise EtfError(f"byte {at}: a compressed term", "compressed")
    raise EtfError(f"byte {at}: unknown tag {tag}")


def _old(data: bytes, at: int, after: int, end: int) -> int:
    """The end of a pid, port or reference in the form with one byte of creation, of which it uses two bits."""
    if data[end - 1] > _OLD_CREATION or (data[at] == 101 and _U32.unpack_from(data, after)[0] > _OLD_REFERENCE):
        raise EtfError(f"byte {at}: more than its form can hold")
    return end


def _integer_97(data: bytes, at: int) -> int:
    if data[at] != 97:
        raise EtfError(f"byte {at}: tag {data[at]} where a small integer must be")
    return at + 2


def _children(data: bytes, at: int, tag: int) -> tuple[int, int, int] | None:
    """Of a container: where its terms begin, how many they are, where it must end (0: anywhere). None: it is none."""
    if tag == 104:
        return at + 2, data[at + 1], 0
    if tag in (105, 108, 116):
        count = _U32.unpack_from(data, at + 1)[0]
        if tag == 108:
            if count == 0:
                raise EtfError(f"byte {at}: a list of no elements that is not []")
            return at + 5, count + 1, 0
        return at + 5, 2 * count if tag == 116 else count, 0
    if tag == 112:
        return _fun(data, at)
    return None


def _scan(data: bytes, limits: Limits) -> Shape:  # noqa: C901 - one loop, kept flat for speed
    end, at, terms = len(data), 1, 1  # terms: announced so far
    owed, ends = [1], [0]  # at each level: terms to come; where it must end, or for a list, negative, where it begins
    maps: list[int] = []
    tails: list[tuple[int, int]] = []
    funs = 0  # around us: they go back as they came
    while True:
        if owed[-1] == 0:
            if ends[-1] > 0:
                if ends[-1] != at:
                    raise EtfError(f"byte {at}: a fun that does not end where it says")
                funs -= 1
            owed.pop()
            ends.pop()
            if owed:
                continue
            if at != end:
                raise EtfError(f"byte {at}: {end - at} bytes behind the term", "trailing_bytes")
            return Shape(maps, tails)
        owed[-1] -= 1
        tag = data[at]
        if tag in _FIXED:
            at += 1 + _FIXED[tag]
        elif tag in _SIZED:
            width = _SIZED[tag]
            at += 1 + width.size + width.unpack_from(data, at + 1)[0]
        elif (inside := _children(data, at, tag)) is None:
            at = _leaf(data, at, tag, limits)
        else:
            begin, count, must_end = inside
            if count > end - begin:
                raise EtfError(f"byte {at}: {count} terms announced in {max(0, end - begin)} bytes")
            if terms + count > limits.terms:
                raise EtfError(f"byte {at}: more than {limits.terms} terms", "too_many_terms")
            terms += count
            if tag == 108 and owed[-1] == 0 and ends[-1] < 0:  # a list as a list's tail: the same list
                if not funs:
                    tails.append((-ends[-1], at))
                owed[-1] = count
            else:
                if len(owed) > limits.depth and count:
                    raise EtfError(f"byte {at}: nested deeper than {limits.depth}", "too_deep")
                if tag == 112:
                    funs += 1
                elif tag == 116 and not funs:
                    maps.append(at)
                owed.append(count)
                ends.append(-at if tag == 108 else must_end)
            at = begin
        if at > end:
            raise EtfError(f"byte {end}: the term is cut off")


def check(data: bytes, limits: Limits = DEFAULT) -> Shape:
    """Raise EtfError unless data is one whole valid term behind a version byte."""
    if not data or data[0] != VERSION:
        raise EtfError("a term begins with byte 131")
    try:
        return _scan(data, limits)
    except (IndexError, struct.error):
        raise EtfError(f"byte {len(data)}: the term is cut off") from None
    except UnicodeDecodeError:
        raise EtfError("an atom that is not UTF-8") from None


def rewritten(data: bytes, shape: Shape) -> bytes:
    """The same term as erlang-py may see it: each list in one piece, [1 | [2]] as [1, 2], so that it need not recurse
    along it; each map a tuple, of MAP_MARK, which is in no term, and then keys and values in turn.
    """
    if not shape.maps and not shape.tails:
        return data
    heads = [(at, _map_head(data, at)) for at in shape.maps]
    if shape.tails:
        heads = sorted(heads + _list_heads(data, shape.tails))
    pieces, done = list[bytes](), 0
    for at, head in heads:
        pieces += (data[done:at], head)
        done = at + 5
    pieces.append(data[done:])
    return b"".join(pieces)


def _map_head(data: bytes, at: int) -> bytes:
    return b"i" + _U32.pack(2 * _U32.unpack_from(data, at + 1)[0] + 1) + MAP_MARK


def _list_heads(data: bytes, tails: list[tuple[int, int]]) -> list[tuple[int, bytes]]:
    """Of each list that has others as its tails: the elements of all; of those, nothing."""
    counts: dict[int, int] = {}
    for first, tail in tails:
        counts[first] = counts.get(first, _U32.unpack_from(data, first + 1)[0]) + _U32.unpack_from(data, tail + 1)[0]
    heads = [(first, b"l" + _U32.pack(count)) for first, count in counts.items()]
    return heads + [(tail, b"") for _, tail in tails]
