# SPDX-License-Identifier: MIT
"""Keys that were chosen to take a dict ages are no map; all others are, however many and regular they are."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from gendriverd import etf
from gendriverd.etf import EtfError
from gendriverd.etf_keys import BITS, _usable

MASK = (1 << BITS) - 1


def chain(length: int) -> list[int]:
    """So many places, each the next step from the one before."""
    places = [0]
    while len(places) < length:
        places.append((5 * places[-1] + 1) & MASK)
    return places


def onto(places: set[int], seed: int) -> Iterator[int]:
    """Integers whose every step, as long as their hash has a say in it, is on one of these."""
    chosen, known = random.Random(seed), sorted(places)
    while True:
        number = at = chosen.choice(known)
        for shift in range(5, 61, 5):
            have = min(shift + BITS - 5, 60)
            ways = [number | more << have for more in range(1 << min(5, 60 - have))]
            fitting = [way for way in ways if (5 * at + (way >> shift) + 1) & MASK in places]
            if not fitting:
                break
            number = chosen.choice(fitting)
            at = (5 * at + (number >> shift) + 1) & MASK
        else:
            if number > MASK:
                yield number


@pytest.mark.parametrize("more", [0, 12_000])
def test_keys_of_which_many_walk_along_a_chain_are_refused(more: int) -> None:
    """In the table that they would end up in, or in one before."""
    places = chain(6_000)
    walkers = onto(set(places), 1)
    keys = dict.fromkeys(places) | {next(walkers): None for _ in range(600)}
    free = iter(range(1 << 55, 1 << 56, 12_345_678_901))
    while len(keys) < _usable(BITS) + 1 + more:
        keys[next(free)] = None
    assert len({hash(key) for key in keys}) == len(keys)
    with pytest.raises(EtfError, match="more than 32 steps to its place") as refused:
        etf.decode(etf.encode(keys))
    assert refused.value.reason == "not_representable"


@pytest.mark.parametrize(
    "keys",
    [
        range(50_000),
        range(0, -50_000, -1),
        [key << 40 for key in range(50_000)],
        [key << 17 for key in range(50_000)],
        [float(key) for key in range(2, 30_000)],
        [(x, y) for x in range(-150, 150) for y in range(150)],
        [b"%d" % key for key in range(50_000)],
    ],
    ids=["up", "down", "high", "middle", "floats", "pairs", "binaries"],
)
def test_keys_as_programs_have_them_are_a_map(keys: list[object]) -> None:
    wanted: dict[object, object] = {key: [] for key in keys}
    assert etf.decode(etf.encode(wanted)) == wanted
