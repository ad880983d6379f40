# SPDX-License-Identifier: MIT
"""The house keeps its shape: lower layers never import higher ones, and documents name what is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGE = ROOT / "gendriverd"

# A module imports from its own layer or lower ones. ARCHITECTURE.md, The daemon.
LAYERS = [
    ["__init__"],
    ["errors", "quantities", "etf_guard", "etf_quick", "etf_keys", "tls_context"],
    ["states", "backoff", "toml_places", "etf", "sources", "users", "descriptors", "passing"],
    ["unix_socket"],
    ["schema", "erlterm_format", "erlterm", "auth"],
    ["config", "admission", "front_messages", "tls_front"],
    ["messages", "log", "sdnotify", "channel", "statistics", "farewell", "launch", "cflags", "symbols", "snapshot"],
    ["recorder", "key_file", "tls_files", "keys", "sandbox", "driver_file", "cgroup", "permissions", "liveness"],
    ["aftermath", "orphans", "client_lines"],
    ["quarantine"],
    ["reports", "connections", "start"],
    ["lifetime", "reporter"],
    ["keeper"],
    ["instance"],
    ["supervisor"],
    ["handshake"],
    ["listener", "admin"],
    ["front"],
    ["tls"],
    ["reload"],
    ["answers"],
    ["daemon", "check", "client", "cli_arguments", "cli_admin", "cli_call", "cli_reports", "replay"],
    ["cli"],
    ["__main__"],
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if "_bin" not in path.parts)


def place(path: Path) -> str:
    """The layer's name: the module, or the package it lies in."""
    inside = path.relative_to(PACKAGE)
    return inside.parts[0] if len(inside.parts) > 1 else inside.stem


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "gendriverd":
            parts = (node.module or "").split(".")
            found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
    return {name for name in found if (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").exists()}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_nothing_above_it(path: Path) -> None:
    level = LEVEL[place(path)]
    above = {name for name in imported(path) if LEVEL[name] > level}
    assert not above


@pytest.mark.parametrize(
    "name",
    [
        "states",
        "backoff",
        "quarantine",
        "config",
        "erlterm",
        "erlterm_format",
        "etf",
        "quantities",
        "auth",
        "admission",
        "sources",
        "permissions",
    ],
)
def test_what_decides_does_no_io(name: str) -> None:
    text = (PACKAGE / f"{name}.py").read_text()
    assert not re.search(r"^\s*(import|from) (trio|socket|subprocess)\b", text, re.MULTILINE)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_has_one_sentence_of_purpose_and_a_readable_size(path: Path) -> None:
    text = path.read_text()
    assert text.startswith("# SPDX-License-Identifier: MIT\n")
    assert ast.get_docstring(ast.parse(text)) is not None
    assert len(text.splitlines()) <= 350


DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
NAMED = re.compile(r"`((?:docs|tests|examples|config|deploy|erlang|scripts|gendriverd|bench)/[\w./-]+)`")


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_a_path_that_a_document_names_exists(path: Path) -> None:
    text = path.read_text()
    missing = [name for name in NAMED.findall(text) if not (ROOT / name).exists() and "_bin" not in name]
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", text)
    missing += [link for link in links if not (path.parent / link).exists()]
    assert not missing
