# SPDX-License-Identifier: MIT
"""Instructions and system calls a request in the host: figures that no load of the machine changes, held by a budget.

A host runs under callgrind, and again under strace, on one CPU with its client: what differs between two runs, of few
and of many requests, is what requests cost. `one at a time` waits for each answer; `128 at once` sends so many together
and waits for all answers. Casts are followed by a ping, whose answer says that they were read. System calls are those
of the loop and the workers, not of the thread that ticks by the clock while calls come.

counts.toml is the budget. Without an option: measure, and fail when a figure is more than a tenth above it. --write:
measure five times, twice beside a busy loop, and write what was steady. --records: what recorder and statistics take.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "scripts"), str(ROOT / "tests/host")]

import compiled  # noqa: E402 (its path is set above)
from gendriverd import etf  # noqa: E402
from gendriverd.etf import Atom  # noqa: E402
from host_process import HostProcess, Peer, call, cast  # noqa: E402
from rows import placed  # noqa: E402
from toolchain import find_compiler  # noqa: E402

BUDGET = ROOT / "bench" / "counts.toml"
BATCH = 128
FEW, MANY = 4 * BATCH, 12 * BATCH
SUM, NUMBERS = 1, [1, 2, 3, 4]
ANSWER = (Atom("ok"), 10)
TIMES = 5  # measured to write a budget
TRIES = 3  # and before one is said to be broken
STEADY = 0.03  # how far the five may lie apart
MARGIN = 0.1  # a figure may grow by so much,
GRAIN = 0.05  # and a number of system calls by this much more: they come in ones


class CountError(Exception):
    """One sentence for the person who counts."""


@dataclass(frozen=True)
class Case:
    """What is asked of the host, and how."""

    kind: str  # call, cast
    together: int
    transport: str
    threads: int = 4

    @property
    def name(self) -> str:
        how = "one at a time" if self.together == 1 else f"{self.together} at once"
        of = ", one worker" if self.threads == 1 else ""
        return f"{self.kind}, {how}, {self.transport}{of}"


@dataclass(frozen=True)
class Cost:
    """Of a request."""

    instructions: float
    syscalls: float


CASES = [
    Case(kind, together, transport)
    for kind in ("call", "cast")
    for together in (1, BATCH)
    for transport in ("unix", "tcp")
]
CASES += [Case("call", BATCH, transport, 1) for transport in ("unix", "tcp")]  # as no worker sends for another
FIGURES = ("instructions", "syscalls")
Budget = dict[str, dict[str, float]]


def ask(peer: Peer, case: Case, requests: int) -> None:
    """So many requests; every answer is looked at."""
    if case.kind == "call":
        frames = [etf.frame(call(i, SUM, NUMBERS)) for i in range(case.together)]
    else:
        frames = [*([etf.frame(cast(SUM, NUMBERS))] * case.together), etf.frame((Atom("ping"), 0))]
    together = b"".join(frames)
    for _ in range(requests // case.together):
        peer.sock.sendall(together)
        if case.kind == "cast":
            expect(peer, {(Atom("pong"), 0)})
        else:
            expect(peer, {(Atom("reply"), i, ANSWER) for i in range(case.together)})


def expect(peer: Peer, answers: set[tuple[object, ...]]) -> None:
    """All of these, in any order."""
    while answers:
        answers.remove(peer.receive())


def run_once(host: Path, case: Case, requests: int) -> tuple[int, int]:
    """Two hosts' whole lives with so many requests: instructions of one, system calls of the other."""
    with tempfile.TemporaryDirectory(prefix="gd-counts-") as directory:
        out, log = Path(directory, "callgrind"), Path(directory, "syscalls")
        live(host, case, requests, ["valgrind", "-q", "--tool=callgrind", f"--callgrind-out-file={out}"])
        if not can_trace():
            return instructions_in(out), 0
        live(host, case, requests, ["strace", "-f", "-qq", "-o", str(log)])
        return instructions_in(out), syscalls_in(log)


@cache
def can_trace() -> bool:
    """Not where strace is not, or may not: in some containers."""
    command = ["strace", "-qq", "-o", "/dev/null", "true"]
    if shutil.which("strace") and subprocess.run(command, check=False, capture_output=True).returncode == 0:
        return True
    print("counts: strace can trace nothing here: no system calls are counted")
    return False


def live(host: Path, case: Case, requests: int, under: list[str]) -> None:
    """From start to stop."""
    with HostProcess(host, compiled.counted(), threads=case.threads, recorded=True, under=under) as process:
        process.ready()
        ask(process.connect(tcp=case.transport == "tcp"), case, requests)
        process.stop()


def instructions_in(out: Path) -> int:
    found = re.search(r"^(?:summary|totals): (\d+)", out.read_text(encoding="utf-8"), re.MULTILINE)
    if found is None:
        raise CountError("counts: callgrind has written no total")
    return int(found[1])


