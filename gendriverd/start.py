# SPDX-License-Identifier: MIT
"""Starting a host of an instance: its recorder, its process, and the message that tells it what to be."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from gendriverd.errors import HostGone, LaunchError
from gendriverd.etf import Atom, Term
from gendriverd.launch import Host, find_host, launch
from gendriverd.quarantine import Entry
from gendriverd.recorder import Recorder
from gendriverd.sandbox import sandbox_message
from gendriverd.schema import DaemonConfig, InstanceConfig
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

    def discard(self) -> None:
        """It is not needed: end it."""
        self.recorder.close()
        self.host.discard()


def start(plan: Plan, driver: Snapshot, generation: int, refused: Iterable[tuple[Term, ...]] = ()) -> Started:
    """`refused`: what the host is told of its quarantine before it gets a client. Raises LaunchError."""
    limits = plan.config.limits
    recorder = make_recorder(limits.queue, plan.config.threads, limits.connections)
    try:
        message = start_message(plan, driver, generation)
        host = launch(find_host(plan.daemon.host), plan.name, generation, driver.library_path)
    except LaunchError:
        recorder.close()
        raise
    with contextlib.suppress(HostGone):  # its death says the rest
        host.channel.send_first(Atom("start"), message, passed=recorder.fd)
        for words in refused:
            host.channel.send_first(*words)
    return Started(generation, driver, host, recorder)


def quarantine_message(entry: Entry, now: float) -> tuple[Term, ...]:
    """{quarantine, Cmd, Length, Hash, Ms}"""
    known = entry.fingerprint
    return Atom("quarantine"), known.command, known.length, known.sha256, round((entry.until - now) * 1000)


def start_message(plan: Plan, driver: Snapshot, generation: int) -> dict[Term, Term]:
    """The map of {start, Map}: docs/control-channel.md. Raises LaunchError."""
    config = plan.config
    numbers = config.limits.model_dump(exclude={"unsent_time", "linger"})
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
            plan.name, config.sandbox, config.limits.connections, str(Path(driver.original).parent), limited=False
        ),
    }


def make_recorder(queue: int, threads: int, connections: int) -> Recorder:
    try:
        return Recorder(queue, threads, connections)
    except OSError as error:
        raise LaunchError(f"cannot make a recorder: {error.strerror}", permanent=False) from error
