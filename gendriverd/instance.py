# SPDX-License-Identifier: MIT
"""An instance: a driver, named and configured, and its hosts. It chooses the host that a client is passed to.

It keeps `processes` + `spares` hosts running, all alike (keeper.py). Clients are passed to at most `processes` of them;
where one of these has died, a host that is ready and had none takes its place at once: that is all a spare is.
"""

from __future__ import annotations

import contextlib
from collections import deque

import trio

from gendriverd.connections import Background
from gendriverd.driver_file import check_digest, check_written_by
from gendriverd.errors import HandshakeRefused
from gendriverd.etf import Term
from gendriverd.keeper import Keeper
from gendriverd.launch import find_driver
from gendriverd.lifetime import Lifetime
from gendriverd.log import Log
from gendriverd.messages import Ready
from gendriverd.quarantine import Fingerprint, Quarantine
from gendriverd.recorder import Untrusted
from gendriverd.schema import DaemonConfig, InstanceConfig
from gendriverd.snapshot import Snapshot, Stamp, stamp_of, take
from gendriverd.start import Plan, quarantine_message
from gendriverd.states import HOPELESS, State
from gendriverd.statistics import Statistics

# What its keepers are makes the instance the first of these that any of them is.
RANK = (State.RUNNING, State.STARTING, State.BACKOFF, State.STOPPING, State.FATAL, State.STOPPED)


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
        self.generation = 0  # of the host that was started last
        self.deaths = 0  # hosts that ended unasked
        self.last_exit: str | None = None
        self.ended = trio.Event()  # its run() is over
        self._daemon = daemon
        self._log = log.bind(instance=name)
        plan = Plan(name, config, daemon)
        self.keepers = [Keeper(plan, self, self._log, background) for _ in range(config.processes + config.spares)]
        self._in_service: list[Keeper] = []
        self._deaths: deque[float] = deque(maxlen=config.restart.budget or 1)
        self._quarantine = Quarantine(config.quarantine, config.quarantine_time)
        self._background = background
        self._snapshot: Snapshot | None = None
        self._taking = trio.Lock()
        self._stamp: Stamp | None = None
        self._stop = trio.Event()
        self._started = False
        self._changed = trio.Event()

    async def run(
        self, after: trio.Event | None = None, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Until stop() has been asked for and obeyed. Started: clients may wait for its hosts, which come `after`."""
        self._started = True
        task_status.started()
        try:
            if after is not None:
                await after.wait()
            async with trio.open_nursery() as nursery:
                for keeper in self.keepers:
                    nursery.start_soon(keeper.run)
        finally:
            self._started = False
            self.ended.set()
            self.changed()

    def stop(self) -> None:
        """Ask it to drain and stop; run() returns when that is done."""
        self._stop.set()
        for keeper in self.keepers:
            keeper.stop()
        self.changed()

    def succeed(self, old: Instance) -> None:
        """This one takes over the name of another: generations go on."""
        self.generation, self.last_exit, self.deaths = old.generation, old.last_exit, old.deaths
        self._quarantine.succeed(old._quarantine, trio.current_time())

    def differs(self, config: InstanceConfig) -> bool:
        """Whether a reload must put another in its place: it was configured otherwise, its driver's file is another
        now, or it does not run. Raises LaunchError.
        """
        return config != self.config or self.state is not State.RUNNING or self._stamp != stamp_of(self._find())

    @property
    def state(self) -> State:
        states = {keeper.state for keeper in self.keepers}
        if self._started and states == {State.STOPPED} and not self._stop.is_set():
            return State.STARTING  # it waits for its predecessor's end
        return next(state for state in RANK if state in states)

    @property
    def whole(self) -> bool:
        """All its hosts run."""
        return all(keeper.state is State.RUNNING for keeper in self.keepers)

    def status(self) -> str:
        """For people."""
        running = sum(keeper.state is State.RUNNING for keeper in self.keepers)
        return self.state.value + (f" ({running} of {len(self.keepers)} hosts)" if running else "")

    @property
    def tried(self) -> bool:
        """Nothing more to wait for at start: each of its hosts has become ready once, or has ended."""
        return all(keeper.tried for keeper in self.keepers)

    @property
    def trouble(self) -> str | None:
        """Why a host of it ended, or could not start."""
        return next((keeper.trouble for keeper in self.keepers if keeper.trouble is not None), None)

    @property
    def ready(self) -> Ready | None:
        """What a host of it said of itself, while one runs."""
        return next((k.life.ready for k in self.keepers if k.life is not None and k.life.ready is not None), None)

    def hosts(self) -> list[dict[str, object]]:
        """For `gendriverd status`."""
        return [about for keeper in self.keepers if (about := keeper.about()) is not None]

    async def statistics(self) -> Statistics:
        """What its hosts have run since they started; a host that cannot be believed, or dies now, is left out."""
        found = Statistics()
        for life in [keeper.life for keeper in self.keepers]:
            if life is not None:
                with contextlib.suppress(Untrusted, OSError):
                    found += await life.statistics()
        return found

    async def wait_ready(self) -> Lifetime:
        """The host that the next client is passed to. Raises HandshakeRefused when none will come; bound it."""
        while True:
            if self._stop.is_set():
                raise HandshakeRefused("draining")
            if (life := self._choose()) is not None:
                return life
            if all(keeper.tried and keeper.state in HOPELESS for keeper in self.keepers):
                raise HandshakeRefused("unavailable")
            await self._changed.wait()

    def _choose(self) -> Lifetime | None:
        """Of the hosts in service the one with the fewest clients."""
        self._in_service = [keeper for keeper in self._in_service if keeper.serving]
        for keeper in self.keepers:
            if len(self._in_service) < self.config.processes and keeper.serving and keeper not in self._in_service:
                self._in_service.append(keeper)
        lives = [keeper.life for keeper in self._in_service if keeper.life is not None]
        return min(lives, key=lambda life: life.clients, default=None)

    async def wait_changed(self) -> None:
        """Until the state of any of its keepers is another."""
        await self._changed.wait()

    # For its keepers.

    def changed(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    def next_generation(self) -> int:
        self.generation += 1
        return self.generation

    def ended_host(self, last_exit: str, *, asked: bool) -> None:
        self.last_exit = last_exit
        if not asked:
            self.deaths += 1
            self._deaths.append(trio.current_time())

    def killed(self, killer: Fingerprint) -> bool:
        now = trio.current_time()
        entry = self._quarantine.died(killer, now)
        if entry is None:
            return False
        about = {"command": killer.command, "params_sha256": killer.sha256.hex(), "params_bytes": killer.length}
        seconds = self.config.quarantine_time
        self._log.warning("request_quarantined", **about, deaths=entry.deaths, seconds=seconds)
        for keeper in self.keepers:
            self._background(keeper.refuse, quarantine_message(entry, now))
        return True

    def refused(self) -> list[tuple[Term, ...]]:
        now = trio.current_time()
        return [quarantine_message(entry, now) for entry in self._quarantine.entries(now)]

    def served(self) -> bool:
        return any(keeper.serving for keeper in self.keepers)

    def spent(self) -> str | None:
        """One budget for all hosts: which of them a deadly request meets is chance."""
        budget, within = self.config.restart.budget, self.config.restart.budget_time
        if 0 < budget == len(self._deaths) and self._deaths[-1] - self._deaths[0] <= within:
            return f"died {budget} times in {within:g} s"
        return None

    async def driver(self) -> Snapshot:
        """All its hosts run the same file, whatever becomes of the one it was taken from."""
        if self._snapshot is not None and self._snapshot.exists():
            return self._snapshot
        async with self._taking:
            if self._snapshot is None or not self._snapshot.exists():
                self._snapshot = await self._take(self._find())
            return self._snapshot

    async def _take(self, path: str) -> Snapshot:
        self._stamp = stamp_of(path)
        snapshot = await trio.to_thread.run_sync(self._take_trusted, path)
        if snapshot.trouble is not None:
            self._log.warning("snapshot_not_made", driver=path, reason=snapshot.trouble)
        return snapshot

    def _take_trusted(self, path: str) -> Snapshot:
        """It may block. Raises LaunchError."""
        check_written_by(path, self._daemon.driver_owners)
        snapshot = take(path, self._daemon.snapshots_dir if self.config.snapshot else "")
        check_digest(path, snapshot.file, self.config.sha256)
        return snapshot

    def _find(self) -> str:
        return find_driver(self.config.driver, self._daemon.driver_path)
