# SPDX-License-Identifier: MIT
"""All instances: it starts them, knows them by name, and stops them. It stays away from their work."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

import trio

from gendriverd.errors import HandshakeRefused, LaunchError
from gendriverd.instance import Instance
from gendriverd.liveness import Part
from gendriverd.log import Log
from gendriverd.schema import Config, DaemonConfig, InstanceConfig
from gendriverd.states import State

STOPS = "the daemon stops"


@dataclass(frozen=True)
class Outcome:
    """What a reload made of an instance."""

    what: Literal["started", "reloaded", "unchanged", "kept", "failed", "removed"]  # kept: the old one, the new failed
    generation: int
    reason: str | None = None  # of a failure


class Supervisor:
    def __init__(self, config: Config, log: Log) -> None:
        self._log = log
        self.stopping = False
        self._asked_to_stop = trio.Event()
        self.instances = {
            name: Instance(name, instance, config.daemon, log, self._background)
            for name, instance in config.enabled().items()
        }
        self._coming: set[Instance] = set()  # in a reload: not ready yet
        self._alive: list[Instance] = []  # and those that had a name before, and drain
        self._nursery: trio.Nursery | None = None

    async def run(self, part: Part, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until stop() was asked for and every instance is stopped. Started: clients may ask for every instance."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            for instance in self.instances.values():
                await nursery.start(self._guard, instance)
            task_status.started()
            await part.wait(self._asked_to_stop)  # a reload may bring more

    def stop(self) -> None:
        """Ask every instance to drain and stop, all at once."""
        self.stopping = True
        self._asked_to_stop.set()
        for instance in (*self.instances.values(), *self._coming):
            instance.stop()

    async def reload(self, config: Config, only: str | None = None) -> dict[str, Outcome]:
        """Only what differs gets a new host: it becomes ready first, then takes the name over, then the old one drains.
        One that cannot become ready leaves the old one serving. `only`: this one alone, whether it differs or not.
        """
        wanted, outcomes = config.enabled(), dict[str, Outcome]()

        async def each(name: str, instance: InstanceConfig) -> None:
            outcomes[name] = await self._reload(name, instance, config.daemon, exchange=only is not None)

        for name in self.instances.keys() - wanted.keys():
            if only in {None, name}:
                outcomes[name] = self._remove(name)
        async with trio.open_nursery() as nursery:
            for name, instance in wanted.items():
                if only in {None, name}:
                    nursery.start_soon(each, name, instance)
        return outcomes

    def _remove(self, name: str) -> Outcome:
        self._log.info("instance_removed", instance=name)
        old = self.instances.pop(name)
        old.stop()
        return Outcome("removed", old.generation)

    async def _reload(self, name: str, config: InstanceConfig, daemon: DaemonConfig, *, exchange: bool) -> Outcome:
        old, nursery = self.instances.get(name), self._nursery
        if nursery is None or self.stopping:
            return Outcome("failed", 0, STOPS)
        if old is not None and not exchange and not _differs(old, config):
            return Outcome("unchanged", old.generation)
        new = Instance(name, config, daemon, self._log, self._background)
        if old is None or old.state is not State.RUNNING or not config.overlap:
            return await self._exchange(name, old, new, nursery)
        return await self._overlap(name, old, new, nursery)

    async def _exchange(self, name: str, old: Instance | None, new: Instance, nursery: trio.Nursery) -> Outcome:
        """Nothing serves that must not be interrupted, or both must not run at once."""
        if old is not None:
            new.succeed(old)
            old.stop()
        self.instances[name] = new
        await nursery.start(self._guard, new, old.ended if old is not None else None)
        await _settled(new)
        if new.state is not State.RUNNING:
            return Outcome("failed", new.generation, new.trouble or STOPS)
        return Outcome("started" if old is None else "reloaded", new.generation)

    async def _overlap(self, name: str, old: Instance, new: Instance, nursery: trio.Nursery) -> Outcome:
        new.succeed(old)
        self._coming.add(new)
        await nursery.start(self._guard, new, None)
        await _settled(new)
        self._coming.remove(new)
        if new.state is State.RUNNING and not self.stopping:
            self.instances[name] = new
            old.stop()
            return Outcome("reloaded", new.generation)
        reason = new.trouble or STOPS
        self._log.error("reload_failed", instance=name, reason=reason)
        old.generation = new.generation
        new.stop()
        return Outcome("kept", old.generation, reason)

    def hosts(self, name: str) -> list[dict[str, object]]:
        """The processes of an instance: of the one that has the name, of one to come, of those that drain."""
        return [host for instance in self._alive if instance.name == name for host in instance.hosts()]

    def find(self, name: str) -> Instance:
        """Raises HandshakeRefused."""
        if self.stopping:
            raise HandshakeRefused("draining")
        instance = self.instances.get(name)
        if instance is None:
            raise HandshakeRefused("unknown_instance")
        return instance

    async def wait_settled(self) -> None:
        """Until each host of each instance is ready, has failed for good, or has died at its first try."""
        for instance in list(self.instances.values()):
            await _settled(instance)

    async def wait_changed(self) -> None:
        """Until the state of any instance is another."""
        async with trio.open_nursery() as nursery:

            async def watch(instance: Instance) -> None:
                await instance.wait_changed()
                nursery.cancel_scope.cancel()

            for instance in list(self.instances.values()):
                nursery.start_soon(watch, instance)
            if not self.instances:
                await trio.sleep_forever()

    def _background(self, task: Callable[..., Awaitable[object]], *arguments: object) -> None:
        """A task that may live longer than the host it is about; it does not raise."""
        if self._nursery is not None:
            self._nursery.start_soon(task, *arguments)

    def status(self) -> str:
        """For people, in one line."""
        others = [f"{name} {each.status()}" for name, each in self.instances.items() if not each.whole]
        total = len(self.instances)
        return ", ".join([f"{total - len(others)} of {total} instances running", *others])

    async def _guard(
        self, instance: Instance, after: trio.Event | None = None, *, task_status: trio.TaskStatus[None]
    ) -> None:
        """A bug of ours in one instance is no reason to end the others."""
        self._alive.append(instance)
        try:
            await instance.run(after, task_status=task_status)
        except Exception:  # noqa: BLE001 (the root of its task)
            self._log.exception("instance_error", instance=instance.name)
        finally:
            self._alive.remove(instance)


async def _settled(instance: Instance) -> None:
    """Until each of its hosts is ready, has failed for good, or has died at its first try."""
    while not instance.tried:
        await instance.wait_changed()


def _differs(instance: Instance, config: InstanceConfig) -> bool:
    try:
        return instance.differs(config)
    except LaunchError:
        return True  # its driver is not there any more: the new one will say so
