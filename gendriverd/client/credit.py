# SPDX-License-Identifier: MIT
"""How many parts a stream asks for, and when: at most its window ahead of who reads them, and not one by one."""

from __future__ import annotations

from gendriverd.client.outcomes import Failed
from gendriverd.client.protocol import CREDIT_MAX


def credit_of(window: int) -> int:
    """The window, as credit to begin with. Failed('bad_request'): out of range."""
    if not 1 <= window <= CREDIT_MAX:
        raise Failed("bad_request")
    return window


class Credit:
    """Of one stream."""

    def __init__(self, window: int) -> None:
        self._least = (window + 1) // 2  # given at once
        self._taken = 0

    def took_one(self) -> int:
        """A part was read: so much more credit is to be given now, mostly 0."""
        self._taken += 1
        if self._taken < self._least:
            return 0
        given, self._taken = self._taken, 0
        return given
