# SPDX-License-Identifier: MIT
"""What every test may ask for: the host and the drivers under test, a free port."""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from running_daemon import RunningDaemon, running_daemon

ROOT = Path(__file__).resolve().parent.parent

# How long an example takes is the machine's business.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The system's first: they take longest, and at the end most processes of the tests would wait for one of them.

    Under a sanitizer a test that asks for neither host nor driver is left out: it runs nothing that was built so.
    """
    items.sort(key=lambda item: ROOT / "tests/system" not in item.path.parents)
    if "GENDRIVERD_SANITIZER" in os.environ:
        config.hook.pytest_deselected(items=[item for item in items if not asks_for_a_host(item)])
        items[:] = filter(asks_for_a_host, items)


def asks_for_a_host(item: pytest.Item) -> bool:
    return not {"host_path", "drivers"}.isdisjoint(getattr(item, "fixturenames", ()))


@pytest.fixture(scope="session")
def host_path() -> Path:
    """The host under test: $GENDRIVERD_HOST, or the one that is shipped."""
    path = Path(os.environ.get("GENDRIVERD_HOST") or ROOT / "gendriverd/_bin/gendriver-host")
    if not path.exists():
        pytest.fail(f"{path} is missing: run make build")
    return path


@pytest.fixture(scope="session")
def drivers() -> Path:
    """The directory of the drivers under test, tests/drivers' in its test/: $GENDRIVERD_DRIVERS, or build/drivers."""
    path = Path(os.environ.get("GENDRIVERD_DRIVERS") or ROOT / "build/drivers")
    if not path.is_dir():
        pytest.fail(f"{path} is missing: run make drivers")
    return path


@pytest.fixture
def give_away(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Makes a file another user's; who is not root becomes another user instead."""

    def give(path: Path) -> None:
        if os.geteuid() == 0:
            os.chown(path, 1234, -1)
        else:
            stranger = path.stat().st_uid + 1
            monkeypatch.setattr(os, "geteuid", lambda: stranger)

    return give


@pytest.fixture
def free_tcp_port() -> Iterator[int]:
    """A loopback port where nobody listens, and that is given to nobody else; who asks for it may listen there."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        yield int(held.getsockname()[1])


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
