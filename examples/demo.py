# SPDX-License-Identifier: MIT
"""The demo's client: calls the example drivers of a running daemon on real input, and shows what comes back.

    .venv/bin/python examples/demo.py tcp://127.0.0.1:9900 sum echo

Every answer is checked against Python's own; a difference ends the demo with 1.
"""

from __future__ import annotations

import argparse
import math
import re
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

from gendriverd.client import connect
from gendriverd.erlterm import format as erlang
from gendriverd.etf import Atom

ROOT = Path(__file__).resolve().parent.parent
OK = Atom("ok")


class DifferentError(Exception):
    """A driver said something else than Python does."""


def same(what: str, got: object, expected: object) -> None:
    if got != expected:
        raise DifferentError(f"{what}: got {got!r:.200}, expected {expected!r:.200}")


def files() -> list[Path]:
    """Text of this repository: what the demo works on."""
    found = [path for pattern in ("*.md", "docs/*.md", "gendriverd/**/*.[ch]") for path in ROOT.glob(pattern)]
    return sorted(path for path in found if path.is_file())


def show_sum(url: str) -> None:
    """Adds up every number in the protocol's description."""
    numbers = [
        float(found) for found in re.findall(r"\b\d+\b", (ROOT / "docs/protocol.md").read_text(encoding="utf-8"))
    ]
    with connect(url, "sum") as driver:
        answer = driver.call(1, numbers)
        same("sum", answer, (OK, math.fsum(numbers)))
        print(f"  the {len(numbers)} numbers in docs/protocol.md add up to {answer[1]:.0f}")
        same("ping", driver.call(2), OK)
        print(f"  the state it keeps across calls: {erlang(driver.call(3)[1])}")


def show_echo(url: str) -> None:
    """Sends a nested term there and back."""
    term = (Atom("order"), {b"id": 2**70, b"lines": [(b"bolt", 12, 0.25), (b"nut", 12, 0.1)], Atom("paid"): True})
    with connect(url, "echo") as driver:
        same("echo", driver.call(1, term), (OK, term))
        print(f"  came back as it was sent: {erlang(term)}")
        same("reverse", driver.call(3, b"desserts"), (OK, b"stressed"))
        print("  desserts, reversed: stressed")


def show_zlib(url: str) -> None:
    """Compresses this repository's text, and compares with Python's zlib."""
    text = b"".join(path.read_bytes() for path in files())
    with connect(url, "zlib") as driver:
        _, packed = driver.call(1, (9, text))
        same("decompressed by Python", zlib.decompress(packed), text)
        same("decompressed by the driver", driver.call(2, zlib.compress(text)), (OK, text))
        same("crc32", driver.call(3, text), (OK, zlib.crc32(text)))
    print(f"  {len(files())} files, {len(text)} bytes -> {len(packed)} bytes; unpacked by Python's zlib: the same")


def show_sqlite(url: str) -> None:
    """Fills a table with this repository's files in one transaction, and asks for the largest."""
    rows = [(path.name.encode(), path.stat().st_size) for path in files()]
    insert = b"INSERT INTO file VALUES (?, ?)"
    with connect(url, "sqlite") as driver:
        create: list[object] = [
            (b"DROP TABLE IF EXISTS file", []),
            (b"CREATE TABLE file (name TEXT, size INTEGER)", []),
        ]
        answer = driver.call(3, create + [(insert, list(row)) for row in rows])
        same("transaction", answer[0], OK)
        answer = driver.call(2, (b"SELECT name, size FROM file ORDER BY size DESC, name LIMIT 3", []))
        same("query", answer[2], sorted(rows, key=lambda row: (-row[1], row[0]))[:3])
    print(f"  {len(rows)} files in a table; the largest:")
    for name, size in answer[2]:
        print(f"    {size:7d}  {name.decode()}")


SHOWS: dict[str, Callable[[str], None]] = {
    "sum": show_sum,
    "echo": show_echo,
    "zlib": show_zlib,
    "sqlite": show_sqlite,
}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Call the example drivers of a running gendriverd.")
    parser.add_argument("url", help="tcp://HOST:PORT or unix:/PATH")
    parser.add_argument("instances", nargs="*", default=["sum", "echo"], choices=[*SHOWS, []], metavar="INSTANCE")
    options = parser.parse_args(arguments)
    for name in options.instances:
        print(f"{name}: {SHOWS[name].__doc__}")
        SHOWS[name](options.url)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
