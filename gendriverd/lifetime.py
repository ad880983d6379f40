# SPDX-License-Identifier: MIT
"""One host, from its start to its reaping: what it says is believed only as far as it was checked, and every wait ends.

A host is killed, and counted as crashed, when it says what is no message, is not ready in time, closes its channel and
stays, or does not stop when told. What it said before it died still counts: the channel is read to its end first.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

import trio

from gendriverd.errors import BadMessage, HostGone
from gendriverd.etf import Atom, Term
from gendriverd.launch import Exit, Host
from gendriverd.log import LEVELS, RESERVED, LineBudget, Log
from gendriverd.messages import Adopted, Closed, Drained, LogLine, Message, Pong, Ready, Refuse, Refused

LAST_WORDS = 2.0  # seconds between "it should be leaving" and SIGKILL, or between its death and our not listening
MARGIN = 1.0  # seconds a host gets beyond the limits it was told
REAPING = 5.0
LINE_MAX = 2048  # bytes of one printed line
COUNTS = ("calls", "casts", "bytes_in", "bytes_out")


class Handover(Enum):
    ADOPTED = "adopted"
    TOO_MANY = "too_many"  # refused: its connections are at their limit
    UNTOUCHED = "untouched"  # refused, or the host is dead: another may have the socket
    SILENT = "silent"  # no answer: the host may yet write to the socket, nobody else must


@dataclass
class Connection:
    """A client's socket that was passed to the host."""

    peer: str
    answered: trio.Event = field(default_factory=trio.Event)
    outcome: Handover = Handover.SILENT


@dataclass(frozen=True)
class StopLimits:
    """Seconds."""

    drain: float
    stop: float


