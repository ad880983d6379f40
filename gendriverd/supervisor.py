# SPDX-License-Identifier: MIT
"""All instances: it starts them, knows them by name, and stops them. It stays away from their work."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from gendriverd.config import Config
from gendriverd.errors import HandshakeRefused
from gendriverd.instance import Instance
from gendriverd.log import Log
from gendriverd.states import SETTLED, State


class Supervisor:
    def __init__(self, config: Config, log: Log) -> None:
        self._log = log
        self.stopping = False
        self.instances = {
            name: Instance(name, instance, config.daemon, log, self._background)
            for name, instance in config.enabled().items()
        }
        self._nursery: trio.Nursery | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until every instance is stopped. Started: clients may ask for every instance."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            for instance in self.instances.values():
                await nursery.start(self._guard, instance)
            task_status.started()

    def stop(self) -> None:
        """Ask every instance to drain and stop, all at once."""
        self.stopping = True
        for instance in self.instances.values():
            instance.stop()

    def find(self, name: str) -> Instance:
        """Raises HandshakeRefused."""
        if self.stopping:
            raise HandshakeRefused("draining")
        instance = self.instances.get(name)
        if instance is None:
            raise HandshakeRefused("unknown_instance")
        return instance

    async def wait_settled(self) -> None:
        """Until each instance is running, has failed for good, or has died at its first try."""
        for instance in self.instances.values():
            while instance.state not in SETTLED:
                await instance.wait_changed()

    async def wait_changed(self) -> None:
        """Until the state of any instance is another."""
        async with trio.open_nursery() as nursery:

            async def watch(instance: Instance) -> None:
                await instance.wait_changed()
                nursery.cancel_scope.cancel()

            for instance in self.instances.values():
                nursery.start_soon(watch, instance)
            if not self.instances:
                await trio.sleep_forever()

    def _background(self, task: Callable[..., Awaitable[object]], *arguments: object) -> None:
        """A task that may live longer than the host it is about; it does not raise."""
        if self._nursery is not None:
            self._nursery.start_soon(task, *arguments)

    def status(self) -> str:
        """For people, in one line."""
        others = [
            f"{name} {each.state.value}" for name, each in self.instances.items() if each.state is not State.RUNNING
        ]
        total = len(self.instances)
        return ", ".join([f"{total - len(others)} of {total} instances running", *others])

    async def _guard(self, instance: Instance, *, task_status: trio.TaskStatus[None]) -> None:
        """A bug of ours in one instance is no reason to end the others."""
        try:
            await instance.run(task_status=task_status)
        except Exception:  # noqa: BLE001 (the root of its task)
            self._log.exception("instance_error", instance=instance.name)
