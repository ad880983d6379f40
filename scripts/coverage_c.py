# SPDX-License-Identifier: MIT
"""Lines and branches of the host's pure parts that unit tests and fuzzers' corpora reach: make coverage.

Prints a table, and what was not reached; exits 1 where that is anything. The programs were built by native.py with
--variant coverage: build/coverage/unit and build/coverage/fuzz.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BUILT = ROOT / "build" / "coverage"
WHOLE = (
    *(
        "etf.c",
        "etf_head.h",
        "etf_leaf.c",
        "etf_leaf.h",
        "etf_text.c",
        "frame.c",
        "envelope.c",
        "fields.h",
        "recorder.c",
    ),
    *("term_cursor.h", "term_get.c", "term_get_number.c", "term_get_text.c"),
    *("term_out.h", "term_put.c", "term_put_number.c", "term_put_text.c", "control_parse.c"),
)
# Of control.c; tests/host and tests/daemon are about the rest of the channel.
RECEIVERS = {"control_receive", "control_start", "receive"}
Place = tuple[int, int]  # line, column


def run_all() -> list[Path]:
    """Every program once, each into a profile of its own."""
    programs = [
        path for path in sorted(BUILT.glob("*/*")) if path.is_file() and path.suffix == "" and path.name[0] != "."
    ]
    for program in programs:
        corpora = [ROOT / "tests/fuzz/corpus" / program.name, BUILT / "fuzz" / "corpus" / program.name]
        fuzzer = program.parent.name == "fuzz"
        arguments = ["-runs=0", *map(str, corpora)] if fuzzer else [str(ROOT / "tests/vectors")]
        environment = {**os.environ, "LLVM_PROFILE_FILE": f"{program}.profraw"}
        command = [str(program), *arguments]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
        )
        if done.returncode != 0:
            sys.exit(f"coverage_c.py: {program.name} failed:\n{done.stdout}{done.stderr}")
    return programs


def tool(name: str) -> str:
    """That of the clang at hand: their formats go together."""
    said = subprocess.run(["clang", f"-print-prog-name={name}"], capture_output=True, text=True, check=True)
    return said.stdout.strip()


def exported(programs: list[Path]) -> list[dict[str, Any]]:
    """Functions as llvm-cov describes them."""
    profile = BUILT / "all.profdata"
    raw = [f"{program}.profraw" for program in programs]
    subprocess.run([tool("llvm-profdata"), "merge", "-sparse", *raw, "-o", str(profile)], check=True)
    objects = [str(programs[0]), *(word for program in programs[1:] for word in ("-object", str(program)))]
    command = [tool("llvm-cov"), "export", "--format=text", f"--instr-profile={profile}", *objects]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    functions: list[dict[str, Any]] = json.loads(done.stdout)["data"][0]["functions"]
    return functions


@cache
def _lines(file: str) -> list[str]:
    return (ROOT / file).read_text(encoding="utf-8").splitlines()


class Counts:
    """Of one file: how often each region, and each side of each branch, was reached, in whatever program."""

    def __init__(self) -> None:
        self.regions: defaultdict[tuple[Place, Place], int] = defaultdict(int)
        self.branches: defaultdict[tuple[Place, bool], int] = defaultdict(int)

    def add(self, function: dict[str, Any]) -> None:
        for line, column, end, end_column, count, file, _, kind in function["regions"]:
            if kind == 0 and file == 0:
                self.regions[(line, column), (end, end_column)] += count
        for line, column, _, _, true, false, file, *_ in function["branches"]:
            if file == 0 and not self._of_a_switch(function["filenames"][0], line, column):
                self.branches[(line, column), True] += true
                self.branches[(line, column), False] += false

    @staticmethod
    def _of_a_switch(file: str, line: int, column: int) -> bool:
        """What no case is for: each side of a case counts, but not that, where a type has no other values."""
        return _lines(file)[line - 1][: column - 1].endswith("switch (")

    def missing(self) -> list[str]:
        regions = [f"{start[0]}: not reached" for (start, _), count in self.regions.items() if count == 0]
        sides = [
            f"{place[0]}:{place[1]}: never {str(side).lower()}"
            for (place, side), count in self.branches.items()
            if count == 0
        ]
        return sorted(regions + sides, key=lambda text: int(text.partition(":")[0]))

    def lines(self) -> tuple[int, int]:
        """Reached and all: a line is as often reached as the innermost region that it begins or continues in."""
        counts: dict[int, int] = {}
        for (start, end), count in sorted(self.regions.items(), key=lambda item: (item[0][0], -item[0][1][0])):
            for line in range(start[0], end[0] + 1):
                counts[line] = count
        return sum(count > 0 for count in counts.values()), len(counts)

    def sides(self) -> tuple[int, int]:
        return sum(count > 0 for count in self.branches.values()), len(self.branches)


def counted(functions: list[dict[str, Any]]) -> dict[str, Counts]:
    files: defaultdict[str, Counts] = defaultdict(Counts)
    for function in functions:
        file = Path(function["filenames"][0])
        if file.parent.name != "host":
            continue
        name = function["name"].rpartition(":")[2]
        if file.name in WHOLE or (file.name == "control.c" and name in RECEIVERS):
            files[file.name].add(function)
    return dict(sorted(files.items()))


def main() -> int:
    files = counted(exported(run_all()))
    print(f"{'file':18}{'lines':>14}{'branches':>14}")
    for name, counts in files.items():
        columns = [f"{reached}/{of}" for reached, of in (counts.lines(), counts.sides())]
        print(f"{name:18}{columns[0]:>14}{columns[1]:>14}")
    missing = {name: [f"gendriverd/host/{name}:{each}" for each in counts.missing()] for name, counts in files.items()}
    print("\n".join(each for found in missing.values() for each in found))
    if absent := {*WHOLE, "control.c"} - set(files):
        sys.exit(f"coverage_c.py: nothing is known of {', '.join(sorted(absent))}")
    return int(any(missing.values()))


if __name__ == "__main__":
    sys.exit(main())
