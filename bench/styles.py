# SPDX-License-Identifier: MIT
"""How each system looks in every plot: a colour, and a marker and a dash for those who print without colours."""

from __future__ import annotations

from dataclasses import dataclass

OURS = "#0b4fa8"


@dataclass(frozen=True)
class Style:
    """Of one system. `label`: what it is called where its name says too little."""

    color: str
    marker: str = "o"
    line: str = "-"
    ours: bool = False
    label: str = ""


STYLES = {
    "gendriverd tcp": Style(OURS, "o", "-", ours=True),
    "gendriverd unix": Style("#3b8ee0", "s", "-", ours=True),
    "gendriverd pool 2": Style("#173a6b", "D", "--", ours=True),
    "gendriverd conn unix": Style("#6aaef0", "v", "-", ours=True),
    "gendriverd conn tcp": Style("#2c6fbf", "^", "-", ours=True),
    "gendriverd tcp plain": Style("#5a7fae", "P", ":", ours=True),
    "gendriverd unix plain": Style("#8fb7de", "X", ":", ours=True),
    "gendriverd batch 128": Style("#0a2d66", "*", "-", ours=True),
    "gendriverd tls": Style("#48619c", "h", "-.", ours=True),
    "Python client": Style("#1f77d0", "p", "-", ours=True),
    "host alone": Style(OURS, "o", label="the host"),
    "gendriverd": Style("#e08a1e", "s", label="the daemon"),
    "raw tcp": Style("#555555", "x", "--"),
    "raw tcp plain": Style("#3d3d3d", "3", "--"),
    "raw unix": Style("#888888", "+", "--"),
    "raw conn tcp": Style("#6b6b6b", "1", ":"),
    "raw conn unix": Style("#9a9a9a", "2", ":"),
    "C node": Style("#2b8a3e", "^"),
    "port serial": Style("#b58900", "<", "-."),
    "port mux": Style("#d9730d", ">"),
    "port best": Style("#a63603", "v"),
    "dirty NIF": Style("#c2255c", "s"),
    "gen_server": Style("#6741d9", "D"),
    "naive trio": Style("#0c8599", "P"),
    "gRPC Python": Style("#7a5195", "X"),
    "grpcio client": Style("#7a5195", "X"),
}
OTHER = Style("#777777", ".")
# The rest would only cover these: tables have them.
IN_LINES = (
    "gendriverd tcp plain",
    "gendriverd tcp",
    "gendriverd unix",
    "gendriverd pool 2",
    "gendriverd conn tcp",
    "raw tcp plain",
    "C node",
    "port serial",
    "port mux",
    "port best",
    "dirty NIF",
    "gen_server",
    "naive trio",
    "gRPC Python",
)


def style_of(system: str) -> Style:
    return STYLES.get(system, OTHER)


def shown_in_lines(system: str) -> bool:
    return system in IN_LINES
