# SPDX-License-Identifier: MIT
"""Plots of rows: one colour and one marker a system, gendriverd's own strong and blue, names beside the lines.

Needs matplotlib; report.py does without when it is not there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from goals import Found
from results import Row
from styles import OURS, shown_in_lines, style_of

Curves = Mapping[str, list[tuple[float, float]]]  # by system: points
INK, GRID, FAINT = "#222222", "#dddddd", "#888888"
# Of growth.json: what becomes a panel, and how its axes read.
GROWTH = (
    ("idle connections", "rss", "idle connections", "memory, MiB"),
    ("queued", "rss", "queued requests", "memory, MiB"),
    ("instances", "rss", "instances", "memory, MiB"),
    ("instances", "start", "instances", "all ready after, s"),
    ("idle connections", "p50", "idle connections", "p50 of a busy one, us"),
    ("workers", "rate", "workers", "calls a second, 128 deep"),
)
SCALED = {"KiB": 1 / 1024, "ms": 1 / 1000}
mpl.rcParams.update(
    {
        "font.size": 9,
        "axes.edgecolor": FAINT,
        "axes.labelcolor": INK,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": GRID,
        "grid.linewidth": 0.6,
        "axes.titlesize": 10,
        "axes.titlelocation": "left",
        "figure.dpi": 110,
    }
)


def draw(rows: Sequence[Row], found: Sequence[Found], out: Path) -> list[str]:
    """Every plot there are rows for; the names of the files, in the order to read them in."""
    names = []
    for name, figure in figures(rows, found):
        figure.savefig(out / f"{name}.png", bbox_inches="tight", facecolor="white")
        plt.close(figure)
        names.append(f"{name}.png")
    return names


def figures(rows: Sequence[Row], found: Sequence[Found]) -> Iterator[tuple[str, Figure]]:
    if measured := [each for each in found if each.values]:
        yield "goals", goals(measured)
    drawn: tuple[tuple[str, str, str, Callable[[Sequence[Row], str], Figure]], ...] = (
        ("latency", "latency", "p50", latency),
        ("rate", "calls", "rate", rates),
        ("payload", "payload", "throughput", payload),
        ("cpu", "cpu", "rate", cpu),
    )
    across = {"calls", "payload"}  # a line takes two points
    for name, workload, metric, how in drawn:
        for placement in ("pinned", "free"):
            those = [row for row in rows if row["placement"] == placement and row["workload"] == workload]
            those = [row for row in those if not row["system"].startswith(("host", "loop", "bare"))]
            if workload in across and not curves(those, workload, metric):
                continue
            if any(row["metric"] == metric for row in those):
                yield f"{name}_{placement}", how(those, placement)
    if panels := [panel for panel in GROWTH if curves(rows, panel[0], panel[1], ("host alone", "gendriverd"))]:
        yield "growth", growth(rows, panels)


def where(placement: str) -> str:
    return "callers and servers on one CPU" if placement == "pinned" else "two CPUs"


# --- bars --------------------------------------------------------------------


def goals(found: Sequence[Found]) -> Figure:
    """How far each is above or below its bound: right of the line is better."""
    figure: Figure
    figure, axes = plt.subplots(figsize=(9, 0.27 * len(found) + 1))
    for at, each in enumerate(reversed(found)):
        flip = each.goal.relation == "<="
        scaled = [(each.goal.bound / value if flip else value / each.goal.bound) for value in each.values if value > 0]
        value = each.value
        if not value or not scaled:
            continue
        middle = each.goal.bound / value if flip else value / each.goal.bound
        met = each.verdict == "met"
        axes.plot([min(scaled), max(scaled)], [at, at], color=FAINT, linewidth=1.5, zorder=2)
        axes.plot(middle, at, "o" if met else "X", markersize=7, color=OURS if met else "#c44e00", zorder=3)
    axes.axvline(1, color=INK, linewidth=1)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _at: f"{value:g}x")
    axes.xaxis.set_minor_formatter(lambda _value, _at: "")
    axes.set_yticks(range(len(found)), [f"{each.goal.text} ({each.goal.placement})" for each in reversed(found)])
    axes.tick_params(axis="y", labelsize=8, length=0)
    axes.set_xlabel("how far beyond its bound (right of 1: met, dots; left: not met, crosses); grey: the rounds")
    axes.set_title("Goals")
    return figure


def latency(rows: Sequence[Row], placement: str) -> Figure:
    """p50 as a bar, p99 as a tick beyond it."""
    middle, high = by_system(rows, 1, "p50"), by_system(rows, 1, "p99")
    order = sorted(middle, key=lambda system: -middle[system])
    figure: Figure
    figure, axes = plt.subplots(figsize=(8, 0.32 * len(order) + 1))
    for at, system in enumerate(order):
        style = style_of(system)
        axes.barh(at, middle[system], color=style.color, height=0.62, alpha=1 if style.ours else 0.75)
        end = max(middle[system], high.get(system, 0))
        axes.plot([middle[system], end], [at, at], color=INK, linewidth=1)
        axes.plot(end, at, "|", color=INK, markersize=9, markeredgewidth=1.5)
        axes.annotate(
            f"{middle[system]:,.0f} / {end:,.0f}",
            (end, at),
            (6, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color=INK,
        )
    name_bars(axes, order)
    widest = max(*middle.values(), *high.values())
    logarithmic = ", logarithmic" if widest > 30 * min(middle.values()) else ""
    if logarithmic:
        axes.set_xscale("log")
        axes.set_xlim(right=widest * 2)
        axes.xaxis.set_major_formatter(grouped)
    else:
        axes.set_xlim(0, widest * 1.15)
    axes.set_xlabel(f"microseconds{logarithmic}: the bar is p50, the tick p99")
    axes.set_title(f"One caller, one call after another ({where(placement)})")
    return figure


def cpu(rows: Sequence[Row], placement: str) -> Figure:
    """A panel for each time a call takes."""
    xs = sorted({row["x"] for row in rows})
    order = list(dict.fromkeys(row["system"] for row in rows))[::-1]
    figure: Figure
    figure, panels = plt.subplots(1, len(xs), figsize=(3.2 * len(xs) + 1.5, 0.3 * len(order) + 1.2), sharey=True)
    for axes, x in zip([panels] if len(xs) == 1 else panels, xs, strict=True):
        rate = by_system(rows, x, "rate")
        for at, system in enumerate(order):
            if system in rate:
                style = style_of(system)
                axes.barh(at, rate[system], color=style.color, height=0.62, alpha=1 if style.ours else 0.75)
                axes.annotate(
                    f"{rate[system]:,.0f}",
                    (rate[system], at),
                    (4, 0),
                    textcoords="offset points",
                    va="center",
                    fontsize=8,
                )
        axes.set_xlim(0, max(rate.values()) * 1.25)
        axes.xaxis.set_major_locator(plt.MaxNLocator(4))
        axes.xaxis.set_major_formatter(grouped)
        axes.set_title(f"{x:,} us each")
        axes.set_xlabel("calls a second")
        name_bars(axes, order)
    figure.suptitle(f"Calls that take CPU time, 16 callers ({where(placement)})", x=0.02, ha="left")
    figure.tight_layout()
    return figure


def name_bars(axes: Axes, order: Sequence[str]) -> None:
    axes.set_yticks(range(len(order)), order)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    for label in axes.get_yticklabels():
        if style_of(label.get_text()).ours:
            label.set_fontweight("bold")


def by_system(rows: Sequence[Row], x: object, metric: str) -> dict[str, float]:
    return {row["system"]: median(row["rounds"]) for row in rows if row["x"] == x and row["metric"] == metric}


# --- lines -------------------------------------------------------------------


def rates(rows: Sequence[Row], placement: str) -> Figure:
    points = chosen(curves(rows, "calls", "rate"))
    figure, axes = lines(points, f"Small calls ({where(placement)})")
    axes.set_xlabel("callers at once")
    axes.set_ylabel("calls a second")
    return figure


def payload(rows: Sequence[Row], placement: str) -> Figure:
    points = chosen(curves(rows, "payload", "throughput"))
    figure, axes = lines(points, f"A binary there and back, one caller ({where(placement)})")
    axes.xaxis.set_major_formatter(sized)
    axes.set_xlabel("size of the binary")
    axes.set_ylabel("MB/s, counted once")
    return figure


def chosen(points: Curves) -> Curves:
    """Those that a plot of all systems has room for; all, where none of them was measured."""
    return {name: those for name, those in points.items() if shown_in_lines(name)} or points


def lines(points: Curves, title: str) -> tuple[Figure, Axes]:
    """Both axes logarithmic, so that a ratio looks the same everywhere; names at the right, as the lines end."""
    figure: Figure
    figure, axes = plt.subplots(figsize=(8.5, 5.4))
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    for name, those in points.items():
        style = style_of(name)
        xs, ys = zip(*those, strict=True)
        axes.plot(
            xs,
            ys,
            color=style.color,
            marker=style.marker,
            linestyle=style.line,
            linewidth=2.4 if style.ours else 1.2,
            markersize=6 if style.ours else 5,
            zorder=3 if style.ours else 2,
        )
    axes.set_xticks(sorted({x for those in points.values() for x, _ in those}))
    axes.xaxis.set_major_formatter(grouped)
    axes.minorticks_off()
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(grouped)
    axes.set_title(title)
    name_lines(axes, points)
    return figure, axes


def name_lines(axes: Axes, points: Curves) -> None:
    """Outside the plot, so that nothing is covered; pushed apart, with a thin line to where each ends."""
    right = max(x for those in points.values() for x, _ in those)
    low, high = axes.get_ylim()
    ends = sorted(
        (axes.transAxes.inverted().transform(axes.transData.transform(those[-1]))[1], name)
        for name, those in points.items()
    )
    for at, (_, name) in zip(apart([end for end, _ in ends], 0.05), ends, strict=True):
        style = style_of(name)
        axes.annotate(
            name,
            points[name][-1],
            (1.06, at),
            xycoords="data",
            textcoords="axes fraction",
            va="center",
            fontsize=9,
            color=style.color,
            fontweight="bold" if style.ours else "normal",
            arrowprops={"arrowstyle": "-", "color": style.color, "linewidth": 0.5, "alpha": 0.6},
            annotation_clip=False,
        )
    axes.set_xlim(right=right * 1.15)
    axes.set_ylim(low, high)


def apart(places: Sequence[float], least: float) -> list[float]:
    """Rising places, moved so that none is nearer to the next than this: upwards first, then back from the top."""
    moved: list[float] = []
    for place in places:
        moved.append(max(place, moved[-1] + least) if moved else place)
    ceiling = 1.0
    for at in range(len(moved) - 1, -1, -1):
        moved[at] = min(moved[at], ceiling)
        ceiling = moved[at] - least
    return moved


def growth(rows: Sequence[Row], panels: Sequence[tuple[str, str, str, str]]) -> Figure:
    wide = min(3, len(panels))
    tall = -(-len(panels) // wide)
    figure: Figure
    figure, grid = plt.subplots(tall, wide, figsize=(3.6 * wide, 2.9 * tall), squeeze=False)
    for axes, (workload, metric, across, up) in zip(grid.flat, panels, strict=False):
        unit = next(row["unit"] for row in rows if (row["workload"], row["metric"]) == (workload, metric))
        for name, those in curves(rows, workload, metric, ("host alone", "gendriverd")).items():
            style = style_of(name)
            scaled = [(x, y * SCALED.get(unit, 1)) for x, y in those]
            axes.plot(*zip(*scaled, strict=True), color=style.color, marker=style.marker, label=style.label or name)
        axes.set_xlabel(across)
        axes.set_title(up)
        axes.set_ylim(0, axes.get_ylim()[1] * 1.08)
        axes.xaxis.set_major_locator(plt.MaxNLocator(4, integer=True))
        axes.xaxis.set_major_formatter(grouped)
        axes.yaxis.set_major_formatter(grouped)
    for axes in list(grid.flat)[len(panels) :]:
        axes.set_visible(False)
    labelled = [axes.get_legend_handles_labels() for axes in grid.flat]
    handles = {label: handle for each in labelled for handle, label in zip(*each, strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="upper center", ncols=2, frameon=False)
    figure.tight_layout(rect=(0, 0, 1, 0.95))
    return figure


def curves(rows: Sequence[Row], workload: str, metric: str, systems: Sequence[str] = ()) -> Curves:
    """Medians by x, of systems that have more than one; of all, where none are named."""
    found: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        if (row["workload"], row["metric"]) != (workload, metric) or not isinstance(row["x"], int):
            continue
        if not systems or row["system"] in systems:
            found.setdefault(row["system"], []).append((row["x"], median(row["rounds"])))
    return {name: sorted(those) for name, those in found.items() if len(those) > 1}


def grouped(value: float, _at: object) -> str:
    return f"{value:,.10g}"


def sized(value: float, _at: object) -> str:
    for unit, size in (("MiB", 1 << 20), ("KiB", 1 << 10)):
        if value >= size:
            return f"{value / size:g}\n{unit}"
    return f"{value:g}\nB"
