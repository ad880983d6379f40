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
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "scripts"), str(ROOT / "bench")]

from gendriverd import __version__  # noqa: E402 (its path is set above)
from native import build_shipped  # noqa: E402
from native_drivers import build_bench  # noqa: E402
from results import METRICS, Results  # noqa: E402
from rounds import Plan, Run  # noqa: E402
from systems import SYSTEMS  # noqa: E402
from toolchain import Toolchain, find_compiler  # noqa: E402

OUT = ROOT / "build" / "bench"
PLACEMENTS = ("pinned", "free")


def build(out: Path) -> tuple[Path, Path]:
    """Host, driver and peers; the client's modules and the bench's own, compiled."""
    tools = Toolchain(find_compiler())
    build_shipped(tools)
    build_bench(tools, out / "peers")
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
    if shutil.which("erl") is None or shutil.which("erlc") is None:
        sys.exit("bench.py: erl and erlc, which all callers run on, were not found (Debian: erlang-base)")
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
