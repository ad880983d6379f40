# SPDX-License-Identifier: MIT
"""Whole systems: a real daemon with real hosts and drivers, as a user starts it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from running_daemon import RunningDaemon, running_daemon


@pytest.fixture
def daemon(tmp_path: Path, drivers: Path, host_path: Path) -> Iterator[Callable[..., RunningDaemon]]:
    """Starts daemons: `daemon({"sum": {"driver": "sum.so"}})`, options as running_daemon's.

    At the test's end each is stopped, must end with 0, and must leave no process and no sanitizer's report behind.
    """
    with ExitStack() as stack:
        count = 0

        def start(instances: dict[str, dict[str, object]], **options: Any) -> RunningDaemon:
            nonlocal count
            count += 1
            directory = tmp_path / f"daemon-{count}"
            directory.mkdir()
            arguments = ["--driver-path", str(drivers), *options.pop("arguments", ())]
            return stack.enter_context(running_daemon(directory, instances, arguments=arguments, **options))

        yield start