def syscalls_in(log: Path) -> int:
    """All but those of the process's first thread."""
    threads = re.findall(r"^(\d+) +\w+\(", log.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
    return sum(thread != threads[0] for thread in threads)


def measure(case: Case, host: Path) -> Cost:
    few, many = (run_once(host, case, requests) for requests in (FEW, MANY))
    return Cost((many[0] - few[0]) / (MANY - FEW), (many[1] - few[1]) / (MANY - FEW))


def compiler() -> str:
    """Name and major version: another one makes other code."""
    text = subprocess.run([*find_compiler(), "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"(\d+)\.\d+", text.splitlines()[0])
    return f"{'clang' if 'clang' in text else 'gcc'} {found[1] if found else '?'}"


def above(figure: str, value: float, budget: float) -> bool:
    return value > budget * (1 + MARGIN) + (GRAIN if figure == "syscalls" else 0)


def broken(cost: Cost, budget: dict[str, float]) -> list[str]:
    return [figure for figure in FIGURES if figure in budget and above(figure, getattr(cost, figure), budget[figure])]


def least(costs: Sequence[Cost]) -> Cost:
    return Cost(min(cost.instructions for cost in costs), min(cost.syscalls for cost in costs))


def hold(budget: Budget, host: Path) -> Iterator[str]:
    """Measure all cases; yield the sentences about what has grown. What seems to have is measured again."""
    for case in CASES:
        allowed = budget.get(case.name, {})
        cost = measure(case, host)
        for _ in range(TRIES - 1):
            if not broken(cost, allowed):
                break
            cost = least([cost, measure(case, host)])
        print(line(case, cost, allowed), flush=True)
        for figure in broken(cost, allowed):
            value = getattr(cost, figure)
            yield f"counts: {case.name}: {figure} a request grew from {allowed[figure]:g} to {value:.4g}"


def line(case: Case, cost: Cost, allowed: dict[str, float]) -> str:
    told = [f"{case.name:36}"]
    for figure in FIGURES:
        beside = f"({allowed[figure]:g})" if figure in allowed else "(not held)"
        told.append(f"{getattr(cost, figure):9.2f} {figure} {beside:10}")
    return "  ".join(told)


def steady(values: Sequence[float], figure: str) -> bool:
    apart = max(values) - min(values)
    return apart <= STEADY * max(values) or (figure == "syscalls" and apart <= GRAIN)


@contextmanager
def beside(*, busy: bool) -> Iterator[None]:
    """A loop that does nothing shares the CPU, if `busy`: what that changes is not steady."""
    if not busy:
        yield
        return
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        try:
            yield
        finally:
            process.kill()


def write(host: Path) -> None:
    """The budget, of what was steady."""
    if not can_trace():
        raise CountError("counts: a budget needs strace")
    lines = [
        "# SPDX-License-Identifier: MIT",
        "# What a request may cost in the host: instructions, system calls. Written by `make counts-write`, held by",
        "# `make counts`, which lets each grow by a tenth. What is not here was not steady: threads decide about it.",
        f'compiler = "{compiler()}"',
    ]
    for case in CASES:
        costs = []
        for turn in range(TIMES):
            with beside(busy=turn % 2 == 1):
                costs.append(measure(case, host))
        lines += ["", f'["{case.name}"]']
        for figure in FIGURES:
            values = sorted(getattr(cost, figure) for cost in costs)
            print(f"{case.name:36} {figure:12} {' '.join(f'{value:.2f}' for value in values)}", flush=True)
            if steady(values, figure):
                lines.append(f"{figure} = {round(values[TIMES // 2], 0 if figure == 'instructions' else 2):g}")
    BUDGET.write_text("\n".join(lines) + "\n", encoding="utf-8")


def records(host: Path) -> None:
    """What of a request's instructions is for recorder and statistics."""
    for case in CASES:
        cost, without = measure(case, host), measure(case, compiled.host_without_records())
        share = 1 - without.instructions / cost.instructions
        print(
            f"{case.name:36} {cost.instructions:8.0f} with, {without.instructions:8.0f} without: {share:.1%}",
            flush=True,
        )


def check(host: Path) -> int:
    budget: Budget = tomllib.loads(BUDGET.read_text(encoding="utf-8"))
    written_with = budget.pop("compiler", "?")
    if written_with != compiler():
        print(f"counts: the budget is of {written_with}, and this is {compiler()}: measured, but held to nothing")
        budget = {}
    if unknown := sorted(set(budget) - {case.name for case in CASES}):
        raise CountError(f"{BUDGET}: nothing here measures {unknown[0]!r}")
    grown = list(hold(budget, host))
    print(*grown, sep="\n", end="\n" if grown else "")
    if grown:
        print("counts: if that is meant, `make counts-write` writes the budget anew")
    return bool(grown)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--write", action="store_true", help="write the budget anew")
    parser.add_argument("--records", action="store_true", help="what recorder and statistics take")
    options = parser.parse_args()
    host = compiled.host()
    try:
        with placed("pinned"):
            if options.write:
                write(host)
            elif options.records:
                records(host)
            else:
                return check(host)
    except CountError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
