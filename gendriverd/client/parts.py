# SPDX-License-Identifier: MIT
"""The parts of one call, for trio: they are asked for as fast as they are read."""

from __future__ import annotations

from collections.abc import AsyncIterator

import trio

from gendriverd.client import protocol
from gendriverd.client.credit import Credit
from gendriverd.client.link import Link, Streaming
from gendriverd.etf import Term


class Parts(AsyncIterator[Term]):
    """Made by a client's `stream`; one task reads it."""

    result: Term = None  # what the driver said at last, when all parts were read

    def __init__(self, link: Link, call_id: int, pending: Streaming, window: int) -> None:
        self._link = link
        self._id = call_id
        self._pending = pending
        self._credit = Credit(window)

    async def __anext__(self) -> Term:
        """The next; Failed where there will be none, though some are missing."""
        await trio.lowlevel.checkpoint()
        while not self._pending.parts:
            if self._pending.answered.is_set():
                self.result = self._pending.result()
                raise StopAsyncIteration
            self._pending.changed = trio.Event()
            await self._pending.changed.wait()
        part = self._pending.parts.popleft()
        if (more := self._credit.took_one()) and self._id in self._link.pending:
            self._link.write(protocol.credit(self._id, more))
        return part