class Lifetime:
    """Run it once. `on_ready` is called, without waiting, when the host says so."""

    def __init__(self, host: Host, log: Log, on_ready: Callable[[], None]) -> None:
        self.host = host
        self.ready: Ready | None = None
        self.ready_at = 0.0
        self.refusal: str | None = None
        self.charge: str | None = None  # why the daemon killed it
        self._log = log
        self._on_ready = on_ready
        self._settled = trio.Event()  # ready or refused
        self._drained = trio.Event()
        self._channel_ended = trio.Event()
        self._output_ended = trio.Event()
        self._connections: dict[int, Connection] = {}
        self._numbers = 0
        self._budget = LineBudget()
        self._lied = False
        self._leaving = False

    async def run(self, start: dict[Term, Term], start_timeout: float, stop: trio.Event, limits: StopLimits) -> Exit:
        """Until it is reaped. Cancelled: it is killed."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._read_channel)
                nursery.start_soon(self._read_output)
                nursery.start_soon(self._begin, start, start_timeout)
                nursery.start_soon(self._stop_when_asked, stop, limits)
                end = await self.host.wait()
                with trio.move_on_after(LAST_WORDS):
                    await self._channel_ended.wait()
                    await self._output_ended.wait()
                nursery.cancel_scope.cancel()
            return end
        finally:
            await self._bury()

    async def offer(self, peer: str, welcome: bytes, client: int, limit: float) -> Handover:
        """Pass a client's socket; the host has a copy of the descriptor afterwards, adopted or not."""
        self._numbers += 1
        number, connection = self._numbers, Connection(peer)
        self._connections[number] = connection
        with trio.move_on_after(limit):
            try:
                await self.host.channel.send_conn(number, peer, welcome, client)
            except HostGone:
                self._leaving = True
                self._connections.pop(number, None)
                return Handover.UNTOUCHED
            await connection.answered.wait()
        return connection.outcome

    @property
    def leaving(self) -> bool:
        """It said so, or its channel is closed: no use in asking it."""
        return self._leaving or self._channel_ended.is_set()

    @property
    def connections(self) -> int:
        return sum(each.outcome is Handover.ADOPTED for each in self._connections.values())

    async def _begin(self, start: dict[Term, Term], start_timeout: float) -> None:
        with trio.move_on_after(start_timeout) as scope:
            try:
                await self.host.channel.send(Atom("start"), start)
            except HostGone:
                return  # its death says the rest
            await self._settled.wait()
        if scope.cancelled_caught:
            self._kill(f"not ready after {start_timeout:g} s")
        elif self.refusal is not None:
            await trio.sleep(LAST_WORDS)
            self._kill("did not leave after refuse")

    async def _stop_when_asked(self, stop: trio.Event, limits: StopLimits) -> None:
        await stop.wait()
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
                if not self._hear(await self.host.channel.receive()):
                    await trio.sleep(0.001)  # slows a host down that floods; its log never blocks it
        except HostGone:
            self._channel_ended.set()
            await trio.sleep(LAST_WORDS)
            self._kill("closed its control channel")
        except BadMessage as error:
            self._lied = True
            self._kill(f"said what is no message: {error}")
            self._channel_ended.set()

    def _hear(self, message: Message) -> bool:
        """False: a log line over the budget."""
        match message:
            case Ready() | Refuse():
                self._hear_settled(message)
            case Adopted(number):
                self._answer(number, Handover.ADOPTED)
                self._log.info("client_connected", conn=number, peer=self._connections[number].peer)
            case Refused(number, reason):
                self._answer(number, Handover.TOO_MANY if reason == "too_many" else Handover.UNTOUCHED)
                del self._connections[number]
                self._leaving = self._leaving or reason == "stopping"
            case Closed():
                self._hear_closed(message)
            case LogLine():
                return self._hear_log(message)
            case Drained():
                self._drained.set()
            case Pong():
                pass
        return True

    def _hear_settled(self, message: Ready | Refuse) -> None:
        if self._settled.is_set():
            raise BadMessage("ready or refuse, a second time")
        self._settled.set()
        if isinstance(message, Refuse):
            self.refusal = message.text
            return
        self.ready = message
        self.ready_at = trio.current_time()
        self._on_ready()

    def _answer(self, number: int, outcome: Handover) -> None:
        connection = self._connections.get(number)
        if connection is None or connection.outcome is Handover.ADOPTED:
            raise BadMessage(f"{outcome.value}: connection {number} waits for no answer")
        connection.outcome = outcome
        connection.answered.set()

    def _hear_closed(self, message: Closed) -> None:
        connection = self._connections.get(message.conn)
        if connection is None or connection.outcome is not Handover.ADOPTED:
            raise BadMessage(f"closed: no connection {message.conn}")
        del self._connections[message.conn]
        counts = {key: message.counts.get(key, 0) for key in COUNTS}
        self._log.info("client_closed", conn=message.conn, peer=connection.peer, reason=message.reason, **counts)

    def _hear_log(self, line: LogLine) -> bool:
        if not self._may_log():
            return False
        values = {f"driver_{key}" if key in RESERVED else key: value for key, value in line.values.items()}
        event = line.event if re.fullmatch(r"[a-z0-9_]{1,64}", line.event) else "host_log"
        self._log.log(LEVELS[line.level], event, source="host", **values)
        return True

    async def _read_output(self) -> None:
        held = b""
        while chunk := await self.host.read_output():
            if not self._budget.allows(trio.current_time(), 0):
                self._budget.drop(chunk.count(b"\n"))
                held = b""
                continue
            *lines, held = (held + chunk).split(b"\n")
            if len(held) > LINE_MAX:
                lines, held = [*lines, held], b""
            self._log_output(lines)
        self._log_output([held] if held else [])
        self._output_ended.set()

    def _log_output(self, lines: list[bytes]) -> None:
        for line in lines:
            if self._may_log():
                self._log.info("driver_output", line=line[:LINE_MAX])

    def _may_log(self) -> bool:
        if not self._budget.allows(trio.current_time()):
            return False
        self._log_dropped()
        return True

    def _log_dropped(self) -> None:
        dropped = self._budget.take_dropped()
        if dropped:
            self._log.warning("log_dropped", lines=dropped)

    def _kill(self, charge: str) -> None:
        if self.charge is None:
            self.charge = charge
        self.host.kill()

    async def _bury(self) -> None:
        with trio.CancelScope(shield=True), trio.move_on_after(REAPING):
            self.host.kill()
            await self.host.wait()
        self._leaving = True
        self.host.close()
        self._log_dropped()
        for connection in self._connections.values():
            if not connection.answered.is_set():
                connection.outcome = Handover.SILENT if self._lied else Handover.UNTOUCHED
                connection.answered.set()
