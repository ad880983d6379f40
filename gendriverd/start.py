# SPDX-License-Identifier: MIT
"""Starting a host of an instance: its recorder, its process, and the message that tells it what to be."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from gendriverd.cgroup import Group, delegated, wanted
from gendriverd.errors import HostGone, LaunchError
from gendriverd.etf import Atom, Term
from gendriverd.launch import Host, find_host, launch
from gendriverd.quarantine import Entry
from gendriverd.recorder import Recorder
from gendriverd.sandbox import sandbox_message
from gendriverd.schema import DaemonConfig, InstanceConfig, Sandbox
from gendriverd.snapshot import Snapshot


@dataclass(frozen=True)
class Plan:
    """What each host of an instance is made of."""

    name: str
    config: InstanceConfig
    daemon: DaemonConfig


@dataclass(frozen=True)
class Started:
    """A host that was told to start. The recorder is to be closed when all of it is read."""

    generation: int
    driver: Snapshot
    host: Host
    recorder: Recorder
    group: Group | None  # its control group

    def discard(self) -> None:
        """It is not needed: end it."""
        self.recorder.close()
        self.host.discard()
        if self.group is not None:
            self.group.kill()
            self.group.remove()


def start(plan: Plan, driver: Snapshot, generation: int, refused: Iterable[tuple[Term, ...]] = ()) -> Started:
    """`refused`: what the host is told of its quarantine before it gets a client. Raises LaunchError."""
    limits = plan.config.limits
    with contextlib.ExitStack() as undo:
        recorder = make_recorder(limits.queue, plan.config.threads, limits.connections)
        undo.callback(recorder.close)
        group = make_group(plan.config.sandbox)
        if group is not None:
            undo.callback(group.remove)
        message = start_message(plan, driver, generation, limited=group is not None)
        host = launch(find_host(plan.daemon.host), plan.name, generation, driver.library_path)
        undo.callback(host.discard)
        if group is not None:
            group.add(host.pid)
        undo.pop_all()
    with contextlib.suppress(HostGone):  # its death says the rest
        host.channel.send_first(Atom("start"), message, passed=recorder.fd)
        for words in refused:
            host.channel.send_first(*words)
    return Started(generation, driver, host, recorder, group)


def quarantine_message(entry: Entry, now: float) -> tuple[Term, ...]:
    """{quarantine, Cmd, Length, Hash, Ms}"""
    known = entry.fingerprint
    return Atom("quarantine"), known.command, known.length, known.sha256, round((entry.until - now) * 1000)


def start_message(plan: Plan, driver: Snapshot, generation: int, *, limited: bool = False) -> dict[Term, Term]:
    """The map of {start, Map}: docs/control-channel.md. `limited`: by a control group. Raises LaunchError."""
    config = plan.config
    numbers = config.limits.model_dump(exclude={"frame_time", "unsent_time", "linger"})
    numbers["frame_ms"] = round(config.limits.frame_time * 1000)
    numbers["unsent_ms"] = round(config.limits.unsent_time * 1000)
    numbers["linger_ms"] = round(config.limits.linger * 1000)
    return {
        Atom("name"): plan.name.encode(),
        Atom("generation"): generation,
        Atom("driver"): os.fsencode(driver.file),
        Atom("threads"): config.threads,
        Atom("short"): round(config.short * 1e9),
        Atom("max_run"): round((config.max_run or 0) * 1000),
        Atom("max_run_of"): {command.encode(): round(limit * 1000) for command, limit in config.max_run_of.items()},
        Atom("max_abandoned"): config.max_abandoned if config.on_hang == "abandon" else 0,
        Atom("cores"): int(config.cores),
        Atom("log_level"): Atom(plan.daemon.log_level),
        Atom("settings"): {key.encode(): value.encode() for key, value in config.settings.items()},
        Atom("limits"): {Atom(key): number for key, number in numbers.items()},
        Atom("sandbox"): sandbox_message(
            plan.name, config.sandbox, config.limits.connections, str(Path(driver.original).parent), limited=limited
        ),
    }


def make_group(sandbox: Sandbox) -> Group | None:
    """Where one is needed, and one that keeps all that is wanted can be had. Raises LaunchError."""
    groups = delegated() if wanted(sandbox) else None
    return groups.make(sandbox) if groups is not None and groups.keeps(sandbox) else None


def make_recorder(queue: int, threads: int, connections: int) -> Recorder:
    try:
        return Recorder(queue, threads, connections)
    except OSError as error:
        raise LaunchError(f"cannot make a recorder: {error.strerror}", permanent=False) from error
