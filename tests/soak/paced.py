# SPDX-License-Identifier: MIT
"""A steady load from Erlang (paced_load.erl) for the length of a `with` block, and what its callers were told."""

from __future__ import annotations

import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

from gendriverd.client import retryable  # noqa: E402 (its path is set above)


@dataclass
class Told:
    """By number: the outcome; and how many microseconds calls took."""

    outcomes: dict[int, str] = field(default_factory=dict)
    took: list[int] = field(default_factory=list)

    def problems(self, ledger: Path) -> list[str]:
        """What does not agree with the driver's books, in which each number that ran stands."""
        ran = [number for (number,) in struct.iter_unpack(">q", ledger.read_bytes())]
        times = Counter(ran)
        found = [f"{number} ran {count} times" for number, count in times.items() if count > 1]
        found += [f"{number} ran and nobody asked" for number in times.keys() - self.outcomes.keys()]
        for number, outcome in self.outcomes.items():
            if outcome == "ok" and not times[number]:
                found.append(f"{number} was told ok and did not run")
            if outcome not in {"ok", "cast", "wrong"} and retryable(outcome) and times[number]:
                found.append(f"{number} was told {outcome} and ran")
        return found

    def lost(self, ledger: Path, *, casts: bool = True) -> list[str]:
        """Calls that failed, `casts` that were lost, what ran out of order: nothing of it where nothing may fail."""
        ran = [number for (number,) in struct.iter_unpack(">q", ledger.read_bytes())]
        known = set(ran)
        failed = {number: outcome for number, outcome in self.outcomes.items() if outcome not in {"ok", "cast"}}
        found = [f"{number} failed: {outcome}" for number, outcome in failed.items()]
        if casts:
            sent = [number for number, outcome in self.outcomes.items() if outcome == "cast"]
            found += [f"{number}, a cast, was lost" for number in sent if number not in known]
        newest: dict[int, int] = {}
        for number in ran:
            caller, turn = number >> 32, number & 0xFFFFFFFF
            if turn % 2 == 0 and newest.get(caller, -1) > turn:
                found.append(f"{number} ran after {newest[caller]} of the same key")
            if turn % 2 == 0:
                newest[caller] = turn
        return found

    def summary(self) -> str:
        counted = Counter(self.outcomes.values())
        told = ", ".join(f"{name} {count}" for name, count in counted.most_common())
        return f"{len(self.outcomes)} requests; told: {told}\nlatency: {latency(self.took)}"


def latency(took: Sequence[int]) -> str:
    """Of microseconds, as text in milliseconds."""
    return f"p50 {percentile(took, 0.5):.2f} ms, p99 {percentile(took, 0.99):.2f} ms, max {percentile(took, 1):.2f} ms"


def percentile(values: Sequence[int], share: float) -> float:
    """In milliseconds, of microseconds."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] / 1000 if ordered else float("nan")


def compiled(directory: Path, load: str) -> list[str | Path]:
    """The directories that Erlang's code is in; `load` is a module beside this file."""
    ebin = directory / "ebin"
    ebin.mkdir(exist_ok=True)
    subprocess.run(["rebar3", "compile"], cwd=ROOT / "erlang", check=True, capture_output=True)
    subprocess.run(["erlc", "-o", ebin, Path(__file__).parent / f"{load}.erl"], check=True)
    return [ebin, *(ROOT / "erlang/_build/default/lib").glob("*/ebin")]


@contextmanager
def paced(directory: Path, url: str, instance: str, rate: int, callers: int = 100) -> Iterator[Told]:
    """Filled when the block is left. Raises CalledProcessError when the load itself fails."""
    outcomes, told = directory / f"outcomes-{instance}", Told()
    arguments = f'["{url}", {instance}, {rate}, 4, {callers}, "{outcomes}"]'
    code = compiled(directory, "paced_load")
    command: list[str | Path] = ["erl", "-noshell", "-pa", *code, "-eval", f"paced_load:main({arguments})."]
    load = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert load.stdout is not None
        if load.stdout.readline() != "ready\n":
            raise SystemExit(f"the load did not start: {load.communicate()[0]}")
        yield told
        load.communicate(timeout=60)
    finally:
        load.kill()
        load.wait()
    if load.returncode != 0:
        raise subprocess.CalledProcessError(load.returncode, "paced_load")
    read_told(outcomes, told)


def read_told(outcomes: Path, told: Told) -> None:
    """What a load has written down."""
    for line in outcomes.read_text().splitlines():
        number, outcome, after = line.split()
        told.outcomes[int(number)] = outcome
        if outcome != "cast":
            told.took.append(int(after))


def verdict(problems: Sequence[str]) -> int:
    """Print them, some; the exit code."""
    for problem in problems[:20]:
        print(f"BROKEN: {problem}", file=sys.stderr)
    print("all promises kept" if not problems else f"{len(problems)} promises broken")
    return 1 if problems else 0
