# SPDX-License-Identifier: MIT
"""Keeps one host of an instance running: it decides when a host starts, restarts, and is given up.

Ready is said by the host, not guessed. A death is followed by a restart, at once and then ever later (backoff.py); a
driver that cannot be used is FATAL at once. Which state follows which is states.py.
"""

from __future__ import annotations

import contextlib
import functools
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

import trio

from gendriverd import orphans, reports
from gendriverd.aftermath import Guilt
from gendriverd.backoff import Backoff
from gendriverd.connections import Background
from gendriverd.errors import HostGone, LaunchError
from gendriverd.etf import Term
from gendriverd.launch import Exit
from gendriverd.lifetime import Lifetime, Patience
from gendriverd.log import Log
from gendriverd.quarantine import Fingerprint, fingerprint
from gendriverd.reporter import Pending, Reporter
from gendriverd.sandbox import with_hint
from gendriverd.snapshot import Snapshot
from gendriverd.start import Plan, Started, start
from gendriverd.states import NEXT, Event, State
from gendriverd.statistics import Statistics

EXIT_REFUSED = 100
PATIENCE = 5.0  # seconds for a host to take a message that nothing depends on
RETURN = 0.02  # seconds in which clients come to the host that takes the place of theirs: all else can wait so long


class Parent(Protocol):
    """What a keeper tells its instance."""

    def next_generation(self) -> int:
        """The number of a host that is about to start."""

    async def driver(self) -> Snapshot:
        """The file to load. Raises LaunchError."""

    def ended_host(self, last_exit: str, *, asked: bool) -> None:
        """A host has died, or left as it was asked to."""

    def killed(self, killer: Fingerprint) -> bool:
        """A request has killed its host. True: from now on it is refused."""

    def refused(self) -> list[tuple[Term, ...]]:
        """What a new host is told to refuse."""

    def served(self) -> bool:
        """Some host of it takes clients."""

    def spent(self) -> str | None:
        """Why no host of it is to be started any more, after a death; None: go on."""

    def changed(self) -> None:
        """The keeper's state is another."""


@dataclass(frozen=True)
class Ending:
    """How a host ended, and what that means for its keeper."""

    event: Event
    reason: str
    delay: float = 0.0  # seconds until the next start
    spent: str | None = None  # why there is none


