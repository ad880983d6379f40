# SPDX-License-Identifier: MIT
"""On which line of a TOML text each key stands: tomllib does not say, and an error message must.

Reads only what it needs: table headers, keys, and where values end. The text has already passed tomllib, so it is well
formed. Keys inside inline tables and arrays belong to the line of the key that holds them.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator

KeyPath = tuple[str, ...]

_PART = re.compile(r"""\s*(?:"((?:[^"\\]|\\.)*)"|'([^']*)'|([A-Za-z0-9_-]+))\s*""")
_SKIP = re.compile(  # what may hold a bracket or newline without meaning one, longest first
    r'"""(?:[^\\]|\\.)*?"""|\'\'\'.*?\'\'\'|"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'|#[^\n]*', re.DOTALL
)


def places(text: str) -> dict[KeyPath, int]:
    """Line numbers, from 1, of every table header and every key, and of the tables that these name on their way."""
    found: dict[KeyPath, int] = {}
    table: KeyPath = ()
    for line, statement in _statements(text):
        header = re.match(r"\[\[?(?!\[)", statement)
        if header:
            key = table = _key_path(statement[header.end() :], "]")
        else:
            key = table + _key_path(statement, "=")
        for length in range(1, len(key) + 1):
            found.setdefault(key[:length], line)
    return found


def place_of(found: dict[KeyPath, int], path: KeyPath) -> int | None:
    """The line of a key, or of the nearest thing that holds it."""
    for length in range(len(path), 0, -1):
        if path[:length] in found:
            return found[path[:length]]
    return None


def _key_path(text: str, end: str) -> KeyPath:
    parts: list[str] = []
    at = 0
    while match := _PART.match(text, at):
        parts.append(_read(match))
        at = match.end()
        if at >= len(text) or text[at] == end or text[at] != ".":
            break
        at += 1
    return tuple(parts)


def _read(part: re.Match[str]) -> str:
    """A key as tomllib reads it."""
    if part[1] is not None and "\\" in part[1]:
        return str(tomllib.loads(f'key = "{part[1]}"')["key"])
    return next(group for group in part.groups() if group is not None)


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Each header or `key = value` with its line; a value over several lines is one statement."""
    at = 0
    while at < len(text):
        end = _statement_end(text, at)
        statement = text[at:end].strip()
        if statement and not statement.startswith("#"):
            blank = len(text[at:end]) - len(text[at:end].lstrip())
            yield text.count("\n", 0, at + blank) + 1, statement
        at = end + 1


def _statement_end(text: str, at: int) -> int:
    depth = 0
    while at < len(text):
        skipped = _SKIP.match(text, at)
        if skipped:
            at = skipped.end()
            continue
        char = text[at]
        if char == "\n" and depth == 0:
            return at
        depth += (char in "[{") - (char in "]}")
        at += 1
    return at
