# SPDX-License-Identifier: MIT
"""What gendriverd means to reach beside its alternatives, as data, and whether the rows of a run say that it does.

A goal compares two rows of one placement round by round, as the machine is not the same from one minute to the next,
and takes the median of the ratios. Without `theirs` it bounds the values themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from results import Row, X

Relation = Literal["<=", ">="]
Wanted = tuple[Relation, float]
Verdict = Literal["met", "not met", "not measured"]
TRANSFER = 256 * 1024 * 1024
MIB = 1024 * 1024


@dataclass(frozen=True)
class Cell:
    """Names a row, but for its placement."""

    system: str
    workload: str
    x: X
    metric: str


@dataclass(frozen=True)
class Goal:
    """`ours`, or its ratio to `theirs`, is to be at most or at least the bound."""

    text: str
    placement: str
    ours: Cell
    theirs: Cell | None
    relation: Relation
    bound: float
    unit: str = ""  # of the bound, where it is no ratio
    every: bool = False  # the worst round counts, not the middle one

    @property
    def wanted(self) -> str:
        return f"{self.relation} {self.bound:,.10g} {self.unit}".rstrip()


@dataclass(frozen=True)
class Found:
    """What a run says of a goal: one value a round."""

    goal: Goal
    values: tuple[float, ...]

    @property
    def value(self) -> float | None:
        """The one that counts. None: not measured."""
        if not self.values:
            return None
        if self.goal.every:
            return max(self.values) if self.goal.relation == "<=" else min(self.values)
        return float(median(self.values))

    @property
    def verdict(self) -> Verdict:
        if (value := self.value) is None:
            return "not measured"
        met = value <= self.goal.bound if self.goal.relation == "<=" else value >= self.goal.bound
        return "met" if met else "not met"


Index = dict[tuple[str, Cell], list[float]]


def index(rows: Iterable[Row]) -> Index:
    """Rounds by placement and cell."""
    return {
        (row["placement"], Cell(row["system"], row["workload"], row["x"], row["metric"])): row["rounds"] for row in rows
    }


def ratios(above: Sequence[float], below: Sequence[float]) -> tuple[float, ...]:
    """Round by round. Nothing where the rounds are not the same ones: their ratio would mean nothing."""
    if len(above) != len(below) or 0 in below:
        return ()
    return tuple(one / other for one, other in zip(above, below, strict=True))


def find(goal: Goal, known: Index) -> Found:
    ours = known.get((goal.placement, goal.ours), [])
    if goal.theirs is None:
        return Found(goal, tuple(ours))
    return Found(goal, ratios(ours, known.get((goal.placement, goal.theirs), [])))


def evaluate(rows: Iterable[Row], goals: Iterable[Goal] | None = None) -> list[Found]:
    known = index(rows)
    return [find(goal, known) for goal in (GOALS if goals is None else goals)]


# --- the goals ---------------------------------------------------------------


def against(
    text: str, placement: str, ours: str, theirs: str, workload: str, x: X, metric: str, wanted: Wanted
) -> Goal:
    """The same cell of two systems."""
    return Goal(text, placement, Cell(ours, workload, x, metric), Cell(theirs, workload, x, metric), *wanted)


def rate(placement: str, ours: str, theirs: str, callers: int, least: float) -> Goal:
    each = "1 caller" if callers == 1 else f"{callers:,} callers"
    text = f"{ours} against {theirs}, {each}, rate"
    return against(text, placement, ours, theirs, "calls", callers, "rate", (">=", least))


def p50(ours: str, most: float) -> Goal:
    text = f"{ours} against dirty NIF, 1 caller, p50"
    return against(text, "pinned", ours, "dirty NIF", "latency", 1, "p50", ("<=", most))


def absolute(text: str, placement: str, ours: Cell, wanted: Wanted, unit: str) -> Goal:
    return Goal(text, placement, ours, None, *wanted, unit)


def delay(where: str, told: str) -> Goal:
    cell = Cell("gendriverd tcp", "mixed times", where, "delay")
    text = f"worst delay of others on {told}, beside calls of 1 us, one in 90 of 300 ms"
    return Goal(text, "free", cell, None, "<=", 10, "ms", every=True)


PINNED = (
    p50("gendriverd tcp plain", 1.5),
    p50("gendriverd unix plain", 1.25),
    p50("gendriverd conn unix", 0.85),
    p50("gendriverd conn tcp", 1.1),
    *(rate("pinned", "gendriverd tcp plain", "raw tcp plain", callers, 0.95) for callers in (16, 128, 1024)),
    rate("pinned", "gendriverd tcp plain", "C node", 128, 5),
    rate("pinned", "gendriverd tcp plain", "port mux", 128, 2),
    rate("pinned", "gendriverd tcp plain", "port best", 128, 0.95),
    rate("pinned", "gendriverd tcp plain", "dirty NIF", 128, 0.40),
    rate("pinned", "gendriverd tcp plain", "naive trio", 128, 60),
    rate("pinned", "gendriverd tcp plain", "gRPC Python", 128, 50),
    against("casts against C node", "pinned", "gendriverd tcp plain", "C node", "casts", 1, "rate", (">=", 4)),
    against(
        "recorder and statistics: CPU time a request, 128 deep, against a host without",
        "pinned",
        "host alone",
        "host without records",
        "calls",
        128,
        "cpu",
        ("<=", 1.02),
    ),
)

FREE = (
    *(rate("free", "gendriverd tcp plain", "raw tcp plain", callers, 0.97) for callers in (128, 1024)),
    *(
        against(
            f"16 callers with {us:,} us of CPU each, against dirty NIF, rate",
            "free",
            "gendriverd tcp",
            "dirty NIF",
            "cpu",
            us,
            "rate",
            (">=", least),
        )
        for us, least in ((1000, 0.95), (100, 0.85))
    ),
    delay("other", "another connection"),
    delay("same", "the same connection"),
    absolute(
        "threads of a host meanwhile: four workers, the loop, and two that watch",
        "free",
        Cell("gendriverd tcp", "mixed times", None, "threads"),
        ("<=", 7),
        "",
    ),
    *(
        against(
            f"echo of {size // MIB} MiB against raw tcp, MB/s",
            "free",
            "gendriverd tcp",
            "raw tcp",
            "payload",
            size,
            "throughput",
            (">=", 0.90),
        )
        for size in (MIB, 16 * MIB)
    ),
    Goal(
        "small calls beside 256 MiB in parts on another connection, against none, p99",
        "free",
        Cell("gendriverd tcp", "parts", TRANSFER, "p99"),
        Cell("gendriverd tcp", "parts", 0, "p99"),
        "<=",
        2,
    ),
    absolute(
        "host alone, pipelined 128 deep, rate", "free", Cell("host alone", "calls", 128, "rate"), (">=", 1.5e6), "1/s"
    ),
    against(
        "host alone, 128 deep, against the same loop with no pool, rate",
        "free",
        "host alone",
        "loop alone",
        "calls",
        128,
        "rate",
        (">=", 0.9),
    ),
    rate("free", "gendriverd tcp plain", "gendriverd tcp", 128, 1.0),
    rate("free", "gendriverd tcp plain", "gen_server", 128, 0.80),
    rate("free", "gendriverd pool 2", "gen_server", 1024, 0.95),
    rate("free", "gendriverd batch 128", "gendriverd tcp", 128, 2.5),
    absolute(
        "memory of a host, but for its driver",
        "free",
        Cell("host alone", "memory, idle", None, "rss"),
        ("<=", 3072),
        "KiB",
    ),
    absolute("a host's start, until it is ready", "free", Cell("host alone", "start", None, "start"), ("<=", 10), "ms"),
    rate("free", "Python client", "grpcio client", 128, 5),
    rate("free", "gendriverd tls", "gendriverd tcp", 128, 0.4),
)

GOALS = (*PINNED, *FREE)
