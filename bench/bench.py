# SPDX-License-Identifier: MIT
"""gendriverd beside its alternatives: one load generator, interleaved rounds, right answers before anything is timed.

    python bench/bench.py [--short] [--rounds N] [--seconds S] [--systems a,b] [--workloads a,b]
                          [--placement pinned,free] [--out DIR]

Writes results.json and prints its tables. A system that is not to be had here is left out, and that is said; with
CI=true it is an error. Figures move from run to run with the machine: only ratios of the same run, round by round, mean
anything.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "scripts"), str(ROOT / "bench")]

import native  # noqa: E402 (its path is set above)
from gendriverd import __version__  # noqa: E402
from idle import Idle, many_descriptors, most  # noqa: E402
from proc import placed, status  # noqa: E402
from results import METRICS, Results  # noqa: E402
from running_daemon import DaemonTrouble  # noqa: E402
from services import Bed  # noqa: E402
from systems import SYSTEMS, Opened, Result, System  # noqa: E402
from vm import SystemTrouble, running_vm  # noqa: E402

OUT = ROOT / "build" / "bench"
PLACEMENTS = ("pinned", "free")
# Of a 300 ms stall something must be seen; a transfer must get going.
LEAST = {"mixed times": 700, "parts": 200}
# In the short form: which x stand for the others.
SHORT: dict[str, tuple[int, ...]] = {
    "calls": (1, 128),
    "payload": (64, 1048576),
    "cpu": (100,),
    "idle connections": (0, 200),
}


@dataclass(frozen=True)
class Plan:
    """What was asked for."""

    rounds: int
    milliseconds: int
    systems: tuple[str, ...]
    workloads: tuple[str, ...]
    placements: tuple[str, ...]
    out: Path
    short: bool

    def window(self, workload: str) -> int:
        return max(self.milliseconds, LEAST.get(workload, 0))

    def wanted(self) -> list[System]:
        """The systems asked for, each with the workloads and x asked for."""
        return [replace(each, workloads=self._of(each)) for each in SYSTEMS if each.name in self.systems]

    def _of(self, system: System) -> dict[str, tuple[int, ...]]:
        return {name: self._xs(name, xs) for name, xs in system.workloads.items() if name in self.workloads}

    def _xs(self, workload: str, xs: tuple[int, ...]) -> tuple[int, ...]:
        """Not more idle connections than there are descriptors for."""
        possible = tuple(x for x in xs if workload != "idle connections" or x <= most())
        if self.short and workload in SHORT:
            return tuple(x for x in SHORT[workload] if x in xs or workload == "idle connections")
        return possible


class Run:
    """All workloads on one placement."""

    def __init__(self, plan: Plan, results: Results, placement: str) -> None:
        self.plan, self.results, self.placement = plan, results, placement
        self.there: dict[str, tuple[System, Opened]] = {}
        self.idle: dict[str, Idle] = {}

    def everything(self, built: Path, ebin: Path) -> None:
        with placed(self.placement), many_descriptors(), ExitStack() as stack:
            bed = Bed(built, stack)
            vm = stack.enter_context(running_vm(ebin, {"ERL_EPMD_PORT": str(bed.epmd_port)}))
            self.results.versions["otp"] = str(vm.about["otp"])
            for system in self.plan.wanted():
                try:
                    opened = system.opened(bed, vm)
                    opened.check()
                    self.there[system.name] = (system, opened)
                except (SystemTrouble, DaemonTrouble, OSError) as trouble:
                    self.missed(system.name, "", str(trouble))
            try:
                for workload in self.plan.workloads:
                    self.workload(workload)
            finally:
                self.close()

    def close(self) -> None:
        self.alone()
        for _, opened in self.there.values():
            opened.close()

    def workload(self, workload: str) -> None:
        """Every x of it, round by round, so that what is compared was measured within seconds."""
        taking = [(system, opened) for system, opened in self.there.values() if workload in system.workloads]
        for x in sorted({x for system, _ in taking for x in system.workloads[workload]}):
            now = [(system, opened) for system, opened in taking if x in system.workloads[workload]]
            print(f"{self.placement}: {workload} {x}: {len(now)} systems", flush=True)
            for _ in range(self.plan.rounds):
                for system, opened in list(now):
                    if not self.cell(system, opened, workload, x):
                        now.remove((system, opened))
        self.alone()

    def alone(self) -> None:
        """No idle connections any more."""
        for held in self.idle.values():
            held.close()
        self.idle.clear()

    def cell(self, system: System, opened: Opened, workload: str, x: int) -> bool:
        """One system, one x, one round. False when it has broken."""
        window = self.plan.window(workload)
        try:
            if workload == "idle connections":
                self.crowd(system, opened, x)
            result = opened.run(workload, x, max(5, min(200, window // 5)), window) | observed(opened)
        except (SystemTrouble, OSError) as trouble:
            self.results.drop(self.placement, system.name, workload, x)
            self.missed(system.name, f"{workload} {x}", str(trouble))
            return False
        self.results.add(self.placement, system.name, workload, x, result)
        return True

    def crowd(self, system: System, opened: Opened, count: int) -> None:
        """Idle connections to this system; they stay until the workload is over."""
        if system.name not in self.idle:
            self.idle[system.name] = Idle(opened.service.tcp)
        self.idle[system.name].grow(count)

    def missed(self, system: str, workload: str, reason: str) -> None:
        print(f"{self.placement}: {system} left out{': ' if workload else ''}{workload}: {reason}", flush=True)
        self.results.leave_out(self.placement, system, workload, reason)


def observed(opened: Opened) -> Result:
    """What a look at the processes adds: memory of those that serve; threads of a host."""
    seen: Result = {}
    if serving := opened.pids[1:]:
        seen["rss"] = float(sum(status(pid, "VmRSS") for pid in serving))
    if opened.service.host:
        seen["threads"] = float(status(opened.service.host, "Threads"))
    return seen


def build(out: Path) -> tuple[Path, Path]:
    """Host, driver and peers; the client's modules and the bench's own, compiled."""
    tools = native.Toolchain(native.find_compiler())
    native.build_shipped(tools)
    native.build_bench(tools, out / "peers")
    ebin = out / "ebin"
    ebin.mkdir(parents=True, exist_ok=True)
    for sources in (ROOT / "erlang/src", ROOT / "bench/erlang"):
        erlc(sorted(sources.glob("*.erl")), ebin)
    return out / "peers", ebin


def erlc(sources: Sequence[Path], ebin: Path) -> None:
    """Only what is newer than its module, or than a header; behaviours first."""
    newest = max((header.stat().st_mtime for header in sources[0].parent.glob("*.hrl")), default=0.0)
    stale = [each for each in sources if older(ebin / f"{each.stem}.beam", max(each.stat().st_mtime, newest))]
    for some in ([each for each in stale if each.stem == "bench_client"], stale):
        if some:
            flags = ["+debug_info", "+warnings_as_errors", "+warn_missing_spec", "-pa", str(ebin), "-o", str(ebin)]
            subprocess.run(["erlc", *flags, *map(str, some)], check=True)


def older(path: Path, moment: float) -> bool:
    return not path.exists() or path.stat().st_mtime < moment


def report(path: Path) -> None:
    """Tables, plots and goals, where report.py is there to make them."""
    if importlib.util.find_spec("report") is not None:
        importlib.import_module("report").main(path)


def parse(arguments: Sequence[str]) -> Plan:
    parser = argparse.ArgumentParser(prog="bench.py", description="gendriverd beside its alternatives.")
    parser.add_argument("--short", action="store_true", help="one round of 50 ms: whether it all runs")
    parser.add_argument("--rounds", type=int, help="how often each is measured (5)")
    parser.add_argument("--seconds", type=float, help="for how long each time (1)")
    parser.add_argument("--systems", help=f"some of: {', '.join(each.name for each in SYSTEMS)}")
    parser.add_argument("--workloads", help=f"some of: {', '.join(METRICS)}")
    parser.add_argument("--placement", default=",".join(PLACEMENTS), help="pinned (all on one CPU), free (on two)")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--build", action="store_true", help="compile what it needs, and measure nothing")
    given = parser.parse_args(arguments)
    return Plan(
        rounds=given.rounds or (1 if given.short else 5),
        milliseconds=round((given.seconds or (0.05 if given.short else 1.0)) * 1000),
        systems=chosen(parser, given.systems, tuple(each.name for each in SYSTEMS)),
        workloads=chosen(parser, given.workloads, tuple(METRICS)),
        placements=() if given.build else chosen(parser, given.placement, PLACEMENTS),
        out=given.out.resolve(),
        short=given.short,
    )


def chosen(parser: argparse.ArgumentParser, given: str | None, known: tuple[str, ...]) -> tuple[str, ...]:
    names = tuple(name.strip() for name in given.split(",")) if given else known
    for name in names:
        if name not in known:
            parser.error(f"{name!r} is none of: {', '.join(known)}")
    return names


def main(arguments: Sequence[str]) -> int:
    plan = parse(arguments)
    built, ebin = build(plan.out)
    if not plan.placements:
        return 0
    results = Results({"gendriverd": __version__, "python": platform.python_version()}, plan.short)
    path = plan.out / "results.json"
    for placement in plan.placements:
        try:
            Run(plan, results, placement).everything(built, ebin)
        finally:
            results.write(path)
    print(f"\n{results.tables()}\n\n{path}")
    for about in results.left_out:
        print(f"left out: {', '.join(filter(None, about.values()))}")
    report(path)
    required = {each.name for each in SYSTEMS if each.required}
    missed = required & {about["system"] for about in results.left_out}
    return 1 if missed and os.environ.get("CI") == "true" else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
