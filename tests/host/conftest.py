# SPDX-License-Identifier: MIT
"""Hosts for black-box tests: `host(driver, ...)` starts one and waits until it is ready."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from io import FileIO
from pathlib import Path
from typing import Any

import pytest

from abandoned import LIMITED, Abandoning
from host_process import HostProcess
from leading_loop import SURE, Leading

HostFactory = Callable[..., HostProcess]


def find(drivers: Path, name: str) -> Path:
    for path in (drivers / "test" / f"{name}.so", drivers / f"{name}.so"):
        if path.exists():
            return path
    if name.startswith("legacy"):
        pytest.skip("ei.h was not there when the drivers were built: install erlang-dev")
    pytest.fail(f"no driver {name!r} under {drivers}: run make drivers")


@pytest.fixture
def start_host(host_path: Path, drivers: Path) -> Iterator[HostFactory]:
    """Start a host on a driver of the tests or an example, by name; nothing is awaited."""
    with contextlib.ExitStack() as stack:

        def start(driver: str | Path, **options: Any) -> HostProcess:
            path = driver if isinstance(driver, Path) else find(drivers, driver)
            return stack.enter_context(HostProcess(host_path, path, **options))

        yield start


@pytest.fixture
def host(start_host: HostFactory) -> HostFactory:
    """Start a host and wait until it is ready."""

    def start(driver: str | Path, **options: Any) -> HostProcess:
        process = start_host(driver, **options)
        process.ready()
        return process

    return start


class Gate:
    """Calls of tests/drivers/gate.c that wait until the test lets them through."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: FileIO | None = None
        os.mkfifo(path)

    def reached(self) -> None:
        """Wait until a call is at the gate: it has begun."""
        self._file = self.path.open("wb", buffering=0)

    def open(self) -> None:
        """Let one call through; waits until it is there."""
        if self._file is None:
            self.reached()
        assert self._file is not None
        self._file.write(b"x")
        self.close()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file = None


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    gate = Gate(tmp_path / "gate")
    yield gate
    gate.close()


@pytest.fixture
def gated(host: HostFactory, gate: Gate) -> HostFactory:
    """Start a host on the gate driver, one thread unless said."""

    def start(*, threads: int = 1, settings: dict[str, str] | None = None, **limits: int) -> HostProcess:
        return host("gate", threads=threads, settings={"gate": str(gate.path), **(settings or {})}, **limits)

    return start


@pytest.fixture
def abandoning(host: HostFactory) -> Abandoning:
    """Start a host on the crash driver that writes off threads."""

    def start(*, threads: int = 2, max_abandoned: int = 8, **options: Any) -> HostProcess:
        limits = {"max_run_of": LIMITED, **options}
        return host("crash", threads=threads, max_abandoned=max_abandoned, recorded=True, **limits)

    return start


@pytest.fixture
def leading(host: HostFactory, gate: Gate) -> Leading:
    """Start a host on the driver that says who runs its requests."""

    def start(*, driver: str = "lead", threads: int = 4, short: int = SURE, **options: Any) -> HostProcess:
        settings = {"gate": str(gate.path), **options.pop("settings", {})}
        return host(driver, threads=threads, short=short, recorded=True, settings=settings, **options)

    return start
