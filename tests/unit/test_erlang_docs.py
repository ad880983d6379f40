# SPDX-License-Identifier: MIT
"""Each function that a module of the Erlang client exports is documented and has a spec."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
MODULES = sorted((ROOT / "erlang").glob("gen_driver_*/src/*.erl"))
# What a behaviour says what it is for.
CALLBACKS = {
    "init/1", "handle_call/3", "handle_cast/2", "handle_info/2", "terminate/2", "code_change/3", "format_status/1",
    "handle_continue/2", "start/2", "stop/1", "main/1",
}  # fmt: skip
EXPORT = re.compile(r"^-export\(\[(.*?)\]\)\.", re.DOTALL | re.MULTILINE)
FUNCTION = re.compile(r"(\w+)/(\d+)")
# A comment that begins so, to the end, and the spec.
DOCUMENTED = re.compile(r"^%% @(?:doc|equiv|private)\b.*\n(?:%%.*\n)*-spec (\w+)\(", re.MULTILINE)


def exported(text: str) -> set[str]:
    return {f"{name}/{arity}" for block in EXPORT.findall(text) for name, arity in FUNCTION.findall(block)}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_every_export_is_documented_and_has_a_spec(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    wanted = exported(text)
    if "-behaviour(" in text:
        wanted -= CALLBACKS
    documented = DOCUMENTED.findall(text)
    names = sorted(each.split("/")[0] for each in wanted)
    assert sorted(set(names)) == sorted(set(names) & set(documented)), sorted(set(names) - set(documented))
    assert all(documented.count(name) >= names.count(name) for name in names), "an arity without words"
    assert text.startswith("%% SPDX-License-Identifier: MIT\n%% @doc ")
