# SPDX-License-Identifier: MIT
"""TLS of this daemon: whether there is any, its listening sockets, and the front that serves them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import trio

from gendriverd.errors import ConfigError
from gendriverd.front import FrontKeeper, Serve
from gendriverd.listener import Listener, open_tls
from gendriverd.log import Log
from gendriverd.schema import Config
from gendriverd.tls_files import Material, read_material


class Tls:
    """`material` is what new clients are served with; None: no certificate is configured."""

    def __init__(self, config: Config, directory: Path, environ: Mapping[str, str], log: Log) -> None:
        """Raises ConfigError."""
        self._directory = directory  # the configuration's
        self._environ = environ
        self._log = log
        self._material = self.read(config)
        self._front: FrontKeeper | None = None

    def read(self, config: Config) -> Material | None:
        """The files that `config` names, tried; it may block. Raises ConfigError."""
        return read_material(config.tls, self._directory, self._environ)

    def open(self, config: Config, passed: Sequence[int]) -> list[Listener]:
        """The sockets that clients of TLS come to. Raises ListenError, ConfigError."""
        if passed and self._material is None:
            raise ConfigError(["systemd has passed a socket for TLS: [tls] needs a setting 'certificate'"])
        return open_tls(config.tls, passed, config.daemon.keepalive)

    def start(self, listeners: Sequence[Listener], serve: Serve, nursery: trio.Nursery) -> None:
        """Its tasks, and one for each client, are in `nursery`."""
        if self._material is not None and listeners:
            self._front = FrontKeeper(self._material, listeners, serve, self._log)
            nursery.start_soon(self._front.run, nursery)
            for listener in listeners:
                self._log.info("listening", address=listener.address)

    def about(self) -> dict[str, object] | None:
        """For `gendriverd status`; None: there is no TLS here."""
        return None if self._front is None else self._front.about()

    async def renew(self, material: Material | None) -> None:
        """For new clients; without a certificate the old one stays in use until the next start."""
        if material is not None:
            self._material = material
            if self._front is not None:
                await self._front.renew(material)

    async def drain(self) -> None:
        """No new clients."""
        if self._front is not None:
            await self._front.drain()

    async def stop(self) -> None:
        """All hosts have said their last."""
        if self._front is not None:
            await self._front.stop()
