# SPDX-License-Identifier: MIT
"""docs/security.md names, for each control, tests that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent.parent
ROOT = TESTS.parent
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in (ROOT / "docs/security.md").read_text().splitlines()
    if line.startswith("|") and "test" in line.rsplit("|", 2)[1] and not line.startswith("| control")
]
NAMED = [(control, part.strip()) for control, _, tests in ROWS for part in tests.split(";")]


def source(module: str) -> str:
    name = f"{module.rsplit('/', 1)[-1]}.*"
    places = [*TESTS.rglob(name), *(ROOT / "erlang/test").glob(name)]
    files = [path for path in places if path.suffix in {".py", ".erl", ".c"}]
    assert files, f"there is no {module}"
    return "".join(path.read_text() for path in files)


@pytest.mark.parametrize(("control", "part"), NAMED, ids=[part[:40] for _, part in NAMED])
def test_what_breaks_a_control_is_there(control: str, part: str) -> None:
    if part.startswith("tests/"):
        assert (ROOT / part.partition(",")[0]).exists(), control
        return
    module, _, names = part.partition(":")
    text = source(module.split(" ")[0])
    for name in re.findall("`([a-z0-9_]+)`", names):
        assert re.search(rf'def test_{name}|"{name}"|^{name}(_test_?)?\(', text, re.MULTILINE), (
            f"{control}: {module} has no {name}"
        )


def test_each_control_names_one() -> None:
    assert len(ROWS) > 25
    assert all(tests for _, _, tests in ROWS)
