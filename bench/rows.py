# SPDX-License-Identifier: MIT
"""Rows of results: one value a round, in the order of the rounds, so that ratios are taken round by round."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass
class Row:
    """What was measured of one system, at one point of one workload."""

    placement: str
    system: str
    workload: str
    x: int | None
    metric: str
    unit: str
    rounds: list[float] = field(default_factory=list)


class Rows:
    """All rows of a run; a value goes to the row that it belongs to."""

    def __init__(self, placement: str = "free") -> None:
        self.placement = placement
        self._rows: dict[tuple[object, ...], Row] = {}

    def add(self, system: str, workload: str, x: int | None, metric: str, unit: str, value: float) -> None:
        key = (self.placement, system, workload, x, metric)
        self._rows.setdefault(key, Row(self.placement, system, workload, x, metric, unit)).rounds.append(value)

    def find(self, system: str, workload: str, x: int | None, metric: str) -> Sequence[float]:
        """The rounds of one row, in the present placement."""
        return self._rows[self.placement, system, workload, x, metric].rounds

    def along(self, system: str, workload: str, metric: str) -> list[tuple[int, float]]:
        """The medians of rows that differ in x, by x."""
        wanted = (self.placement, system, workload, metric)
        return sorted(
            (row.x, statistics.median(row.rounds))
            for row in self._rows.values()
            if row.x is not None and (row.placement, row.system, row.workload, row.metric) == wanted
        )

    def ratio(self, above: str, below: str, workload: str, x: int | None, metric: str = "rate") -> float:
        """Of two systems: the median of the ratios, round by round."""
        pairs = zip(self.find(above, workload, x, metric), self.find(below, workload, x, metric), strict=True)
        return statistics.median(one / other for one, other in pairs)

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = [asdict(row) for row in self._rows.values()]
        path.write_text(json.dumps({"rows": rows}, indent=1) + "\n", encoding="utf-8")

    def table(self, *metrics: str) -> Iterator[str]:
        """A line a row of these metrics, its median and how far the rounds lie apart."""
        for row in self._rows.values():
            if row.metric not in metrics:
                continue
            x = "" if row.x is None else f"{row.x:,}"
            middle = statistics.median(row.rounds)
            apart = f"{min(row.rounds):,.4g} to {max(row.rounds):,.4g}" if len(row.rounds) > 1 else ""
            where = f"{row.placement:7} {row.system:22} {row.workload:24} {x:>9}"
            yield f"{where}  {row.metric:6} {middle:14,.2f} {row.unit:9} {apart}"


@contextmanager
def placed(placement: str) -> Iterator[None]:
    """What is started meanwhile runs on one CPU (`pinned`), or on all (`free`)."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)} if placement == "pinned" else before)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
