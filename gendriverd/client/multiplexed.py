# SPDX-License-Identifier: MIT
"""The trio face: many tasks, one connection, reconnecting by itself with backoff."""

from __future__ import annotations

import contextlib
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass

import trio

from gendriverd.client import protocol
from gendriverd.client.commands import command_number
from gendriverd.client.link import Link, Pending, open_link
from gendriverd.client.outcomes import CallTimeout, ClientError, Failed, Refused, Unreachable
from gendriverd.client.protocol import Welcome
from gendriverd.etf import Term

HOST_WORD = 0.1  # seconds waited beyond a deadline for the host's word


@dataclass(frozen=True, slots=True)
class Options:
    """Bounds and times of a client: seconds, calls, bytes."""

    connect_timeout: float = 5.0  # of one attempt, handshake included
    connect_wait: float = 5.0  # how long a call without a timeout waits for a connection
    max_in_flight: int = 4096  # and never more than the daemon's welcome allows
    max_unsent: int = 64 << 20  # bytes that wait for a peer that does not read
    backoff_first: float = 0.1
    backoff_max: float = 10.0


class Client:
    """Calls and casts to one instance. Made by `open_client`; belongs to the trio run it was made in."""

    def __init__(self, url: str, instance: str, options: Options) -> None:
        self.url = url
        self.instance = instance
        self.dropped_casts = 0  # casts made while there was no connection, or over a bound
        self._options = options
        self._link: Link | None = None
        self._changed = trio.Event()
        self._refused: Refused | None = None

    @property
    def welcome(self) -> Welcome | None:
        """What the instance told about itself; None while there is no connection."""
        return self._link.welcome if self._link is not None else None

    async def call(
        self,
        cmd: int | str,
        params: Term = None,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - it travels with the call
        key: int | None = None,
        trace: bytes | None = None,
    ) -> Term:
        """The driver's term. Failed: the service's word; CallTimeout: the time and a little passed; UnknownCommand.

        params None means that none are sent: the driver sees []. The time left is sent along: a call that
        cannot begin in time never runs. Cancelling the task cancels
        the call if it has not begun. Requests with one key run in order on one worker.
        """
        until = trio.current_time() + timeout if timeout is not None else None
        link = await self._usable_link(until)
        number = command_number(cmd, link.welcome)
        if len(link.pending) >= min(self._options.max_in_flight, link.welcome.in_flight):
            raise Failed("overloaded")
        if link.unsent > self._options.max_unsent:
            raise Failed("overloaded")
        left = None if until is None else until - trio.current_time()
        call_id, pending = link.begin()
        try:
            opts = protocol.options(left, key, trace)
            frame = protocol.call(call_id, number, [] if params is None else params, opts)
            if len(frame) - 4 > link.welcome.frame:
                raise ClientError(f"a request of {len(frame)} bytes; the daemon takes {link.welcome.frame}")
        except BaseException:
            del link.pending[call_id]  # it was never sent
            raise
        link.write(frame)
        return await self._answer(link, call_id, pending, left)

    async def cast(
        self, cmd: int | str, params: Term = None, *, key: int | None = None, trace: bytes | None = None
    ) -> bool:
        """Hand a request over; nothing is heard of it. False: dropped: no connection, or a bound is reached."""
        await trio.lowlevel.checkpoint()
        link = self._link
        if link is None or link.leaving.is_set() or link.unsent > self._options.max_unsent:
            self.dropped_casts += 1
            return False
        number = command_number(cmd, link.welcome)
        link.write(protocol.cast(number, [] if params is None else params, protocol.options(None, key, trace)))
        return True

    async def ping(self) -> float:
        """Seconds until the host's loop answered."""
        link = await self._usable_link(None)
        began = trio.current_time()
        ping_id, pending = link.begin()
        link.write(protocol.ping(ping_id))
        await pending.answered.wait()
        pending.result()
        return trio.current_time() - began

    async def _answer(self, link: Link, call_id: int, pending: Pending, left: float | None) -> Term:
        limit = float("inf") if left is None else max(0.0, left) + HOST_WORD
        try:
            with trio.move_on_after(limit):
                await pending.answered.wait()
        finally:
            # Given up: the id stays taken until its final frame.
            if not pending.answered.is_set() and not link.leaving.is_set():
                link.write(protocol.cancel(call_id))
        if not pending.answered.is_set():
            raise CallTimeout("no answer within the call's time")
        return pending.result()

    async def _usable_link(self, until: float | None) -> Link:
        await trio.lowlevel.checkpoint()
        limit = trio.current_time() + self._options.connect_wait if until is None else until
        with trio.CancelScope(deadline=limit):
            while self._link is None or self._link.leaving.is_set():
                if self._refused is not None:
                    raise Failed("unavailable") from self._refused
                await self._changed.wait()
        if self._link is None or self._link.leaving.is_set():
            raise Failed("unavailable")
        return self._link

    async def first_link(self) -> Link:
        """For `open_client`: one attempt within `connect_timeout`."""
        with trio.move_on_after(self._options.connect_timeout):
            return await open_link(self.url, self.instance)
        raise Unreachable(f"{self.url}: no answer within {self._options.connect_timeout:g} s")

    def _tell(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def serve(self, first: Link, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """For `open_client`: keep a connection until cancelled."""
        self._link = first
        task_status.started()
        async with trio.open_nursery() as links:
            link: Link | None = first
            delay = self._options.backoff_first
            while True:
                if link is not None:
                    began = trio.current_time()
                    self._link, self._refused = link, None
                    self._tell()
                    links.start_soon(link.run)
                    await link.leaving.wait()
                    if trio.current_time() - began > self._options.backoff_max:
                        delay = self._options.backoff_first
                try:
                    link = await self.first_link()
                    continue
                except Refused as exc:
                    self._refused = exc
                    self._tell()
                except Unreachable:
                    self._refused = None
                link = None
                await trio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, no secret
                delay = min(2 * delay, self._options.backoff_max)


@contextlib.asynccontextmanager
async def open_client(url: str, instance: str, options: Options | None = None) -> AsyncIterator[Client]:
    """A client whose first connection stands. Unreachable or Refused when it cannot; ValueError for a malformed URL."""
    client = Client(url, instance, options or Options())
    link = await client.first_link()
    async with trio.open_nursery() as nursery:
        await nursery.start(client.serve, link)
        yield client
        nursery.cancel_scope.cancel()
