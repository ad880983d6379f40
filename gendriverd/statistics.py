# SPDX-License-Identifier: MIT
"""What the requests of each command have cost, as a host counts it in its recorder (host/stats.h has the layout).

One entry for each seat and command; seats that nobody used are holes in the memory, and are not read. Nothing in it is
trusted: any words make numbers, if wrong ones, and the work is bounded by the number of threads.
"""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import add

COMMANDS = 64  # that have entries of their own; one more is all others'
SEAT = 118784  # bytes
_BUCKETS = 106
_TIMING = 2 + _BUCKETS  # words
_WORDS = 5 + 2 * _TIMING  # of an entry
_BEYOND = 1 << 63  # what no count and no sum of nanoseconds reaches


def _begins(bucket: int) -> int:
    """Nanoseconds: four buckets for each power of two, the first from 2**10 on, and one before it."""
    power, quarter = divmod(bucket - 1, 4)
    return (4 + quarter) << (8 + power) if bucket else 0


@dataclass(frozen=True, slots=True)
class Timing:
    """How long something took, and how often."""

    sum_ns: int = 0
    most_ns: int = 0
    buckets: tuple[int, ...] = (0,) * _BUCKETS

    def quantile(self, share: float) -> float | None:
        """Seconds, at most 12.5 % off from 1 us to 68 s; None: nothing was counted."""
        wanted, seen = math.ceil(share * sum(self.buckets)), 0
        for bucket, count in enumerate(self.buckets):
            seen += count
            if count and seen >= wanted:
                return self._middle(bucket) / 1e9
        return None

    @property
    def most(self) -> float:
        """Seconds."""
        return self.most_ns / 1e9

    def _middle(self, bucket: int) -> float:
        if bucket == _BUCKETS - 1:
            return self.most_ns
        return min((_begins(bucket) + _begins(bucket + 1)) / 2, self.most_ns)

    def __add__(self, other: Timing) -> Timing:
        buckets = tuple(map(add, self.buckets, other.buckets))
        return Timing(self.sum_ns + other.sum_ns, max(self.most_ns, other.most_ns), buckets)


@dataclass(frozen=True, slots=True)
class Command:
    """Its requests that have run: those whose dispatch has returned."""

    number: int | None  # None: all that have no entry of their own
    calls: int
    casts: int
    failed: int  # of both: error_set was called, or the reply was none
    by_loop: int  # of both: run by the host's loop itself
    taken_over: int  # of those: they took so long that another thread became the loop
    waited: Timing  # from accepted to taken out by a worker
    ran: Timing  # from there to the return of dispatch

    def __add__(self, other: Command) -> Command:
        return Command(
            self.number,
            self.calls + other.calls,
            self.casts + other.casts,
            self.failed + other.failed,
            self.by_loop + other.by_loop,
            self.taken_over + other.taken_over,
            self.waited + other.waited,
            self.ran + other.ran,
        )


@dataclass(frozen=True, slots=True)
class Statistics:
    """Of a host, or with `+` of several; by the command's number, and None for the others. Only commands that ran."""

    commands: dict[int | None, Command] = field(default_factory=dict)

    def __add__(self, other: Statistics) -> Statistics:
        return Statistics(_summed([*self.commands.values(), *other.commands.values()]))


def read(fd: int, at: int, seats: int, numbers: Sequence[int]) -> Statistics:
    """Of all seats, which lie from `at` on; the first entries of each are those of these commands."""
    numbered: dict[int, int | None] = {**dict(enumerate(numbers)), COMMANDS: None}
    entries = _entries(fd, at, seats, numbered)
    return Statistics(_summed(_command(numbered[index], words) for index, words in entries))


def _summed(commands: Iterable[Command]) -> dict[int | None, Command]:
    found: dict[int | None, Command] = {}
    for each in commands:
        found[each.number] = found[each.number] + each if each.number in found else each
    return found


def _entries(fd: int, at: int, seats: int, used: Iterable[int]) -> Iterator[tuple[int, list[int]]]:
    """An entry with a word that no count ever reaches was overwritten, and is left out."""
    for begin in _written(fd, at, at + seats * SEAT):
        words = memoryview(os.pread(fd, SEAT, begin)).cast("Q")
        for index in used:
            first = index * _WORDS
            if words[first] or words[first + 1]:
                entry = words[first : first + _WORDS].tolist()
                if max(entry) < _BEYOND:
                    yield index, entry


def _command(number: int | None, words: list[int]) -> Command:
    calls, casts, failed, by_loop, taken_over, *times = words
    waited, ran = _timing(times[:_TIMING]), _timing(times[_TIMING:])
    return Command(number, calls, casts, failed, by_loop, taken_over, waited, ran)


def _timing(words: list[int]) -> Timing:
    sum_ns, most_ns, *buckets = words
    return Timing(sum_ns, most_ns, tuple(buckets))


def _written(fd: int, at: int, end: int) -> Iterator[int]:
    """Where the seats begin that were ever written to."""
    begin = at
    while begin < end:
        try:
            data = os.lseek(fd, begin, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing more
                return
            raise
        begin += (data - begin) // SEAT * SEAT
        if begin < end:
            yield begin
        begin += SEAT
