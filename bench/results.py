# SPDX-License-Identifier: MIT
"""results.json: one row for each placement, system, workload, x and metric, with one value a round."""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

X = int | str | None
Row = dict[str, Any]

# What of a result becomes a row: workload -> its key -> metric and unit.
METRICS: dict[str, dict[str, tuple[str, str]]] = {
    "latency": {"p50": ("p50", "us"), "p99": ("p99", "us"), "p999": ("p999", "us"), "cpu": ("cpu", "us")},
    "calls": {"rate": ("rate", "1/s"), "cpu": ("cpu", "us"), "rss": ("rss", "KiB")},
    "casts": {"rate": ("rate", "1/s"), "cpu": ("cpu", "us")},
    "payload": {"throughput": ("throughput", "MB/s")},
    "cpu": {"rate": ("rate", "1/s")},
    "mixed sizes": {"p50": ("p50", "us"), "p99": ("p99", "us"), "large": ("rate", "1/s")},
    "mixed times": {"same": ("delay", "ms"), "other": ("delay", "ms"), "threads": ("threads", "")},
    "idle connections": {"p50": ("p50", "us"), "p99": ("p99", "us"), "rss": ("rss", "KiB")},
    "keyed": {"rate": ("rate", "1/s")},
    "parts": {"p50": ("p50", "us"), "p99": ("p99", "us"), "throughput": ("throughput", "MB/s")},
}
# Where two callers of one run are told apart, x says which.
SIDES = {"same", "other"}


def x_of(workload: str, key: str, x: X) -> X:
    if key in SIDES:
        return key
    return None if workload == "mixed times" else x


@dataclass
class Results:
    """What was measured so far."""

    versions: dict[str, str]
    short: bool
    rows: dict[tuple[str, str, str, X, str], Row] = field(default_factory=dict)
    left_out: list[dict[str, str]] = field(default_factory=list)
    _clock: float = field(default_factory=time.monotonic)
    _began: str = field(default_factory=lambda: dt.datetime.now(dt.UTC).isoformat(timespec="seconds"))

    def add(self, placement: str, system: str, workload: str, x: X, result: Mapping[str, float]) -> None:
        """One round of one cell."""
        for key, (metric, unit) in METRICS[workload].items():
            if key in result:
                self.value(placement, system, workload, x_of(workload, key, x), metric, unit, result[key])

    def value(self, placement: str, system: str, workload: str, x: X, metric: str, unit: str, number: float) -> None:
        key = (placement, system, workload, x, metric)
        names = {"placement": placement, "system": system, "workload": workload, "x": x, "metric": metric, "unit": unit}
        self.rows.setdefault(key, {**names, "rounds": []})["rounds"].append(number)

    def drop(self, placement: str, system: str, workload: str, x: X) -> None:
        """A cell that has broken: half of its rounds would only mislead."""
        for key, row in list(self.rows.items()):
            if key[:3] == (placement, system, workload) and (row["x"] == x or workload == "mixed times"):
                del self.rows[key]

    def leave_out(self, placement: str, system: str, workload: str, reason: str) -> None:
        about = {"placement": placement, "system": system, "workload": workload, "reason": reason}
        if about not in self.left_out:
            self.left_out.append(about)

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        whole = {
            "machine": machine(),
            "versions": self.versions,
            "began": self._began,
            "seconds": round(time.monotonic() - self._clock),
            "short": self.short,
            "left_out": self.left_out,
            "rows": list(self.rows.values()),
        }
        path.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")

    def tables(self) -> str:
        """Every metric as a plain table: a line a system, a column an x, medians of the rounds."""
        kinds = dict.fromkeys((key[0], key[2], key[4], row["unit"]) for key, row in self.rows.items())
        return "\n\n".join(self._table(*kind) for kind in kinds)

    def _table(self, placement: str, workload: str, metric: str, unit: str) -> str:
        rows = [key for key in self.rows if (key[0], key[2], key[4]) == (placement, workload, metric)]
        columns = list(dict.fromkeys(key[3] for key in rows))
        if all(isinstance(x, int) for x in columns):
            columns.sort(key=lambda x: int(x or 0))
        lines = [f"{placement}: {workload}, {metric} {unit}".rstrip()]
        lines.append(f"  {'':24}" + "".join(f"{'' if x is None else x:>12}" for x in columns))
        for system in dict.fromkeys(key[1] for key in rows):
            cells = [self.rows.get((placement, system, workload, x, metric)) for x in columns]
            lines.append(f"  {system:24}" + "".join(f"{shown(cell):>12}" for cell in cells))
        return "\n".join(lines)


def append(path: Path, rows: list[Row]) -> None:
    """Rows that others have measured, into a results.json that is there."""
    whole = json.loads(path.read_text(encoding="utf-8"))
    whole["rows"] += rows
    path.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")


def shown(row: Row | None) -> str:
    if row is None:
        return "-"
    value = float(median(row["rounds"]))
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def machine() -> dict[str, object]:
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    models = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "load": os.getloadavg()[0],
    }
