# SPDX-License-Identifier: MIT
"""Goals of the bench, on made-up rows: ratios round by round, and nothing said of what was not measured."""

from __future__ import annotations

import pytest

from goals import GOALS, Cell, Goal, evaluate
from results import Row

OURS, THEIRS = Cell("ours", "calls", 128, "rate"), Cell("theirs", "calls", 128, "rate")
RATIO = Goal("ours against theirs", "free", OURS, THEIRS, ">=", 2)
BOUND = Goal("ours", "free", OURS, None, "<=", 10, "ms")


def row(system: str, rounds: list[float], placement: str = "free") -> Row:
    return {
        "placement": placement,
        "system": system,
        "workload": "calls",
        "x": 128,
        "metric": "rate",
        "unit": "1/s",
        "rounds": rounds,
    }


def test_ratios_are_taken_round_by_round_and_not_of_medians():
    # The machine was slow in the second round, for both. Of the medians it would be 300 / 200.
    (found,) = evaluate([row("ours", [300.0, 30.0, 900.0]), row("theirs", [100.0, 10.0, 200.0])], [RATIO])
    assert found.values == (3.0, 3.0, 4.5)
    assert found.value == 3.0
    assert found.verdict == "met"


def test_a_ratio_below_its_bound_is_not_met():
    (found,) = evaluate([row("ours", [199.0]), row("theirs", [100.0])], [RATIO])
    assert found.verdict == "not met"


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [row("ours", [1.0])],
        [row("theirs", [1.0])],
        [row("ours", [1.0]), row("theirs", [1.0], "pinned")],
        [row("ours", [1.0, 2.0]), row("theirs", [1.0])],
        [row("ours", [1.0]), row("theirs", [0.0])],
    ],
    ids=["nothing", "not theirs", "not ours", "elsewhere", "other rounds", "none answered"],
)
def test_what_lacks_a_side_or_a_round_is_not_measured(rows):
    (found,) = evaluate(rows, [RATIO])
    assert (found.verdict, found.value) == ("not measured", None)


@pytest.mark.parametrize(("rounds", "verdict"), [([9.0, 10.0, 11.0], "met"), ([9.0, 11.0, 11.0], "not met")])
def test_an_absolute_bound_holds_for_the_median(rounds, verdict):
    (found,) = evaluate([row("ours", rounds)], [BOUND])
    assert found.verdict == verdict


def test_of_a_worst_delay_the_worst_round_counts():
    (found,) = evaluate([row("ours", [1.0, 11.0, 1.0])], [Goal("", "free", OURS, None, "<=", 10, "ms", every=True)])
    assert (found.value, found.verdict) == (11.0, "not met")


def test_every_goal_is_of_its_own_cells_and_has_a_text_of_its_own():
    assert len({(goal.placement, goal.ours, goal.theirs) for goal in GOALS}) == len(GOALS)
    assert len({(goal.placement, goal.text) for goal in GOALS}) == len(GOALS)
