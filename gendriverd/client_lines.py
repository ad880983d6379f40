# SPDX-License-Identifier: MIT
"""Lines of the log that clients cause by coming and going: those of one source have a budget.

So one that connects and leaves all the time does not bury what the log says of all others.
"""

from __future__ import annotations

from collections import OrderedDict

import trio

from gendriverd.log import LineBudget, Log
from gendriverd.sources import Source

BURST, PER_SECOND = 200, 20.0
NAMES_SHOWN = 8  # of a certificate


class ClientLines:
    """Of one source."""

    def __init__(self) -> None:
        self._budget = LineBudget(burst=BURST, per_second=PER_SECOND)

    def say(self, log: Log, event: str, /, **about: object) -> None:
        if self._budget.allows(trio.current_time(), size=len(str(about))):
            more = self._budget.take_dropped()
            log.info(event, **about, **({"not_logged": more} if more else {}))


class LinesBySource:
    """`most` are remembered; the one heard of longest ago is forgotten, and begins anew."""

    def __init__(self) -> None:
        self._sources: OrderedDict[str, ClientLines] = OrderedDict()

    def of(self, source: Source, most: int) -> ClientLines:
        lines = self._sources.setdefault(source.name, ClientLines())
        self._sources.move_to_end(source.name)
        while len(self._sources) > most:
            self._sources.popitem(last=False)
        return lines
