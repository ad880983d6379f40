# SPDX-License-Identifier: MIT
"""The ledger: what callers were told against what ran, while the host dies again and again under them.

    python tests/soak/soak.py SECONDS [SPARES]

In rounds of a minute, as the books of millions of calls are held in memory.

Every call carries a number; the driver writes down what it runs (tests/drivers/ledger.c), the callers what they are
told (ledger_load.erl). What was told `never started` must not be in the driver's books, what was told to have run must
be there once, and nothing twice. Ends with 1 when the books do not agree; prints how long callers waited.
"""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

from gendriverd.client import retryable  # noqa: E402 (its path is set above)
from running_daemon import running_daemon  # noqa: E402

CONNECTIONS, CALLERS, THREADS = 4, 64, 4
ROUND = 60  # seconds
UNKNOWABLE = 4  # of the 13 ways to die: nobody can say which request it was


@dataclass
class Books:
    """What was told, by number; what ran; and microseconds since the deadly call, where it hit somebody."""

    told: dict[int, str]
    ran: Counter[int]
    waited: list[int]
    served: list[int]
    deadly: Counter[str]

    def problems(self) -> list[str]:
        """What does not agree; empty: all of it does."""
        found = []
        for number, outcome in self.told.items():
            times = self.ran[number]
            if retryable(outcome) and times:
                found.append(f"{number} was told {outcome} and ran")
            elif outcome in {"ok", "crashed"} and times != 1:
                found.append(f"{number} was told {outcome} and ran {times} times")
        found += [f"{number} ran {times} times" for number, times in self.ran.items() if times > 1]
        found += [f"{number} ran and nobody asked" for number in self.ran.keys() - self.told.keys()]
        return found


def read(outcomes: Path, ledger: Path) -> Books:
    books = Books({}, Counter(), [], [], Counter())
    for line in outcomes.read_text().splitlines():
        number, outcome, after = line.split()
        kind, _, rest = outcome.partition("_")
        if kind == "deadly":
            books.deadly[rest] += 1
        elif kind == "served":
            books.served.append(int(after))
        if int(after) and kind != "served":
            books.waited.append(int(after))
        if int(number) in books.told:
            raise SystemExit(f"{number} was told two outcomes")
        books.told[int(number)] = rest if kind in {"deadly", "served"} else outcome
    data = ledger.read_bytes()
    books.ran.update(number for (number,) in struct.iter_unpack(">q", data))
    return books


def percentile(values: Sequence[int], share: float) -> float:
    """In milliseconds, of microseconds."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] / 1000 if ordered else float("nan")


def run(seconds: int, spares: int, directory: Path, drivers: Path) -> Books:
    """One run; raises CalledProcessError when the load itself fails, as when a neighbour's call does."""
    ebin = directory / "ebin"
    ebin.mkdir()
    subprocess.run(["rebar3", "compile"], cwd=ROOT / "erlang", check=True, capture_output=True)
    subprocess.run(["erlc", "-o", ebin, Path(__file__).parent / "ledger_load.erl"], check=True)
    code = [ebin, *(ROOT / "erlang/_build/default/lib").glob("*/ebin")]
    ledger, outcomes = directory / "ledger", directory / "outcomes"
    instances: dict[str, dict[str, object]] = {
        "ledger": {
            "driver": drivers / "test/ledger.so",
            "threads": THREADS,
            "settings": {"ledger": str(ledger)},
            "restart": {"first": 0, "max": 0},
            "spares": spares,
        },
        "echo": {"driver": drivers / "echo.so"},
    }
    with running_daemon(directory, instances, settings={"log_level": "info"}) as daemon:
        arguments = f'["{daemon.tcp_url}", {seconds}, {CONNECTIONS}, {CALLERS}, "{outcomes}"]'
        command: list[str | Path] = ["erl", "-noshell", "-pa", *code, "-eval", f"ledger_load:main({arguments})."]
        subprocess.run(command, check=True, timeout=seconds + 120)
        exits = [event for event in daemon.events if event.get("event") == "host_exited"]
        strangers = [event for event in exits if event["instance"] != "ledger"]
        if strangers:
            raise SystemExit(f"a neighbour's host ended: {strangers[0]}")
    return read(outcomes, ledger)


@dataclass
class Sums:
    """Of all rounds."""

    outcomes: Counter[str] = field(default_factory=Counter)
    deadly: Counter[str] = field(default_factory=Counter)
    waited: list[int] = field(default_factory=list)
    served: list[int] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def add(self, books: Books) -> None:
        self.outcomes.update(books.told.values())
        self.deadly.update(books.deadly)
        self.waited += books.waited
        self.served += books.served
        self.problems += books.problems()

    def report(self) -> str:
        lines = [
            f"{self.outcomes.total()} calls, {self.deadly.total()} crashes",
            "told: " + ", ".join(f"{name} {count}" for name, count in self.outcomes.most_common()),
            "the deadly calls were told: " + ", ".join(f"{name} {count}" for name, count in self.deadly.most_common()),
        ]
        for name, values in (("crash to answer", self.waited), ("crash to serving again", self.served)):
            lines.append(f"{name}: p50 {percentile(values, 0.5):.1f} ms, p99 {percentile(values, 0.99):.1f} ms")
        return "\n".join(lines)


def main() -> int:
    left = int(sys.argv[1]) if len(sys.argv) > 1 else 600
    spares = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    drivers = Path(os.environ.get("GENDRIVERD_DRIVERS") or ROOT / "build/drivers")
    sums = Sums()
    while left > 0:
        with tempfile.TemporaryDirectory(prefix="gendriverd-soak-") as directory:
            sums.add(run(min(left, ROUND), spares, Path(directory), drivers))
        left -= ROUND
    print(sums.report())
    for problem in sums.problems[:20]:
        print(f"NOT ACCOUNTED FOR: {problem}", file=sys.stderr)
    print(f"{sums.outcomes.total() - len(sums.problems)} passed, {len(sums.problems)} failed")
    return 1 if sums.problems else 0


if __name__ == "__main__":
    sys.exit(main())
