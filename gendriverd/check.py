# SPDX-License-Identifier: MIT
"""`gendriverd check`: each instance's driver is really started in a host until ready, and stopped again."""

from __future__ import annotations

import io
import sys

import trio

from gendriverd.errors import ExitCode
from gendriverd.instance import Instance
from gendriverd.keys import grant_of
from gendriverd.log import clean_text, configure, get_log
from gendriverd.permissions import complaint
from gendriverd.schema import Config, InstanceConfig

AT_ONCE = 8


def check_drivers(config: Config) -> int:
    """One line an instance; 0, or 78 when any cannot run."""
    configure("error", "console", io.StringIO())  # what hosts log meanwhile is not the answer
    verdicts = trio.run(_check_all, config)
    for name, (text, fine) in sorted(verdicts.items()):
        print(f"[instances.{name}] {clean_text(text)}", file=sys.stdout if fine else sys.stderr)
    return ExitCode.OK if all(fine for _, fine in verdicts.values()) else ExitCode.CONFIG


async def _check_all(config: Config) -> dict[str, tuple[str, bool]]:
    verdicts: dict[str, tuple[str, bool]] = {}
    room = trio.CapacityLimiter(AT_ONCE)

    async def check(name: str, instance: InstanceConfig) -> None:
        async with room:
            verdicts[name] = await _check(name, instance, config)

    async with trio.open_nursery() as nursery:
        for name, instance in config.instances.items():
            if instance.enabled:
                nursery.start_soon(check, name, instance)
            else:
                verdicts[name] = ("disabled", True)
    return verdicts


async def _check(name: str, settings: InstanceConfig, config: Config) -> tuple[str, bool]:
    alone = settings.model_copy(update={"processes": 1, "spares": 0})
    instance = Instance(name, alone, config.daemon, get_log(), _never)
    async with trio.open_nursery() as nursery:
        await nursery.start(instance.run)
        verdict = await _first_verdict(name, instance, config)
        instance.stop()
    return verdict


async def _first_verdict(name: str, instance: Instance, config: Config) -> tuple[str, bool]:
    """Ready, refused, or how its first host died."""
    while not instance.tried:
        await instance.wait_changed()
    ready = instance.ready
    if ready is None:
        return instance.trouble or "did not start", False
    for key_name, key in config.keys.items():
        if (problem := complaint(grant_of(key_name, key, ()), name, ready.commands)) is not None:
            return problem, False
    kind = f"interface {ready.abi}" if ready.abi else "written for the original interface"
    commands = f", commands {', '.join(sorted(ready.commands))}" if ready.commands else ""
    return f"driver {instance.config.driver}: ready, {instance.config.threads} threads, {kind}{commands}", True


def _never(*_: object) -> None:
    """No client comes here, and no report is wanted."""
