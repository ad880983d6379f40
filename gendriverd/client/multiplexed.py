# SPDX-License-Identifier: MIT
"""The trio face: many tasks, one connection, reconnecting by itself with backoff."""

from __future__ import annotations

import contextlib
import random
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass

import trio

from gendriverd.auth import Key
from gendriverd.client import protocol
from gendriverd.client.commands import command_number
from gendriverd.client.credit import credit_of
from gendriverd.client.link import Link, Pending, open_link
from gendriverd.client.outcomes import CallTimeout, ClientError, Failed, Refused, Unreachable
from gendriverd.client.parts import Parts
from gendriverd.client.protocol import Welcome
from gendriverd.client.tls import trust
from gendriverd.etf import Term

HOST_WORD = 0.1  # seconds waited beyond a deadline for the host's word
LEAVE = 1.0  # seconds on a connection that asked to be left, while there is no other
LINGER = 2.0  # seconds a client that leaves waits for its last words to be read


@dataclass(frozen=True, slots=True)
class Options:
    """Bounds and times of a client: seconds, calls, bytes."""

    connect_timeout: float = protocol.CONNECT_TIMEOUT  # of one attempt, handshake included
    connect_wait: float = 5.0  # how long a call without a timeout waits for a connection
    max_in_flight: int = 4096  # and never more than the daemon's welcome allows
    max_unsent: int = 64 << 20  # bytes that wait for a peer that does not read
    max_frame: int = protocol.MAX_FRAME  # of an answer, or of a part of one; above, the connection is given up
    backoff_first: float = 0.1
    backoff_max: float = 10.0


