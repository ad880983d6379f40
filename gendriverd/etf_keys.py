# SPDX-License-Identifier: MIT
"""Whether a dict of these keys is made in reasonable time: hashes of numbers, and of tuples of them, are for anybody to
compute, and who chose them may want to see us compare each key with all others, or walk past all others to its place.
"""

from __future__ import annotations

import operator
from typing import Any, Final

from gendriverd.etf_quick import Atom

SAME_HASH: Final = 256  # keys of one hash
# Of a table, from which on ways are looked at: it takes 10,922 keys, and a fraction of a second at worst.
BITS: Final = 14
WAY: Final = 32  # steps to a free place, on average; k << 40 takes seven
_SECRET: Final = {bytes, str, Atom}  # their hashes are another in each process
_SHIFT, _HASH = 5, (1 << 64) - 1  # CPython's, Objects/dictobject.c


def complaint(keys: list[Any]) -> str | None:
    """None: all is well. Raises TypeError: one has no hash."""
    if len(keys) <= SAME_HASH or set(map(type, keys)) <= _SECRET:
        return None
    hashes = list(map(hash, keys))
    ordered = sorted(hashes)
    if any(map(operator.eq, ordered, ordered[SAME_HASH:])):
        return f"a map with more than {SAME_HASH} keys of the same hash"
    if _usable(BITS) < len(keys) and _long_ways(hashes):
        return f"a map whose keys were chosen so that each takes more than {WAY} steps to its place"
    return None


def _usable(bits: int) -> int:
    """Keys that a table takes before it is replaced by one that is twice as large, into which all are put anew."""
    return (2 << bits) // 3


def _long_ways(hashes: list[int]) -> bool:
    """In any of the tables that they will be in, one after the other."""
    bits = BITS
    while _steps(hashes[: _usable(bits)], bits) <= WAY * min(len(hashes), _usable(bits)):
        if len(hashes) <= _usable(bits):
            return False
        bits += 1
    return True


def _steps(hashes: list[int], bits: int) -> int:
    """To the places of all; of too many not all are counted."""
    mask, steps, most = (1 << bits) - 1, 0, WAY * len(hashes)
    taken = bytearray(mask + 1)
    for each in hashes:
        at = each & mask
        if taken[at]:
            rest = each & _HASH
            while taken[at]:
                rest >>= _SHIFT
                at = (5 * at + rest + 1) & mask
                steps += 1
            if steps > most:
                break
        taken[at] = 1
    return steps
