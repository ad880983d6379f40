# SPDX-License-Identifier: MIT
"""Which requests of an instance have killed its hosts so often that they are refused; pure: time is given.

A death counts when the request that did it is known, ran alone in its host, and its bytes are known (up to 1 MiB). A
request without params never counts: refusing it would close the whole command.
"""

from __future__ import annotations

import hashlib
from collections import deque
from dataclasses import dataclass

from gendriverd.aftermath import Guilt
from gendriverd.recorder import Record, State

COUNTED_MAX = 1024  # fingerprints; the one that killed longest ago is forgotten
REFUSED_MAX = 64  # at once, as in the host (host/quarantine.h); the one that ends first goes
NOTHING = b"j"  # the params of a request without any: []


@dataclass(frozen=True)
class Fingerprint:
    """What a request is known by: `params_sha256` of reports."""

    command: int
    length: int  # bytes of params
    sha256: bytes


@dataclass(frozen=True)
class Entry:
    """A request that is refused."""

    fingerprint: Fingerprint
    deaths: int
    until: float


def fingerprint(record: Record, guilt: Guilt | None) -> Fingerprint | None:
    """Of the request that killed this host, if its death counts."""
    running = [each for each in record.requests if each.state is State.RUNNING or each.abandoned]
    if guilt is None or any(each is not guilt.request for each in running):
        return None
    kept = record.death.params if record.death is not None else None
    params = kept if kept is not None else guilt.request.params
    if params is None or params == NOTHING:
        return None
    return Fingerprint(guilt.request.command, len(params), hashlib.sha256(params).digest())


class Quarantine:
    """`deaths` within `seconds` and it is refused for as long; 0: never. Times as given."""

    def __init__(self, deaths: int, seconds: float) -> None:
        self._deaths = deaths
        self._seconds = seconds
        self._counted: dict[Fingerprint, deque[float]] = {}  # the newest last
        self._refused: dict[Fingerprint, Entry] = {}

    def died(self, killer: Fingerprint, now: float) -> Entry | None:
        """Count a death; the entry that it makes."""
        if self._deaths == 0:
            return None
        times = self._counted.pop(killer, deque(maxlen=self._deaths))
        times.append(now)
        self._counted[killer] = times
        if len(self._counted) > COUNTED_MAX:
            del self._counted[next(iter(self._counted))]
        if len(times) < self._deaths or now - times[0] > self._seconds:
            return None
        del self._counted[killer]
        return self._refuse(Entry(killer, self._deaths, now + self._seconds))

    def _refuse(self, entry: Entry) -> Entry:
        self._refused.pop(entry.fingerprint, None)
        if len(self._refused) >= REFUSED_MAX:
            del self._refused[min(self._refused.values(), key=lambda each: each.until).fingerprint]
        self._refused[entry.fingerprint] = entry
        return entry

    def entries(self, now: float) -> list[Entry]:
        """What is refused now."""
        self._refused = {key: entry for key, entry in self._refused.items() if entry.until > now}
        return list(self._refused.values())

    def succeed(self, old: Quarantine, now: float) -> None:
        """After a reload: what was counted and refused goes on, if there still is a quarantine."""
        if self._deaths:
            self._counted = {key: deque(times, self._deaths) for key, times in old._counted.items()}
            self._refused = {entry.fingerprint: entry for entry in old.entries(now)}