class Client:
    """Calls and casts to one instance. Made by `open_client`; belongs to the trio run it was made in."""

    def __init__(
        self, url: str, instance: str, options: Options, key: Key | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        self.url = url
        self.instance = instance
        self.dropped_casts = 0  # casts made while there was no connection, or over a bound
        self._options = options
        self._key = key
        self._tls = trust(url, tls)
        self._link: Link | None = None  # where new requests go
        self._running: set[Link] = set()
        self._old: set[Link] = set()  # of those: drained; requests with a key wait, their predecessors may run there
        self._dialing = trio.CancelScope()
        self._closed = False
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

        params None means that none are sent: the driver sees [] (undefined is sent as Atom("undefined")). The time left
        is sent along: a call that cannot begin in time never runs. Cancelling the task cancels the call if it has not
        begun. Requests with one key run in order on one worker. EtfError and ClientError: params that are no term, or
        that the host would not take; nothing was sent.
        """
        until = trio.current_time() + timeout if timeout is not None else None
        link = await self._roomy_link(until, keyed=key is not None)
        number = command_number(cmd, link.welcome)
        left = None if until is None else until - trio.current_time()
        call_id, pending = link.begin()
        try:
            opts = protocol.options(left, key, trace)
            frame = protocol.fitting(
                protocol.call(call_id, number, [] if params is None else params, opts), link.welcome
            )
        except BaseException:
            link.forget(call_id)
            raise
        link.write(frame)
        return await self._answer(link, call_id, pending, left)

    @contextlib.asynccontextmanager
    async def stream(
        self,
        cmd: int | str,
        params: Term = None,
        *,
        window: int = 16,
        key: int | None = None,
        trace: bytes | None = None,
    ) -> AsyncIterator[Parts]:
        """The parts that a call yields: `async with client.stream("rows") as rows: async for row in rows: ..`.

        The driver is at most `window` parts ahead. After the last, `rows.result` is what `call` would have returned.
        Raises as `call` does, and so does the iteration. Left before the end, the call is cancelled.
        """
        first = credit_of(window)
        link = await self._roomy_link(None, keyed=key is not None)
        number = command_number(cmd, link.welcome)
        call_id, pending = link.begin_stream(first)
        try:
            frame = protocol.call(
                call_id, number, [] if params is None else params, protocol.options(None, key, trace, parts=first)
            )
            link.write(protocol.fitting(frame, link.welcome))
        except BaseException:
            link.forget(call_id)
            raise
        try:
            yield Parts(link, call_id, pending, window)
        finally:
            if call_id in link.pending:  # the id stays taken until its final frame
                link.write(protocol.cancel(call_id))

    async def cast(
        self, cmd: int | str, params: Term = None, *, key: int | None = None, trace: bytes | None = None
    ) -> bool:
        """Hand a request over; nothing is heard of it. False: dropped: no connection, or a bound is reached.

        With a key it waits, at most `connect_wait`, for a connection that drains: its predecessors may run there.
        """
        await trio.lowlevel.checkpoint()
        if key is not None:
            with trio.move_on_after(self._options.connect_wait):
                while self._old:
                    await self._changed.wait()
        link = self._link
        if link is None or link.leaving.is_set() or link.unsent > self._options.max_unsent:
            self.dropped_casts += 1
            return False
        number = command_number(cmd, link.welcome)
        opts = protocol.options(None, key, trace)
        link.write(protocol.fitting(protocol.cast(number, [] if params is None else params, opts), link.welcome))
        return True

    async def ping(self, *, timeout: float = 5.0) -> float:  # noqa: ASYNC109 - as call's
        """Seconds until the host's loop answered."""
        link = await self._usable_link(trio.current_time() + timeout)
        began = trio.current_time()
        ping_id, pending = link.begin()
        link.write(protocol.ping(ping_id))
        with trio.move_on_after(timeout):
            await pending.answered.wait()
        if not pending.answered.is_set():
            raise CallTimeout(f"no answer to a ping within {timeout:g} s")
        pending.result()
        return trio.current_time() - began

    async def _answer(self, link: Link, call_id: int, pending: Pending, left: float | None) -> Term:
        try:
            if left is None:
                await pending.answered.wait()
            else:
                with trio.move_on_after(max(0.0, left) + HOST_WORD):
                    await pending.answered.wait()
        finally:
            # Given up: the id stays taken until its final frame.
            if not pending.answered.is_set() and not link.leaving.is_set():
                link.write(protocol.cancel(call_id))
        if not pending.answered.is_set():
            raise CallTimeout("no answer within the call's time")
        return pending.result()

    async def _roomy_link(self, until: float | None, *, keyed: bool) -> Link:
        """A usable link, if it takes another call. Failed('overloaded')"""
        link = await self._usable_link(until, keyed=keyed)
        room = len(link.pending) < min(self._options.max_in_flight, link.welcome.in_flight)
        if not room or link.unsent > self._options.max_unsent:
            await trio.lowlevel.checkpoint()  # who tries again at once must let others run, answers among them
            raise Failed("overloaded")
        return link

    async def _usable_link(self, until: float | None, *, keyed: bool = False) -> Link:
        """Where a request may be written now, without a checkpoint in between."""
        link = self._link
        if link is not None and not link.leaving.is_set() and not (keyed and self._old):
            await trio.lowlevel.checkpoint_if_cancelled()  # who asks waits for the answer soon, and others run then
            return link
        return await self._awaited_link(until, keyed=keyed)

    async def _awaited_link(self, until: float | None, *, keyed: bool) -> Link:
        await trio.lowlevel.checkpoint()
        limit = trio.current_time() + self._options.connect_wait if until is None else until
        with trio.CancelScope(deadline=limit):
            while self._link is None or self._link.leaving.is_set() or (keyed and self._old):
                if self._closed:
                    raise ClientError("this client is closed")
                if self._refused is not None:
                    raise Failed("unavailable") from self._refused
                await self._changed.wait()
            return self._link
        raise Failed("unavailable")

    async def first_link(self) -> Link:
        """For `open_client`: one attempt within `connect_timeout`."""
        with trio.move_on_after(self._options.connect_timeout):
            return await open_link(self.url, self.instance, self._key, self._tls, self._options.max_frame)
        raise Unreachable(f"{self.url}: no answer within {self._options.connect_timeout:g} s")

    def _tell(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def serve(self, first: Link, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """For `open_client`: keep a connection until cancelled."""
        async with trio.open_nursery() as links:
            self._switch(first, links)
            task_status.started()
            with self._dialing:
                await self._stay_linked(first, links)
            await trio.sleep_forever()

    async def _stay_linked(self, link: Link, links: trio.Nursery) -> None:
        delay = self._options.backoff_first
        while True:
            began = trio.current_time()
            await link.unsettled.wait()
            links.start_soon(self._leave_soon, link)
            if link.was_useful or trio.current_time() - began > self._options.backoff_max:
                delay, pause = self._options.backoff_first, 0.0
            else:
                pause = delay  # welcomed and dropped: as good as refused
            while True:
                if pause:
                    await trio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, no secret
                    delay = min(2 * delay, self._options.backoff_max)
                try:
                    link = await self.first_link()
                    break
                except Refused as exc:  # by a daemon that stops: another may come in its place
                    self._refused = exc if exc.reason != "draining" else None
                    self._tell()
                except Unreachable:
                    self._refused = None
                pause = delay
            self._switch(link, links)

    async def _leave_soon(self, link: Link) -> None:
        """A daemon that restarts lets nobody in before its old clients have left."""
        await trio.sleep(LEAVE)
        if link is self._link:
            link.finish()

    def _switch(self, link: Link, links: trio.Nursery) -> None:
        """New requests go to this link; the one before collects its answers."""
        if self._link is not None:
            self._link.finish()
        if self._link in self._running:
            self._old.add(self._link)
        self._link, self._refused = link, None
        self._running.add(link)
        links.start_soon(self._run, link)
        self._tell()

    async def _run(self, link: Link) -> None:
        try:
            await link.run()
        finally:
            self._running.discard(link)
            self._old.discard(link)
            self._tell()

    async def finish(self) -> None:
        """For `open_client`: what was handed over leaves, and is read; LINGER at most."""
        self.close()
        with trio.move_on_after(LINGER):
            while self._running:
                await self._changed.wait()

    def close(self) -> None:
        """For `open_client`: no more requests."""
        self._closed = True
        self._dialing.cancel()
        if self._link is not None:
            self._link.finish()
        self._tell()


@contextlib.asynccontextmanager
async def open_client(
    url: str,
    instance: str,
    options: Options | None = None,
    *,
    key: tuple[str, bytes] | None = None,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Client]:
    """A client whose first connection stands. Unreachable or Refused when it cannot; ValueError for a malformed URL,
    or a `max_frame` out of range.

    `key`: name and secret that the daemon knows too; both ends prove it, on every connection. ValueError: no key.
    `tls`: for a URL tls://HOST:PORT, whom to trust and who we are; None: the authorities that the system trusts.
    Left without an exception, it sees its last casts read and its calls answered, for two seconds at most.
    """
    client = Client(url, instance, options or Options(), None if key is None else Key(*key), tls)
    link = await client.first_link()
    failure: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(client.serve, link)
            try:
                yield client
                await client.finish()
            except BaseException as exc:  # noqa: BLE001 - raised below: a nursery would wrap it into a group
                failure = exc
            client.close()
            nursery.cancel_scope.cancel()
    finally:
        if failure is not None:
            raise failure
