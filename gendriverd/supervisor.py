# SPDX-License-Identifier: MIT
"""All instances: it starts them, knows them by name, and stops them. It stays away from their work."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from gendriverd.config import Config, DaemonConfig, InstanceConfig
from gendriverd.errors import HandshakeRefused, LaunchError
from gendriverd.instance import Instance
from gendriverd.log import Log
from gendriverd.states import State


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
        self._nursery: trio.Nursery | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until stop() was asked for and every instance is stopped. Started: clients may ask for every instance."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            for instance in self.instances.values():
                await nursery.start(self._guard, instance)
            task_status.started()
            await self._asked_to_stop.wait()  # a reload may bring more

    def stop(self) -> None:
        """Ask every instance to drain and stop, all at once."""
        self.stopping = True
        self._asked_to_stop.set()
        for instance in (*self.instances.values(), *self._coming):
            instance.stop()

    async def reload(self, config: Config) -> None:
        """Only what differs gets a new host: it becomes ready first, then takes the name over, then the old one drains.
        One that cannot become ready leaves the old one serving.
        """
        wanted = config.enabled()
        for name in self.instances.keys() - wanted.keys():
            self._log.info("instance_removed", instance=name)
            self.instances.pop(name).stop()
        async with trio.open_nursery() as nursery:
            for name, instance in wanted.items():
                nursery.start_soon(self._reload, name, instance, config.daemon)

    async def _reload(self, name: str, config: InstanceConfig, daemon: DaemonConfig) -> None:
        old, nursery = self.instances.get(name), self._nursery
        if nursery is None or self.stopping or (old is not None and not _differs(old, config)):
            return
        new = Instance(name, config, daemon, self._log, self._background)
        if old is None or old.state is not State.RUNNING or not config.overlap:
            await self._exchange(name, old, new, nursery)
        else:
            await self._overlap(name, old, new, nursery)

    async def _exchange(self, name: str, old: Instance | None, new: Instance, nursery: trio.Nursery) -> None:
        """Nothing serves that must not be interrupted, or both must not run at once."""
        if old is not None:
            new.succeed(old)
            old.stop()
        self.instances[name] = new
        await nursery.start(self._guard, new, old.ended if old is not None else None)

    async def _overlap(self, name: str, old: Instance, new: Instance, nursery: trio.Nursery) -> None:
        new.succeed(old)
        self._coming.add(new)
        await nursery.start(self._guard, new, None)
        while not new.tried:
            await new.wait_changed()
        self._coming.remove(new)
        if new.state is State.RUNNING and not self.stopping:
            self.instances[name] = new
            old.stop()
        else:
            self._log.error("reload_failed", instance=name, reason=new.trouble or "stopped")
            old.generation = new.generation
            new.stop()

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
            while not instance.tried:
                await instance.wait_changed()

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
        try:
            await instance.run(after, task_status=task_status)
        except Exception:  # noqa: BLE001 (the root of its task)
            self._log.exception("instance_error", instance=instance.name)


def _differs(instance: Instance, config: InstanceConfig) -> bool:
    try:
        return instance.differs(config)
    except LaunchError:
        return True  # its driver is not there any more: the new one will say so
