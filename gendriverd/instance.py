# SPDX-License-Identifier: MIT
"""An instance: a driver, named and configured, kept running. It decides when a host starts, restarts, and is given up.

Ready is said by the host, not guessed. A death is followed by a restart, at once and then ever later (backoff.py); a
driver that cannot be used is FATAL at once. Which state follows which is states.py.
"""

from __future__ import annotations

import functools
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import trio

from gendriverd import reports
from gendriverd.aftermath import Guilt
from gendriverd.backoff import Backoff
from gendriverd.config import DaemonConfig, InstanceConfig
from gendriverd.connections import Background
from gendriverd.errors import HandshakeRefused, LaunchError
from gendriverd.etf import Atom, Term
from gendriverd.launch import Exit, find_driver, find_host, launch
from gendriverd.lifetime import Lifetime, Patience
from gendriverd.log import Log
from gendriverd.messages import Ready
from gendriverd.recorder import Recorder
from gendriverd.states import HOPELESS, NEXT, Event, State

EXIT_REFUSED = 100


@dataclass(frozen=True)
class Ending:
    """How a host ended, and what that means for its instance."""

    event: Event
    reason: str
    lived: float = 0.0  # seconds it was ready


class Instance:
    def __init__(
        self,
        name: str,
        config: InstanceConfig,
        daemon: DaemonConfig,
        log: Log,
        background: Background,
    ) -> None:
        self.name = name
        self.config = config
        self.state = State.STOPPED
        self.generation = 0
        self.last_exit: str | None = None
        self.trouble: str | None = None  # why its last host ended, or could not start
        self._daemon = daemon
        self._background = background
        self._log = log.bind(instance=name)
        self.ended = trio.Event()  # its run() is over
        self._life: Lifetime | None = None
        self._stamp: Stamp | None = None
        self._stop = trio.Event()
        self._changed = trio.Event()

    async def run(
        self, after: trio.Event | None = None, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Until stop() has been asked for and obeyed. Started: clients may wait for its host, which comes `after`."""
        self._step(Event.START)
        task_status.started()
        try:
            if after is not None:
                await after.wait()
            await self._keep_running()
        finally:
            self.ended.set()

    async def _keep_running(self) -> None:
        backoff = Backoff(**self.config.restart.model_dump(exclude={"budget", "budget_time"}))
        failures = 0
        deaths: deque[float] = deque(maxlen=self.config.restart.budget or 1)
        while True:
            ending = await self._one_host()
            self.trouble = ending.reason
            self._step(ending.event)
            if self.state is State.FATAL:
                await self._be_fatal(ending.reason)
            if self.state is State.STOPPED:
                return
            deaths.append(trio.current_time())
            if self._died_too_often(deaths):
                self._step(Event.GIVE_UP)
                limits = self.config.restart
                await self._be_fatal(f"died {len(deaths)} times in {limits.budget_time:g} s; last: {ending.reason}")
                return
            failures = backoff.failures(failures, ending.lived)
            delay = backoff.delay(failures, random.random())  # noqa: S311 (jitter is no secret)
            self._log.warning("instance_backoff", failures=failures, delay=round(delay, 3), reason=ending.reason)
            with trio.move_on_after(delay):
                await self._stop.wait()
            if self._stop.is_set():
                self._step(Event.STOP)
                return
            self._step(Event.TIMER)

    def _died_too_often(self, deaths: deque[float]) -> bool:
        budget, within = self.config.restart.budget, self.config.restart.budget_time
        return 0 < budget == len(deaths) and deaths[-1] - deaths[0] <= within

    def stop(self) -> None:
        """Ask it to drain and stop; run() returns when that is done."""
        self._stop.set()
        self._changed.set()
        self._changed = trio.Event()

    def succeed(self, old: Instance) -> None:
        """This one takes over the name of another: generations go on."""
        self.generation, self.last_exit = old.generation, old.last_exit

    def differs(self, config: InstanceConfig) -> bool:
        """Whether a reload must put another in its place: it was configured otherwise, its driver's file is another
        now, or it does not run.
        """
        return config != self.config or self.state is not State.RUNNING or self._stamp != _stamp(self._driver())

    def _driver(self) -> str:
        return find_driver(self.config.driver, self._daemon.driver_path)

    @property
    def ready(self) -> Ready | None:
        """What its host said of itself, while it runs."""
        return self._life.ready if self._life is not None else None

    async def wait_ready(self) -> Lifetime:
        """The host that takes clients now. Raises HandshakeRefused when none will come; bound it."""
        while True:
            if self._stop.is_set():
                raise HandshakeRefused("draining")
            if self.state in HOPELESS:
                raise HandshakeRefused("unavailable")
            if self.state is State.RUNNING and self._life is not None and not self._life.leaving:
                return self._life
            await self._changed.wait()

    async def wait_changed(self) -> None:
        """Until the state is another."""
        await self._changed.wait()

    def _step(self, event: Event) -> None:
        self.state = NEXT[self.state, event]
        self._changed.set()
        self._changed = trio.Event()

    async def _be_fatal(self, reason: str) -> None:
        self._log.error("instance_failed", reason=reason)
        await self._stop.wait()
        self._step(Event.STOP)

    async def _one_host(self) -> Ending:
        """Start a host and stay with it until it is reaped. A bug of ours here counts as a crash of the host."""
        self.generation += 1
        try:
            return await self._live()
        except LaunchError as error:
            self._log.error("host_not_started", reason=str(error))
            return Ending(Event.REFUSED if error.permanent else Event.EXITED, str(error))
        except Exception as error:  # noqa: BLE001 (one instance is no reason to end the others)
            self._log.exception("instance_error")
            return Ending(Event.EXITED, f"internal error: {error!r}")
        finally:
            self._life = None

    async def _live(self) -> Ending:
        driver = self._driver()
        self._stamp = _stamp(driver)
        limits = self.config.limits
        recorder = make_recorder(limits.queue, self.config.threads, limits.connections)
        try:
            host = launch(find_host(self._daemon.host), self.name)
        except LaunchError:
            recorder.close()
            raise
        log = self._log.bind(generation=self.generation)
        self._life = life = Lifetime(host, recorder, log, self._on_ready, self._background)
        log.debug("host_started", pid=host.pid, driver=driver)
        start_timeout = self.config.start_timeout or self._daemon.start_timeout
        patience = Patience(self._daemon.drain_timeout, self._daemon.stop_timeout, self.config.heartbeat)
        start = start_message(self.name, self.config, self._daemon, driver, self.generation)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._step_when_stopped)
            end = await life.run(start, start_timeout, self._stop, patience)
            nursery.cancel_scope.cancel()
        ending = self._ending(life, end, driver, log)
        if self._daemon.reports != "off" and ending.event is Event.EXITED and not life.orderly:
            self._background(self._report, self._describe(life, end, driver, ending), log)
        return ending

    def _describe(self, life: Lifetime, end: Exit, driver: str, ending: Ending) -> Callable[[], reports.Report]:
        """A report of the death, once it is called: it reads the driver's file."""
        return functools.partial(
            reports.make,
            instance=self.name,
            generation=self.generation,
            driver=driver,
            names=life.ready.commands if life.ready else {},
            host=life.host,
            end=end,
            reason=ending.reason,
            record=life.record,
            guilt=life.culprit,
            peers=life.peers,
            mapped=life.mapped,
            lines=list(life.lines),
            full=self._daemon.reports == "full",
        )

    async def _report(self, describe: Callable[[], reports.Report], log: Log) -> None:
        directory, most = Path(self._daemon.reports_dir), self._daemon.reports_max
        try:
            written = await trio.to_thread.run_sync(lambda: reports.write(directory, describe(), most))
            log.info("report_written", report=written.stem, path=str(written))
        except OSError as error:
            log.warning("report_not_written", path=str(directory), reason=error.strerror)
        except Exception:
            log.exception("report_error")

    async def _step_when_stopped(self) -> None:
        await self._stop.wait()
        self._step(Event.STOP)

    def _on_ready(self) -> None:
        self._step(Event.READY)
        ready = self.ready
        if ready is not None:
            about = {"generation": self.generation, "threads": self.config.threads}
            self._log.info("instance_ready", **about, abi=ready.abi, source=ready.source)

    def _ending(self, life: Lifetime, end: Exit, driver: str, log: Log) -> Ending:
        asked = self.state is State.STOPPING
        if life.refusal is not None and end.code == EXIT_REFUSED:
            text = life.refusal
            return Ending(Event.REFUSED, text if str(driver) in text else f"driver {driver}: {text}")
        self.last_exit = str(end) if life.charge is None else f"{life.charge} ({end})"
        reason = f"driver {driver}: {self.last_exit}" if life.ready is None else self.last_exit
        level = log.info if asked and end.code == 0 else log.warning
        level("host_exited", code=end.code, signal=end.signal, reason=reason, **_about_culprit(life.culprit))
        lived = trio.current_time() - life.ready_at if life.ready else 0.0
        return Ending(Event.EXITED, reason, lived)


Stamp = tuple[int, int, int, int]


def _stamp(driver: str) -> Stamp | None:
    """Another when the file was replaced or written to."""
    try:
        found = Path(driver).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def start_message(
    name: str, config: InstanceConfig, daemon: DaemonConfig, driver: str, generation: int
) -> dict[Term, Term]:
    """The map of {start, Map}: docs/control-channel.md."""
    numbers = config.limits.model_dump(exclude={"unsent_time", "linger"})
    numbers["unsent_ms"] = round(config.limits.unsent_time * 1000)
    numbers["linger_ms"] = round(config.limits.linger * 1000)
    return {
        Atom("name"): name.encode(),
        Atom("generation"): generation,
        Atom("driver"): driver.encode("utf-8", "surrogateescape"),
        Atom("threads"): config.threads,
        Atom("max_run"): round((config.max_run or 0) * 1000),
        Atom("max_run_of"): {command.encode(): round(limit * 1000) for command, limit in config.max_run_of.items()},
        Atom("max_abandoned"): config.max_abandoned if config.on_hang == "abandon" else 0,
        Atom("log_level"): Atom(daemon.log_level),
        Atom("settings"): {key.encode(): value.encode() for key, value in config.settings.items()},
        Atom("limits"): {Atom(key): number for key, number in numbers.items()},
    }


def make_recorder(queue: int, threads: int, connections: int) -> Recorder:
    try:
        return Recorder(queue, threads, connections)
    except OSError as error:
        raise LaunchError(f"cannot make a recorder: {error.strerror}", permanent=False) from error


def _about_culprit(guilt: Guilt | None) -> dict[str, object]:
    """For the log: the request that killed its host."""
    if guilt is None:
        return {}
    request, reason = guilt
    about = {"command": request.command, "conn": request.conn, "request": request.number, "worker": request.seat}
    return {**about, "outcome": reason}
