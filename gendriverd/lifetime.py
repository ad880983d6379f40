# SPDX-License-Identifier: MIT
"""One host, from its start to its reaping: what it says is believed only as far as it was checked, and every wait ends.

A host is killed, and counted as crashed, when it says what is no message, is not ready in time, closes its channel and
stays, or does not stop when told. What it said before it died still counts: the channel is read to its end first.
"""

from __future__ import annotations

import itertools
import math
import os
import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import trio

from gendriverd.aftermath import Guilt, culprit
from gendriverd.client_lines import ClientLines
from gendriverd.connections import Background, Connections, Handover
from gendriverd.errors import BadMessage, HostGone
from gendriverd.etf import Atom
from gendriverd.launch import Exit, Host
from gendriverd.log import LEVELS, RESERVED, LineBudget, Log
from gendriverd.messages import Adopted, Closed, Drained, LogLine, Message, Pong, Ready, Refuse, Refused
from gendriverd.permissions import Numbers, Permissions
from gendriverd.recorder import Record, Recorder, Untrusted
from gendriverd.reports import modules
from gendriverd.statistics import Statistics

LAST_WORDS = 2.0  # seconds between "it should be leaving" and SIGKILL, or between its death and our not listening
MARGIN = 1.0  # seconds a host gets beyond the limits it was told
REAPING = 5.0
LINES_KEPT = 50
LINE_MAX = 2048  # bytes of one printed line


@dataclass(frozen=True)
class Patience:
    """Seconds."""

    drain: float
    stop: float
    heartbeat: float = math.inf  # of its loop: without a sign for so long it is put down


