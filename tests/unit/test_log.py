# SPDX-License-Identifier: MIT
"""A log call never raises, a line is one line, and a flood is bounded."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gendriverd.log import QUEUE_MAX, LineBudget, Writer, clean, clean_text, configure, get_log, is_journal

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.complex_numbers(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.binary() | st.integers(), inner),
    max_leaves=20,
)


def logged(log_format: str = "json", **values: Any) -> str:
    out = io.StringIO()
    configure("info", log_format, out)
    get_log().info("event_name", **values)
    return out.getvalue()


class Hostile:
    def __str__(self) -> str:
        raise RuntimeError("no")


@given(ANYTHING)
def test_any_value_can_be_logged_as_one_json_line(value: object) -> None:
    line = logged(value=value)
    assert line.count("\n") == 1
    assert json.loads(line)["event"] == "event_name"


@given(ANYTHING)
def test_any_value_can_be_logged_to_a_console(value: object) -> None:
    assert logged("console", value=value).count("\n") == 1


CHOKED_ON = [Hostile(), 10**5000, {b"\xff": 1}, "\ud800", [[[[[[[1]]]]]]], {1: {2: {3: {4: {5: 6}}}}}]


@pytest.mark.parametrize("number", range(len(CHOKED_ON)))
def test_what_renderers_choke_on_is_made_plain(number: int) -> None:
    json.loads(logged(value=CHOKED_ON[number]))


def test_control_characters_are_spelled_out() -> None:
    assert clean_text("a\nb\x1b[2Jc\x00\x9bd\u2028") == "a\\nb\\x1b[2Jc\\x00\\x9bd\\u2028"


def test_values_are_bounded_in_length_breadth_and_depth() -> None:
    assert len(clean("x" * 1_000_000)) < 5000
    assert len(clean(list(range(1000)))) == 64
    nested: Any = 1
    for _ in range(100):
        nested = [nested]
    assert len(json.dumps(clean(nested))) < 500


def test_an_unwritable_log_is_no_reason_to_fail() -> None:
    out = io.StringIO()
    configure("info", "json", out)
    log = get_log()
    out.close()
    log.info("event_name")


def test_lines_to_the_journal_have_their_priority_and_others_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, descriptor = os.pipe()
    found = os.fstat(descriptor)
    monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
    writer = Writer(descriptor)
    configure("info", "json", writer=writer)
    get_log().warning("a")
    get_log().info("b")
    try:
        raise ValueError
    except ValueError:
        get_log().exception("c")
    writer.close()
    os.close(descriptor)
    with os.fdopen(reader, encoding="utf-8") as read:
        lines = read.read().splitlines()
    assert [line[:4] for line in lines] == ["<4>{", "<6>{", "<3>{"]
    assert [json.loads(line[3:])["event"] for line in lines] == ["a", "b", "c"]
    monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino + 1}")
    with Path(os.devnull).open(encoding="utf-8") as other:
        assert not is_journal(other.fileno())


def test_a_log_that_nobody_reads_holds_up_nobody_and_says_what_is_missing() -> None:
    reader, descriptor = os.pipe()
    writer = Writer(descriptor)
    configure("info", "json", writer=writer)
    log, room = get_log(), QUEUE_MAX + 200_000 // 100
    for number in range(2 * room):  # the pipe and the queue are full long before
        log.info("line", number=number, text="x" * 100)
    lines: list[dict[str, Any]] = []
    with os.fdopen(reader, encoding="utf-8") as pipe:
        while len(lines) < QUEUE_MAX:
            lines.append(json.loads(pipe.readline()))
        log.info("after")
        while lines[-1]["event"] != "after":
            lines.append(json.loads(pipe.readline()))
        writer.close()
    os.close(descriptor)
    written = [line["number"] for line in lines if line["event"] == "line"]
    assert written == sorted(written)
    missing = sum(line["lines"] for line in lines if line["event"] == "log_dropped")
    assert missing > 0
    assert missing + len(written) == 2 * room


def test_a_log_whose_reader_is_gone_is_no_reason_to_fail() -> None:
    reader, descriptor = os.pipe()
    os.close(reader)
    writer = Writer(descriptor)
    configure("info", "json", writer=writer)
    for _ in range(100):
        get_log().info("line")
    writer.close()
    os.close(descriptor)


def test_less_urgent_lines_than_the_level_are_left_out() -> None:
    out = io.StringIO()
    configure("warning", "json", out)
    get_log().info("quiet")
    get_log().error("loud")
    assert [json.loads(line)["event"] for line in out.getvalue().splitlines()] == ["loud"]


def test_an_exception_is_logged_with_its_traceback_in_one_line() -> None:
    out = io.StringIO()
    configure("info", "json", out)
    try:
        raise ValueError("it")
    except ValueError:
        get_log().exception("broken")
    assert "ValueError: it" in json.loads(out.getvalue())["exception"]


WITH_RICH = """import sys
import pip._vendor.rich.console, pip._vendor.rich.traceback
sys.modules.update({name.removeprefix("pip._vendor."): module for name, module in list(sys.modules.items())})
from gendriverd.log import configure, get_log
def broken(key):
    raise ValueError("it")
configure("info", sys.argv[1], sys.stdout)
try:
    broken("hunter" + "2")
except ValueError:
    get_log().exception("broken")
"""


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_a_traceback_shows_no_variables_whatever_is_installed(log_format: str) -> None:
    command = [sys.executable, "-c", WITH_RICH, log_format]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    assert "ValueError" in said
    assert "hunter2" not in said


def test_a_budget_allows_a_burst_then_a_rate_and_counts_what_it_drops() -> None:
    budget = LineBudget(burst=10, per_second=2)
    assert sum(budget.allows(0.0) for _ in range(100)) == 10
    assert budget.take_dropped() == 90
    assert sum(budget.allows(1.0) for _ in range(100)) == 2
    assert budget.take_dropped() == 98
    assert budget.take_dropped() == 0


def test_a_long_line_costs_a_budget_as_much_as_many() -> None:
    budget = LineBudget(burst=10, per_second=1)
    assert [budget.allows(0.0, size=4096) for _ in range(3)] == [True, True, False]
    assert sum(budget.allows(10.0, size=1023) for _ in range(100)) == 10


def test_a_clock_that_goes_back_gives_a_budget_nothing() -> None:
    budget = LineBudget(burst=1, per_second=1)
    assert budget.allows(10.0)
    assert not budget.allows(5.0)
