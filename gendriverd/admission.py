# SPDX-License-Identifier: MIT
"""Who may begin a handshake, before anything is read: bounds on those under way, and penalties for those that fail.

Early drop, as OpenSSH's MaxStartups: above a share of the bound a new one is refused by chance, and the more surely the
fuller it is; so whoever fills the room does not keep everybody else out. Penalties, as its PerSourcePenalties: a source
that fails again and again is not listened to for a time that doubles. Only failures count, so honest clients may come
back all at once; one success pays a source's debt. Pure: time and chance are given.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import NamedTuple

from gendriverd.schema import DaemonConfig
from gendriverd.sources import Source

DOUBLINGS_MAX = 64


class Verdict(Enum):
    COME_IN = "come_in"  # then leave() is owed
    BUSY = "busy"
    PENALISED = "penalised"


@dataclass(frozen=True)
class Bounds:
    """The settings of [daemon], and how many under way make the early drop begin."""

    settings: DaemonConfig
    drop_from: int
    exempt: tuple[IPv4Network | IPv6Network, ...]
    unix_exempt: bool

    @classmethod
    def of(cls, settings: DaemonConfig) -> Bounds:
        networks = tuple(ip_network(each) for each in settings.penalty_exempt if each != "unix")
        drop_from = max(1, int(settings.handshake_pending * settings.handshake_drop_from))
        return cls(settings, drop_from, networks, "unix" in settings.penalty_exempt)

    def exempts(self, source: Source) -> bool:
        if source.address is None:
            return self.unix_exempt
        return any(source.address in network for network in self.exempt)

    def share(self, source: Source) -> int:
        """How many of one source may be under way: one that is exempt stays below the early drop, which is for all."""
        return self.drop_from if self.exempts(source) else self.settings.handshake_per_source


@dataclass
class Debt:
    failures: int = 0
    since: float = 0.0  # the newest of them
    until: float = 0.0  # it is not listened to
    closed: int = 0  # so many connections, meanwhile


class Penalty(NamedTuple):
    """For the log."""

    source: str
    failures: int
    seconds: float
    closed: int  # connections that came during the one before


class Places:
    """Who has one, by source: so many in all, and of each source its share."""

    def __init__(self) -> None:
        self.taken = 0
        self._by_source = Counter[str]()

    def has_room(self, source: Source, bounds: Bounds) -> bool:
        in_all = self.taken < bounds.settings.handshake_pending
        return in_all and self._by_source[source.name] < bounds.share(source)

    def take(self, source: Source) -> None:
        self.taken += 1
        self._by_source[source.name] += 1

    def give_back(self, source: Source) -> None:
        self.taken -= 1
        self._by_source[source.name] -= 1
        if not self._by_source[source.name]:
            del self._by_source[source.name]


class Admission:
    """`chance` gives a number of 0 to 1, without 1. `bounds` may be replaced at any time."""

    def __init__(self, bounds: Bounds, chance: Callable[[], float]) -> None:
        self.bounds = bounds
        self._chance = chance
        self.under_way = Places()
        self._debts: OrderedDict[str, Debt] = OrderedDict()  # the one looked at last is last

    def enter(self, source: Source, now: float) -> Verdict:
        if self._is_penalised(source, now):
            return Verdict.PENALISED
        if not self.under_way.has_room(source, self.bounds) or self._is_dropped():
            return Verdict.BUSY
        self.under_way.take(source)
        return Verdict.COME_IN

    def leave(self, source: Source) -> None:
        """It has said what it had to say, or has failed."""
        self.under_way.give_back(source)

    def succeeded(self, source: Source) -> None:
        self._debts.pop(source.name, None)

    def failed(self, source: Source, now: float) -> Penalty | None:
        """The penalty that this failure brings."""
        settings = self.bounds.settings
        if settings.penalty_after == 0 or self.bounds.exempts(source):
            return None
        debt = self._debt(source.name, now)
        if now < debt.until:
            return None  # it was under way when that came: one penalty for all of these
        debt.failures += 1
        debt.since = now
        doublings = debt.failures - settings.penalty_after
        if doublings < 0:
            return None
        seconds = min(settings.penalty_first * 2.0 ** min(doublings, DOUBLINGS_MAX), settings.penalty_max)
        debt.until = now + seconds
        closed, debt.closed = debt.closed, 0
        return Penalty(source.name, debt.failures, seconds, closed)

    def _debt(self, name: str, now: float) -> Debt:
        """What a source has failed: forgotten after penalty_max without a failure, or when too many others have."""
        debt = self._debts.pop(name, None)
        if debt is None or now - max(debt.since, debt.until) > self.bounds.settings.penalty_max:
            debt = Debt()
        self._debts[name] = debt
        while len(self._debts) > self.bounds.settings.penalty_sources:
            self._debts.popitem(last=False)
        return debt

    def _is_penalised(self, source: Source, now: float) -> bool:
        debt = self._debts.get(source.name)
        if debt is None or now >= debt.until or self.bounds.exempts(source):
            return False
        self._debts.move_to_end(source.name)
        debt.closed += 1
        return True

    def _is_dropped(self) -> bool:
        full, begin = self.bounds.settings.handshake_pending, self.bounds.drop_from
        taken = self.under_way.taken
        return taken > begin and self._chance() < (taken - begin) / (full - begin)
