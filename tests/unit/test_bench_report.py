# SPDX-License-Identifier: MIT
"""The bench's report, on made-up results."""

from __future__ import annotations

import importlib.util
import json
from itertools import pairwise
from pathlib import Path

import pytest

import report
from results import Row

HEAD = {
    "machine": {"cpu": "a CPU", "cores": 2},
    "versions": {"gendriverd": "9.9"},
    "began": "2026-01-01",
    "seconds": 3,
    "short": False,
    "left_out": [{"placement": "free", "system": "C node", "workload": "", "reason": "no epmd"}],
}


def row(system: str, x: int, rounds: list[float], workload: str = "calls", metric: str = "rate") -> Row:
    names = {"placement": "pinned", "system": system, "workload": workload, "x": x, "metric": metric}
    return {**names, "unit": "1/s", "rounds": rounds}


ROWS = [
    row("gendriverd tcp plain", 16, [100.0, 200.0, 300.0]),
    row("gendriverd tcp plain", 128, [1000.0, 2000.0, 3000.0]),
    row("dirty NIF", 128, [2000.0, 2000.0, 12000.0]),
    row("gendriverd tcp plain", 1, [50.0, 60.0, 70.0], "latency", "p50"),
    row("gendriverd tcp plain", 1, [90.0, 91.0, 92.0], "latency", "p99"),
]


@pytest.fixture
def results(tmp_path):
    path = tmp_path / "results.json"
    path.write_text(json.dumps({**HEAD, "rows": ROWS}))
    return path


@pytest.fixture
def without_matplotlib(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)


def written(results: Path) -> str:
    report.main(results)
    return (results.parent / "report" / "report.md").read_text()


@pytest.mark.usefixtures("without_matplotlib")
def test_a_cell_has_median_range_and_the_ratio_of_each_round(results):
    text = written(results)
    assert "| gendriverd tcp plain | 200 (100 to 300) | 2,000 (1,000 to 3,000) |" in text
    assert "| dirty NIF | - | 2,000 (2,000 to 12,000) **2** |" in text


@pytest.mark.usefixtures("without_matplotlib")
def test_goals_are_told_as_met_not_met_and_not_measured(results):
    text = written(results)
    assert "| gendriverd tcp plain against dirty NIF, 128 callers, rate | >= 0.4 | 0.5 | 0.25 to 1 | met |" in text
    assert "| gendriverd tcp plain against C node, 128 callers, rate | >= 5 | - |  | not measured |" in text


@pytest.mark.usefixtures("without_matplotlib")
def test_machine_versions_and_what_was_left_out_are_told(results):
    text = written(results)
    assert "| cpu | a CPU |" in text
    assert "| gendriverd | 9.9 |" in text
    assert "| free | C node |  | no epmd |" in text


@pytest.mark.usefixtures("without_matplotlib")
def test_without_matplotlib_the_text_says_so(results):
    assert "matplotlib is not there" in written(results)
    assert not list((results.parent / "report").glob("*.png"))


@pytest.mark.usefixtures("without_matplotlib")
def test_rows_and_counts_of_others_are_taken_in(results):
    alone = [{**row("host alone", 128, [1.0e6]), "placement": "free"}]
    (results.parent / "alone.json").write_text(json.dumps({"rows": alone}))
    (results.parent / "counts.toml").write_text(
        'compiler = "cc"\n["call, unix"]\ninstructions = 5450\nsyscalls = 6.04\n'
    )
    text = written(results)
    assert "| host alone | 1,000,000 |" in text
    assert "| call, unix | 5,450 | 6.04 |" in text


@pytest.mark.usefixtures("without_matplotlib")
def test_the_short_form_is_not_taken_for_a_measurement(results):
    results.write_text(json.dumps({**HEAD, "short": True, "rows": ROWS}))
    assert "The short form" in written(results)


def test_what_is_no_result_is_named(tmp_path):
    path = tmp_path / "other.json"
    path.write_text("[]")
    with pytest.raises(ValueError, match=r"other\.json: no results"):
        report.main(path)


def test_plots_are_drawn_and_named_in_the_text(results):
    pytest.importorskip("matplotlib", reason="of the extra bench")
    text = written(results)
    for name in ("goals", "latency_pinned", "rate_pinned"):
        assert (results.parent / "report" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert f"({name}.png)" in text


@pytest.mark.parametrize(
    "rows",
    [
        [row("a system of tomorrow", x, [1.0]) for x in (1, 16)],
        [row("gendriverd tcp plain", 128, [1.0])],
        [row("gendriverd tcp plain", 64, [1.0], "payload", "throughput")],
        [],
    ],
    ids=["unknown", "one point", "one size", "nothing"],
)
def test_few_rows_are_drawn_as_far_as_they_go(results, rows):
    pytest.importorskip("matplotlib", reason="of the extra bench")
    results.write_text(json.dumps({**HEAD, "rows": rows}))
    assert "## Goals" in written(results)


def test_names_beside_lines_never_cover_each_other():
    pytest.importorskip("matplotlib", reason="of the extra bench")
    from plots import apart

    moved = apart([0.1, 0.11, 0.5, 0.98, 0.99], 0.05)
    assert moved == sorted(moved)
    assert all(high - low >= 0.05 - 1e-9 for low, high in pairwise(moved))
    assert moved[-1] <= 1.0
