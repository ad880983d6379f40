# SPDX-License-Identifier: MIT
"""results.json, and what others have measured beside it, as a report to read: goals, tables, plots.

    python bench/report.py [build/bench/results.json]

Writes report/report.md beside it, and plots where matplotlib is there. alone.json, growth.json (rows of the same form)
and counts.toml, the budget of instructions, are taken in where they are found.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parent)]

from goals import Found, evaluate, ratios  # noqa: E402 (its path is set above)
from results import Row, X  # noqa: E402

HERE = Path(__file__).resolve().parent
BESIDE = ("alone.json", "growth.json")
REFERENCES = ("gendriverd tcp", "host alone", "Python client", "gendriverd")  # the first that a table has
INTRODUCTION = """\
All absolute figures are this machine's, of this hour, beside whatever else it did: they say nothing of another. What
holds are the ratios: every system was measured once before the next round began, ratios are taken round by round, and
what is shown is their median, with the lowest and the highest behind it. `pinned`: callers and servers share one CPU;
`free`: they have two."""


def main(results: Path) -> None:
    """Report and plots, from results.json at this path; `ValueError` where it is none."""
    whole, rows = read(results)
    out = results.parent / "report"
    out.mkdir(parents=True, exist_ok=True)
    found = evaluate(rows)
    names = plots(rows, found, out)
    (out / "report.md").write_text(text(whole, rows, found, counts(results.parent), names), encoding="utf-8")
    reached = [each.verdict for each in found]
    told = ", ".join(f"{reached.count(word)} {word}" for word in ("met", "not met", "not measured"))
    print(f"goals: {told}\n{out / 'report.md'}")


def read(results: Path) -> tuple[dict[str, Any], list[Row]]:
    """What results.json says, and all rows."""
    whole = json.loads(results.read_text(encoding="utf-8"))
    if not isinstance(whole, dict) or "rows" not in whole:
        raise ValueError(f"{results}: no results of bench.py: it has no rows")
    rows: list[Row] = list(whole["rows"])
    for path in (results.parent / name for name in BESIDE):
        if path.exists():
            rows += json.loads(path.read_text(encoding="utf-8"))["rows"]
    return whole, [row for row in rows if row["rounds"]]


def counts(beside: Path) -> dict[str, dict[str, float]]:
    """Instructions and system calls a request, by case."""
    for path in (beside / "counts.toml", HERE / "counts.toml"):
        if path.exists():
            whole = tomllib.loads(path.read_text(encoding="utf-8"))
            return {name: case for name, case in whole.items() if isinstance(case, dict)}
    return {}


def plots(rows: Sequence[Row], found: Sequence[Found], out: Path) -> list[str]:
    """The names of the files that were drawn. None without matplotlib."""
    if importlib.util.find_spec("matplotlib") is None:
        return []
    import plots as drawing

    return drawing.draw(rows, found, out)


# --- text --------------------------------------------------------------------


def text(
    whole: dict[str, Any],
    rows: Sequence[Row],
    found: Sequence[Found],
    counted: dict[str, dict[str, float]],
    names: Sequence[str],
) -> str:
    blocks = ["# gendriverd beside its alternatives", INTRODUCTION]
    if whole.get("short"):
        blocks.append("**The short form: it shows that all of it runs. Its figures are of one short round.**")
    blocks += [about(whole), "## Goals", goals_table(found), "## Plots", plots_list(names)]
    blocks += list(left_out(whole.get("left_out", [])))
    blocks += ["## Figures", FIGURES, *tables(rows), *counts_table(counted)]
    return "\n\n".join(blocks) + "\n"


FIGURES = """\
Each cell: the median of the rounds (the lowest to the highest), then in bold the median of its ratios to the system
that the head names, round by round. Of rates and MB/s more is better; of everything else, less."""


def about(whole: dict[str, Any]) -> str:
    """Machine and versions."""
    told = {**whole.get("machine", {}), **whole.get("versions", {})}
    told |= {"began": whole.get("began", "?"), "seconds": whole.get("seconds", "?")}
    return table(("what", "is"), [(key, str(value)) for key, value in told.items()])


def goals_table(found: Iterable[Found]) -> str:
    head = ("placement", "goal", "wanted", "reached", "range", "")
    lines = [
        (each.goal.placement, each.goal.text, each.goal.wanted, shown(each.value), span(each.values), each.verdict)
        for each in found
    ]
    return table(head, lines)


def plots_list(names: Sequence[str]) -> str:
    if not names:
        return "None: matplotlib is not there (`pip install -e '.[bench]'`), or there was nothing to draw."
    return "\n".join(f"![{name.removesuffix('.png').replace('_', ', ')}]({name})" for name in names)


def left_out(missing: Sequence[dict[str, str]]) -> Iterator[str]:
    if missing:
        yield "## Left out"
        head = ("placement", "system", "workload", "reason")
        yield table(head, [tuple(each.get(key, "") for key in head) for each in missing])


def tables(rows: Sequence[Row]) -> Iterator[str]:
    """One of each placement, workload and metric: a line a system, a column an x."""
    for kind in dict.fromkeys((row["placement"], row["workload"], row["metric"]) for row in rows):
        those = [row for row in rows if (row["placement"], row["workload"], row["metric"]) == kind]
        yield one_table(those)


def one_table(rows: Sequence[Row]) -> str:
    known: dict[tuple[str, X], list[float]] = {(row["system"], row["x"]): row["rounds"] for row in rows}
    systems = list(dict.fromkeys(row["system"] for row in rows))
    columns = sorted({row["x"] for row in rows}, key=lambda x: (isinstance(x, str), 0 if x is None else x))
    reference = next((name for name in REFERENCES if name in systems), systems[0])
    first = rows[0]
    unit = f", {first['unit']}" if first["unit"] else ""
    title = f"### {first['workload']}: {first['metric']}{unit} ({first['placement']}; ratios to {reference})"
    lines = [
        (system, *(cell(known.get((system, x)), known.get((reference, x)), system != reference) for x in columns))
        for system in systems
    ]
    return f"{title}\n\n" + table(("", *("" if x is None else told_x(x) for x in columns)), lines)


def cell(rounds: Sequence[float] | None, reference: Sequence[float] | None, compared: bool) -> str:
    if rounds is None:
        return "-"
    parts = [shown(median(rounds))]
    if len(rounds) > 1:
        parts.append(f"({span(rounds)})")
    if compared and reference is not None and (each := ratios(rounds, reference)):
        parts.append(f"**{shown(median(each))}**")
    return " ".join(parts)


def counts_table(counted: dict[str, dict[str, float]]) -> Iterator[str]:
    if counted:
        yield "## Instructions and system calls a request, in the host"
        keys = ("instructions", "syscalls")
        lines = [(name, *(shown(case.get(key)) for key in keys)) for name, case in counted.items()]
        yield table(("case", "instructions", "system calls"), lines)


def table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    every = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(part.replace("|", "\\|") for part in line) + " |" for line in every)


def shown(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def span(values: Sequence[float]) -> str:
    return f"{shown(min(values))} to {shown(max(values))}" if len(values) > 1 else ""


def told_x(x: X) -> str:
    return f"{x:,}" if isinstance(x, int) else str(x)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE.parent / "build" / "bench" / "results.json")
