# SPDX-License-Identifier: MIT
"""Whether the daemon lives: each part that must go round says when it has, and the watchdog hears of it when all have.

Parts are the tasks that let clients in and the supervisor's. One that is stuck keeps the watchdog unfed, as a loop that
hangs does; systemd then starts the daemon anew. Hosts have a heartbeat of their own and are no part of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import trio

from gendriverd.log import Log

ROUNDS = 4  # of each part, at least, within the time that the watchdog allows


class Part:
    """One task. It beats after each thing it has done, and whenever it has had nothing to do for `pause` seconds."""

    def __init__(self, name: str, pause: float) -> None:
        self.name = name
        self.pause = pause  # infinite: nobody asks
        self.beaten = trio.Event()

    def beat(self) -> None:
        self.beaten.set()

    async def wait(self, event: trio.Event) -> None:
        """Until it is set, going round meanwhile."""
        while not event.is_set():
            self.beat()
            with trio.move_on_after(self.pause):
                await event.wait()


class Liveness:
    """`allowed`: seconds without a sign of life that systemd allows; None: nobody asks for one."""

    def __init__(self, allowed: float | None, log: Log) -> None:
        self._pause = math.inf if allowed is None else allowed / ROUNDS
        self._log = log
        self._parts: list[Part] = []

    def part(self, name: str) -> Part:
        """From now on no sign of life without it."""
        part = Part(name, self._pause)
        self._parts.append(part)
        return part

    def release(self) -> None:
        """The daemon drains, and its parts end; from now on the loop is enough."""
        for part in self._parts:
            part.beat()
        self._parts.clear()

    async def watch(self, alive: Callable[[], None]) -> None:
        """Calls `alive` each time that all parts have gone round, at least twice in the time allowed."""
        if self._pause == math.inf:
            return
        while True:
            await self._all_round()
            alive()
            for part in self._parts:
                part.beaten = trio.Event()
            await trio.sleep(self._pause)

    async def _all_round(self) -> None:
        with trio.move_on_after(2 * self._pause) as late:
            await self._wait()
        if late.cancelled_caught:
            stuck = [part.name for part in self._parts if not part.beaten.is_set()]
            self._log.error("parts_stuck", parts=stuck)
            await self._wait()

    async def _wait(self) -> None:
        for part in list(self._parts):
            await part.beaten.wait()
