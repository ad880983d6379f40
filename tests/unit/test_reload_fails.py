# SPDX-License-Identifier: MIT
"""A reload that fails on the way leaves everything as it is: no new keys with old hosts."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gendriverd.errors import ConfigError, ExitCode
from gendriverd.log import get_log
from gendriverd.reload import Reloads
from gendriverd.schema import Config
from gendriverd.supervisor import Outcome

OLD, NEW = Config(), Config()


class Service:
    """All that a reload changes, and what it was changed to."""

    def __init__(self) -> None:
        self.ring: object = "old"
        self.configured: object = OLD.daemon
        self.hosts: object = OLD
        self.material: object = "old"
        self.descriptors = 0

    def read(self, config: Config) -> object:
        assert config is NEW
        return "new"

    def configure(self, daemon: object, _users: object) -> None:
        self.configured = daemon

    async def renew(self, material: object) -> None:
        if not self.descriptors:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        self.material = material

    async def reload(self, config: Config, _only: str | None) -> dict[str, Outcome]:
        self.hosts = config
        return {}

    instances: dict[str, object] = {}  # noqa: RUF012 - there are none

    def status(self) -> str:
        return ""


def reloads(service: Any) -> Reloads:
    notifier: Any = SimpleNamespace(reloading=lambda: None, reloaded=lambda _: None)
    return Reloads(OLD, Path("c.toml"), lambda: NEW, service, service, service, service, notifier, get_log())


async def test_where_the_front_cannot_be_told_nothing_changes() -> None:
    service = Service()
    changed = reloads(service)
    with pytest.raises(ConfigError, match="the front cannot be told: Too many open files") as failed:
        await changed.reload("somebody")
    assert failed.value.exit_code is ExitCode.UNAVAILABLE
    assert (service.ring, service.material) == ("old", "old")
    assert changed.config is service.hosts is OLD
    assert service.configured is OLD.daemon

    service.descriptors = 3
    await changed.reload("somebody")
    assert (service.ring, service.material) == ("new", "new")
    assert changed.config is service.hosts is NEW
    assert service.configured is NEW.daemon