class Keeper:
    def __init__(self, plan: Plan, parent: Parent, log: Log, background: Background) -> None:
        self.state = State.STOPPED
        self.tried = False  # its first host became ready, or ended
        self.trouble: str | None = None  # why its last host ended, or could not start
        self.life: Lifetime | None = None
        self._plan = plan
        self._parent = parent
        self._log = log
        self._background = background
        self._stop = trio.Event()
        self._reporter = Reporter(plan.daemon, background)
        self._backoff = Backoff(**plan.config.restart.model_dump(exclude={"budget", "budget_time"}))
        self._failures = 0
        self._successor: Started | None = None

    async def run(self) -> None:
        """Until stop() has been asked for and obeyed."""
        try:
            await self._keep_running()
        finally:
            if self._successor is not None:
                self._successor.discard()
            self._reporter.write()

    async def _keep_running(self) -> None:
        if self._stop.is_set():
            self.tried = True
            return
        self._step(Event.START)
        while True:
            ending = await self._one_host()
            self.trouble = ending.reason
            self._step(ending.event)
            if self.state is State.FATAL:
                await self._be_fatal(ending.reason)
            if self.state is State.STOPPED:
                return
            if ending.spent is not None:
                self._step(Event.GIVE_UP)
                await self._be_fatal(f"{ending.spent}; last: {ending.reason}")
                return
            about = {"failures": self._failures, "delay": round(ending.delay, 3), "reason": ending.reason}
            self._log.warning("instance_backoff", **about)
            if ending.delay > 0:
                self._reporter.write()
                with trio.move_on_after(ending.delay):
                    await self._stop.wait()
            if self._stop.is_set():
                self._step(Event.STOP)
                return
            self._step(Event.TIMER)

    def stop(self) -> None:
        """Ask it to drain and stop; run() returns when that is done."""
        self._stop.set()

    @property
    def serving(self) -> bool:
        """Its host takes clients now."""
        return self.state is State.RUNNING and self.life is not None and not self.life.leaving

    def about(self) -> dict[str, object] | None:
        """Its host, for `gendriverd status`."""
        life = self.life
        if life is None:
            return None
        ready_for = round(trio.current_time() - life.ready_at, 3) if life.ready else None
        about = {"pid": life.host.pid, "generation": life.generation, "state": self.state.value}
        return {**about, "ready_for": ready_for, "connections": life.clients}

    async def refuse(self, message: tuple[Term, ...]) -> None:
        """Tell its host."""
        if self.life is not None:
            with contextlib.suppress(HostGone), trio.move_on_after(PATIENCE):
                await self.life.host.channel.send(*message)

    def _step(self, event: Event) -> None:
        self.state = NEXT[self.state, event]
        self.tried = self.tried or self.state is not State.STARTING
        self._parent.changed()

    async def _be_fatal(self, reason: str) -> None:
        self._reporter.write()
        self._log.error("instance_failed", reason=reason)
        await self._stop.wait()
        self._step(Event.STOP)

    async def _one_host(self) -> Ending:
        """Start a host and stay with it until it is reaped. A bug of ours here counts as a crash of the host."""
        try:
            return await self._live()
        except LaunchError as error:
            self._log.error("host_not_started", reason=str(error))
            return self._judge(Event.REFUSED if error.permanent else Event.EXITED, str(error))
        except Exception as error:  # noqa: BLE001 (one instance is no reason to end the others)
            self._log.exception("instance_error")
            return self._judge(Event.EXITED, f"internal error: {error!r}")
        finally:
            self.life = None

    async def _live(self) -> Ending:
        plan = self._plan
        started, self._successor = self._successor or self._start(await self._parent.driver()), None
        log = self._log.bind(generation=started.generation)
        self.life = life = Lifetime(started.generation, started.host, started.recorder, log, self._background)
        patience = Patience(plan.daemon.drain_timeout, plan.daemon.stop_timeout, plan.config.heartbeat)
        ending = Ending(Event.EXITED, "nobody knows how")

        def on_dead(end: Exit) -> None:
            nonlocal ending
            ending = self._on_dead(started, life, end, log)

        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._step_when_stopped)
                start_timeout = plan.config.start_timeout or plan.daemon.start_timeout
                await life.run(start_timeout, self._stop, patience, self._on_ready, on_dead)
                if self._parent.served():
                    with trio.move_on_after(RETURN):
                        await self._stop.wait()
                nursery.cancel_scope.cancel()
        finally:
            if started.group is not None:
                started.group.kill()
            orphans.sweep(log)
            if started.group is not None:
                started.group.remove()
        return ending

    def _start(self, driver: Snapshot) -> Started:
        """Raises LaunchError."""
        started = start(self._plan, driver, self._parent.next_generation(), self._parent.refused())
        self._log.debug(
            "host_started", generation=started.generation, pid=started.host.pid, driver=started.driver.original
        )
        return started

    def _on_dead(self, dead: Started, life: Lifetime, end: Exit, log: Log) -> Ending:
        """Its clients have heard. Where they need the next host at once, it starts while all else is tidied up."""
        self.life = None
        ending = self._ending(life, end, dead, log)
        killer = fingerprint(life.record, life.culprit)
        refused = killer is not None and self._parent.killed(killer)
        if self._plan.daemon.reports != "off" and ending.event is Event.EXITED and not life.orderly:
            self._reporter.remember(
                Pending(self._describe(life, end, dead.driver, ending, refused), dead.recorder, log)
            )
        else:
            dead.recorder.close()
        at_once = ending.event is Event.EXITED and ending.spent is None and ending.delay == 0
        if at_once and not self._stop.is_set() and not self._parent.served():
            with contextlib.suppress(LaunchError):  # it is tried again, and then it is said
                self._successor = self._start(dead.driver)
        return ending

    def _judge(self, event: Event, reason: str, lived: float = 0.0) -> Ending:
        """What an end means; `lived`: seconds it was ready."""
        if event is Event.REFUSED or self._stop.is_set():
            return Ending(event, reason)
        self._failures = self._backoff.failures(self._failures, lived)
        delay = self._backoff.delay(self._failures, random.random())  # noqa: S311 (jitter is no secret)
        return Ending(event, reason, delay, self._parent.spent())

    async def _step_when_stopped(self) -> None:
        await self._stop.wait()
        self._step(Event.STOP)

    def _on_ready(self) -> None:
        self._step(Event.READY)
        if self.life is not None and self.life.ready is not None:
            ready, about = self.life.ready, {"generation": self.life.generation, "threads": self._plan.config.threads}
            self._log.info("instance_ready", **about, abi=ready.abi, source=ready.source)
        self._reporter.write()

    def _ending(self, life: Lifetime, end: Exit, dead: Started, log: Log) -> Ending:
        asked, driver = self.state is State.STOPPING, dead.driver
        if life.charge is None and dead.group is not None and dead.group.out_of_memory():
            life.charge = "the kernel ended it for the memory it used"
        if life.refusal is not None and end.code == EXIT_REFUSED:
            text = with_hint(life.refusal.replace(driver.file, driver.original), self._plan.config.sandbox)
            return self._judge(Event.REFUSED, text if driver.original in text else f"driver {driver.original}: {text}")
        last_exit = str(end) if life.charge is None else f"{life.charge} ({end})"
        self._parent.ended_host(last_exit, asked=asked)
        reason = f"driver {driver.original}: {last_exit}" if life.ready is None else last_exit
        level = log.info if asked and end.code == 0 else log.warning
        level("host_exited", code=end.code, signal=end.signal, reason=reason, **_about_culprit(life.culprit))
        lived = trio.current_time() - life.ready_at if life.ready else 0.0
        return self._judge(Event.EXITED, reason, lived)

    def _describe(
        self, life: Lifetime, end: Exit, driver: Snapshot, ending: Ending, refused: bool
    ) -> Callable[[Statistics], reports.Report]:
        """A report of the death, once it is called: it reads the driver's file."""
        return functools.partial(
            reports.make,
            loop_busy=life.loop_busy,
            quarantined=refused,
            when=datetime.now(UTC),
            now=time.monotonic_ns(),
            instance=self._plan.name,
            generation=life.generation,
            driver=driver.original,
            loaded=driver.file,
            names=life.ready.commands if life.ready else {},
            host=life.host,
            end=end,
            reason=ending.reason,
            record=life.record,
            guilt=life.culprit,
            peers=life.peers,
            mapped=life.mapped,
            lines=list(life.lines),
            full=self._plan.daemon.reports == "full",
        )


def _about_culprit(guilt: Guilt | None) -> dict[str, object]:
    """For the log: the request that killed its host."""
    if guilt is None:
        return {}
    request, reason = guilt
    about = {"command": request.command, "conn": request.conn, "request": request.number, "worker": request.seat}
    return {**about, "outcome": reason}