class Lifetime:
    """Run it once, when {start, Map} was sent. `background` starts a task that may live longer: it waits for clients
    whose host died.
    """

    def __init__(
        self,
        generation: int,
        host: Host,
        recorder: Recorder,
        log: Log,
        background: Background,
    ) -> None:
        self.generation = generation
        self.host = host
        self.culprit: Guilt | None = None  # the request that killed it, where that is known
        self._recorder = recorder
        self.record = Record({}, [], None)  # as its death left it
        self.peers: dict[int, str] = {}  # of the connections then
        self.loop_busy: float | None = None  # seconds, when it was put down for want of a sign; None: its loop waited
        self.mapped: list[tuple[int, int, int, str]] = []  # its code, when it was ready
        self.lines: deque[dict[str, object]] = deque(maxlen=LINES_KEPT)  # its last
        self.ready: Ready | None = None
        self.welcome: bytes | None = None  # the frame that its clients get first, once it is made
        self.permissions: Permissions | None = None  # once it is ready
        self.ready_at = 0.0
        self.refusal: str | None = None
        self.charge: str | None = None  # why the daemon killed it
        self._log = log
        self._on_ready: Callable[[], None] = lambda: None
        self._settled = trio.Event()  # ready or refused
        self._drained = trio.Event()
        self._channel_ended = trio.Event()
        self._output_ended = trio.Event()
        self._connections = Connections(log, background)
        self._budget = LineBudget()
        self._beat = trio.Event()
        self._asked: int | None = None  # the number of the ping that waits for its pong
        self._lied = False
        self._told_to_stop = False
        self.orderly = False  # it ended as it was told
        self._leaving = False

    async def run(
        self,
        start_timeout: float,
        stop: trio.Event,
        limits: Patience,
        on_ready: Callable[[], None],
        on_dead: Callable[[Exit], None],
    ) -> None:
        """Until it is buried. Cancelled: it is killed. `on_ready` is called when the host says so, `on_dead` when it is
        reaped and its clients have heard: neither waits.
        """
        self._on_ready = on_ready
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._read_channel)
                nursery.start_soon(self._read_output)
                nursery.start_soon(self._begin, start_timeout)
                nursery.start_soon(self._stop_when_asked, stop, limits)
                nursery.start_soon(self._heartbeat, limits.heartbeat)
                end = await self.host.wait()
                with trio.move_on_after(LAST_WORDS) as last:
                    await self._channel_ended.wait()
                self._part(end)
                on_dead(end)
                with trio.CancelScope(deadline=last.deadline):
                    await self._output_ended.wait()
                nursery.cancel_scope.cancel()
        finally:
            await self._bury()

    async def offer(
        self, peer: str, lines: ClientLines, welcome: bytes, allowed: Numbers, client: int, limit: float
    ) -> Handover:
        """Pass a client's socket; the host has a copy of the descriptor afterwards, adopted or not."""
        try:
            connection = self._connections.add(peer, lines, client)
        except OSError:  # no descriptor left
            return Handover.TOO_MANY
        with trio.move_on_after(limit):
            try:
                await self.host.channel.send_conn(connection.number, peer, welcome, allowed, client)
            except HostGone:
                self._leaving = True
                self._connections.withdraw(connection)
                return Handover.UNTOUCHED
            await connection.answered.wait()
        return connection.outcome

    async def statistics(self) -> Statistics:
        """What the host says it has run until now. Raises Untrusted, OSError (no descriptor left)."""
        fd = os.dup(self._recorder.fd)
        try:
            return await trio.to_thread.run_sync(self._recorder.statistics, fd)
        finally:
            os.close(fd)

    @property
    def clients(self) -> int:
        """Those that were passed to it and have not left."""
        return len(self._connections)

    @property
    def leaving(self) -> bool:
        """It said so, or its channel is closed: no use in asking it."""
        return self._leaving or self._channel_ended.is_set()

    async def _begin(self, start_timeout: float) -> None:
        with trio.move_on_after(start_timeout) as scope:
            await self._settled.wait()
        if scope.cancelled_caught:
            self._kill(f"not ready after {start_timeout:g} s")
        elif self.refusal is not None:
            await trio.sleep(LAST_WORDS)
            self._kill("did not leave after refuse")

    async def _heartbeat(self, limit: float) -> None:
        """Ask its loop for a sign, again and again. Workers may be as busy as they like."""
        await self._settled.wait()
        beats = itertools.count(1)
        while math.isfinite(limit):
            with trio.move_on_after(limit) as scope:
                self._beat, self._asked = trio.Event(), next(beats)
                try:
                    await self.host.channel.send(Atom("ping"), self._asked)
                except HostGone:
                    return
                await self._beat.wait()
                self._log.debug("heartbeat")
            if scope.cancelled_caught:
                self.loop_busy = self._recorder.loop_busy()
                self._kill(f"its loop did not answer for {limit:g} s")
                return
            await trio.sleep(limit / 2)

    async def _stop_when_asked(self, stop: trio.Event, limits: Patience) -> None:
        await stop.wait()
        self._told_to_stop = True
        try:
            if self.ready is not None:
                with trio.move_on_after(limits.drain):
                    await self.host.channel.send(Atom("drain"), round(limits.drain * 1000))
                    await self._drained.wait()
            with trio.move_on_after(limits.stop + MARGIN):
                await self.host.channel.send(Atom("stop"), round(limits.stop * 1000))
                await trio.sleep_forever()
        except HostGone:
            await trio.sleep(LAST_WORDS)
        self._kill("did not stop in time")

    async def _read_channel(self) -> None:
        try:
            while True:
                message = await self.host.channel.receive(self._may_log)
                if message is None:
                    await trio.sleep(0.001)  # slows a host down that floods; its log never blocks it
                else:
                    self._hear(message)
        except HostGone:
            self._channel_ended.set()
            await trio.sleep(LAST_WORDS)
            self._kill("closed its control channel")
        except BadMessage as error:
            self._lied = True
            self._kill(f"said what is no message: {error}")
            self._channel_ended.set()

    def _hear(self, message: Message) -> None:
        match message:
            case Ready() | Refuse():
                self._hear_settled(message)
            case Adopted(number):
                self._connections.adopted(number)
            case Refused(number, reason):
                self._connections.refused(number, reason)
                self._leaving = self._leaving or reason == "stopping"
            case Closed():
                self._connections.closed(message)
            case LogLine():
                self._hear_log(message)
            case Drained():
                self._hear_drained()
            case Pong(number):
                self._hear_pong(number)

    def _hear_drained(self) -> None:
        if not self._told_to_stop or self._drained.is_set():
            raise BadMessage("drained, which nobody asked for")
        self._drained.set()

    def _hear_pong(self, number: int) -> None:
        if number != self._asked:
            raise BadMessage("pong, which nobody asked for")
        self._asked = None
        self._beat.set()

    def _hear_settled(self, message: Ready | Refuse) -> None:
        if self._settled.is_set():
            raise BadMessage("ready or refuse, a second time")
        self._settled.set()
        if isinstance(message, Refuse):
            self.refusal = message.text
            return
        self.ready = message
        self.permissions = Permissions(message.commands, self._log)
        self.ready_at = trio.current_time()
        self.mapped = modules(self.host.maps)
        self._on_ready()

    def _hear_log(self, line: LogLine) -> None:
        """The line itself is paid for: it was allowed before it was decoded."""
        self._budget.spend(sum(len(key) + len(str(value)) for key, value in line.values.items()))
        values = {f"driver_{key}" if key in RESERVED else key: value for key, value in line.values.items()}
        event = line.event if re.fullmatch(r"[a-z0-9_]{1,64}", line.event) else "host_log"
        self._log.log(LEVELS[line.level], event, source="host", **values)
        self.lines.append({"event": event, "level": line.level, **_shortened(values)})

    async def _read_output(self) -> None:
        held = b""
        while chunk := await self.host.read_output():
            if not self._budget.allows(trio.current_time(), 0):
                self._budget.drop(chunk.count(b"\n"))
                held = b""
                await trio.sleep(0.001)  # as for log lines
                continue
            *lines, held = (held + chunk).split(b"\n")
            if len(held) > LINE_MAX:
                lines, held = [*lines, held], b""
            self._log_output(lines)
        self._log_output([held] if held else [])
        self._output_ended.set()

    def _log_output(self, lines: list[bytes]) -> None:
        for at, line in enumerate(lines):
            if not self._may_log(min(len(line), LINE_MAX)):
                self._budget.drop(len(lines) - at - 1)  # at once: there may be thousands
                return
            self._log.info("driver_output", line=line[:LINE_MAX])
            self.lines.append({"event": "driver_output", "line": line[:LINE_MAX].decode("utf-8", "backslashreplace")})

    def _may_log(self, size: int = 0) -> bool:
        if not self._budget.allows(trio.current_time(), size=size):
            return False
        self._log_dropped()
        return True

    def _log_dropped(self) -> None:
        dropped = self._budget.take_dropped()
        if dropped:
            self._log.warning("log_dropped", lines=dropped)

    def _part(self, end: Exit) -> None:
        self.record = self._read_record()
        self.peers = self._connections.peers()
        self.orderly = self._told_to_stop and end.code == 0  # it has said all itself
        self.culprit = None if self.orderly else culprit(self.record.death, end)
        self._connections.part(self.record, self.culprit, silently=self.orderly, trusted=not self._lied)

    def _read_record(self) -> Record:
        try:
            return self._recorder.read()
        except Untrusted as error:
            self._lied = True
            self._log.error("recorder_overwritten", reason=str(error))
            return Record({}, [], None)

    def _kill(self, charge: str) -> None:
        if self.charge is None:
            self.charge = charge
        self.host.kill()

    async def _bury(self) -> None:
        try:
            with trio.CancelScope(shield=True), trio.move_on_after(REAPING):
                self.host.kill()
                await self.host.wait()
        finally:
            self._leaving = True
            self.host.close()
        self._log_dropped()
        self._connections.drop()


def _shortened(values: dict[str, str | int]) -> dict[str, str | int]:
    """Texts of LINE_MAX characters together, for a report."""
    left, kept = LINE_MAX, dict[str, str | int]()
    for key, value in values.items():
        kept[key] = value if isinstance(value, int) else value[:left]
        left = max(0, left - len(str(value)))
    return kept
