# SPDX-License-Identifier: MIT
"""The words of docs/control-channel.md, as types: what a host may say is a closed set, checked by shape and bounded.

No I/O. A host is hostile: its driver may have written anything into its memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias

from gendriverd.errors import BadMessage
from gendriverd.etf import Atom, Term

LOG_KEYS_MAX = 16
LOG_BYTES_MAX = 8 * 1024  # all values of a line together; a host's own have less than 2 KiB
LOG_HEAD = b"\x83h\x04w\x03log"  # how each line begins: it is known before it is decoded
NAMES_MAX = 256  # atoms of a welcome, commands of a driver
NAME_BYTES = 4 * 255
NAMES_BYTES = 48 * 1024  # all of them: they travel on, in a welcome
REFUSALS = frozenset({"no_descriptor", "too_many", "stopping"})
LEVELS = frozenset({"debug", "info", "warning", "error"})


class Ready(NamedTuple):
    abi: int
    commands: dict[str, int]
    atoms: list[str]
    source: str


class Refuse(NamedTuple):
    text: str


class Adopted(NamedTuple):
    conn: int


class Refused(NamedTuple):
    conn: int
    reason: str


class Closed(NamedTuple):
    conn: int
    reason: str
    counts: dict[str, int]


class LogLine(NamedTuple):
    level: str
    event: str
    values: dict[str, str | int]


class Drained(NamedTuple):
    pass


class Pong(NamedTuple):
    number: int


Message: TypeAlias = Ready | Refuse | Adopted | Refused | Closed | LogLine | Drained | Pong


def parse(term: Term) -> Message:
    """The message a term is, or BadMessage."""
    if not isinstance(term, tuple) or not term or not isinstance(term[0], Atom):
        raise BadMessage("not a tuple that begins with an atom")
    tag, rest = str(term[0]), term[1:]
    shape = SHAPES.get(tag)
    if shape is None or len(rest) != shape[0]:
        raise BadMessage(f"no message {tag[:64]!r} with {len(rest)} parts")
    return shape[1](*rest)


def _ready(about: Term) -> Message:
    values = _map(about)
    commands = values.get("commands", {})
    atoms = values.get("atoms", [])
    if not isinstance(commands, Mapping) or not isinstance(atoms, list) or max(len(commands), len(atoms)) > NAMES_MAX:
        raise BadMessage(f"ready: commands and atoms are a map and a list of at most {NAMES_MAX}")
    ready = Ready(
        abi=_integer(values.get("abi", 0), 0, 2**31),
        commands={_text(name, NAME_BYTES): _integer(number, 0, 2**30 - 1) for name, number in commands.items()},
        atoms=[_text(atom, NAME_BYTES) for atom in atoms],
        source=_text(values.get("source", b""), 256),
    )
    if sum(len(name.encode("utf-8", "backslashreplace")) for name in (*ready.commands, *ready.atoms)) > NAMES_BYTES:
        raise BadMessage(f"ready: commands and atoms of more than {NAMES_BYTES} bytes")
    return ready


def _refuse(text: Term) -> Message:
    return Refuse(_text(text, 4096))


def _adopted(conn: Term) -> Message:
    return Adopted(_conn(conn))


def _refused(conn: Term, reason: Term) -> Message:
    return Refused(_conn(conn), _atom(reason, REFUSALS))


def _closed(conn: Term, reason: Term, counts: Term) -> Message:
    numbers = {key: _integer(number, 0, 2**64) for key, number in _map(counts).items()}
    return Closed(_conn(conn), _atom(reason), numbers)


def _log(level: Term, event: Term, values: Term) -> Message:
    said = _map(values)
    if sum(len(value) for value in said.values() if isinstance(value, bytes | Atom)) > LOG_BYTES_MAX:
        raise BadMessage(f"log: values of more than {LOG_BYTES_MAX} bytes")
    pairs = {key: value if _is_integer(value) else _text(value, LOG_BYTES_MAX) for key, value in said.items()}
    return LogLine(_atom(level, LEVELS), _text(event, 64), pairs)


def _drained() -> Message:
    return Drained()


def _pong(number: Term) -> Message:
    return Pong(_integer(number, 0, 2**64))


SHAPES: dict[str, tuple[int, Callable[..., Message]]] = {
    "ready": (1, _ready),
    "refuse": (1, _refuse),
    "adopted": (1, _adopted),
    "refused": (2, _refused),
    "closed": (3, _closed),
    "log": (3, _log),
    "drained": (0, _drained),
    "pong": (1, _pong),
}


def _map(term: Term) -> dict[str, Term]:
    if not isinstance(term, dict) or len(term) > LOG_KEYS_MAX:
        raise BadMessage(f"not a map of at most {LOG_KEYS_MAX} keys")
    return {_text(key, 64): value for key, value in term.items()}


def _conn(term: Term) -> int:
    return _integer(term, 0, 2**63)


def _is_integer(term: Term) -> bool:
    return isinstance(term, int) and not isinstance(term, bool)


def _integer(term: Term, least: int, most: int) -> int:
    if not isinstance(term, int) or isinstance(term, bool) or not least <= term <= most:
        raise BadMessage(f"not an integer of {least} to {most}")
    return term


def _text(term: Term, most: int) -> str:
    """Of at most so many bytes, or characters of an atom: spelling out what is no UTF-8 is dear."""
    if not isinstance(term, bytes | Atom):
        raise BadMessage("not a binary or atom")
    if len(term) > most:
        raise BadMessage(f"a text of {len(term)} bytes; {most} is the most")
    return str(term) if isinstance(term, Atom) else term.decode("utf-8", "backslashreplace")


def _atom(term: Term, known: frozenset[str] | None = None) -> str:
    if not isinstance(term, Atom) or len(term) > 64 or (known is not None and str(term) not in known):
        raise BadMessage("not one of the atoms that may stand here")
    return str(term)
