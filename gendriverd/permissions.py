# SPDX-License-Identifier: MIT
"""What a key allows on one host: the names of its commands become the numbers that the driver gave them.

A name that the driver does not have allows nothing, and is told: in the log once a host, by `check` with exit code 78.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import TypeAlias

from gendriverd.auth import Commands, Grant
from gendriverd.log import Log

Numbers: TypeAlias = list[int] | None  # of commands, ascending; None: all


def unknown(wanted: Commands, known: Mapping[str, int]) -> list[str]:
    """The names that this driver does not have."""
    return sorted(each for each in wanted or () if isinstance(each, str) and each not in known)


def numbers(wanted: Commands, known: Mapping[str, int]) -> Numbers:
    if wanted is None:
        return None
    said = (known.get(each) if isinstance(each, str) else each for each in wanted)
    return sorted({number for number in said if number is not None})


def complaint(grant: Grant, instance: str, known: Mapping[str, int]) -> str | None:
    """One sentence, when a key names what the driver does not have."""
    odd = unknown(grant.allowed(instance), known)
    if not odd:
        return None
    near = difflib.get_close_matches(odd[0], known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"its commands are {', '.join(sorted(known)) or 'without names'}"
    return f"[keys.{grant.name}] commands names {odd[0]!r}, which the driver of {instance!r} does not have; {hint}"


class Permissions:
    """Of one host, whose driver has these commands."""

    def __init__(self, known: Mapping[str, int], log: Log) -> None:
        self._known = known
        self._log = log
        self._made: dict[tuple[str, Commands], Numbers] = {}  # as many as the configurations it lives through say

    def of(self, grant: Grant, instance: str) -> Numbers:
        wanted = grant.allowed(instance)
        if wanted is None:
            return None
        if (grant.name, wanted) not in self._made:
            self._made[grant.name, wanted] = numbers(wanted, self._known)
            if (problem := complaint(grant, instance, self._known)) is not None:
                self._log.error("key_command_unknown", key=grant.name, reason=problem)
        return self._made[grant.name, wanted]
