# SPDX-License-Identifier: MIT
"""A reload, from the question to what became of each instance: for SIGHUP and for `gendriverd reload`, one at a time.

Whatever is wrong with the configuration leaves everything as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import trio

from gendriverd.auth import Keyring
from gendriverd.errors import ConfigError, ExitCode, GendriverdError, UnknownInstance
from gendriverd.handshake import Handshakes
from gendriverd.keys import Keys
from gendriverd.log import Log
from gendriverd.schema import Config
from gendriverd.sdnotify import Notifier
from gendriverd.supervisor import Outcome, Supervisor
from gendriverd.tls import Tls
from gendriverd.tls_files import Material
from gendriverd.users import user_numbers

# Of [daemon]: what a reload cannot change.
FIXED = frozenset({"listen", "insecure", "unix_mode", "unix_owner", "keepalive", "admin", "log_level", "log_format"})

Read = tuple[Config, Keyring | None, frozenset[int] | None, Material | None]


@dataclass(frozen=True)
class Reloaded:
    """What came of it."""

    outcomes: dict[str, Outcome]
    fixed: list[str]  # settings that differ, of [daemon] where no table is named, and take effect at the next start


class Reloads:
    """`load` reads the configuration anew; it may block."""

    def __init__(
        self,
        config: Config,
        path: Path,
        load: Callable[[], Config],
        keys: Keys,
        tls: Tls,
        handshakes: Handshakes,
        supervisor: Supervisor,
        notifier: Notifier,
        log: Log,
    ) -> None:
        self.config = config  # the newest
        self._started = config
        self._path = path
        self._load = load
        self._keys = keys
        self._tls = tls
        self._handshakes = handshakes
        self._supervisor = supervisor
        self._notifier = notifier
        self._log = log
        self._one = trio.Lock()

    async def on_signal(self) -> None:
        """What is wrong is in the log."""
        try:
            await self.reload("SIGHUP")
        except GendriverdError:
            pass
        except Exception:  # noqa: BLE001 (a bug of ours is no reason to end the daemon)
            self._log.exception("reload_error")

    async def reload(self, by: str, only: str | None = None) -> Reloaded:
        """Of all that differ, or of `only` one. Raises ConfigError, UnknownInstance; nothing has changed then."""
        async with self._one:
            self._notifier.reloading()
            try:
                return await self._reload(by, only)
            finally:
                self._notifier.reloaded(self._supervisor.status())

    async def _reload(self, by: str, only: str | None) -> Reloaded:
        config, ring, users, material = await self._read(by, only)
        fixed = _fixed(self._started, config)
        if fixed:
            self._log.warning("reload_needs_restart", settings=fixed)
        about = {} if only is None else {"instance": only}
        self._log.info("reloading", path=str(self._path), by=by, **about)
        await self._renew(by, material)  # first, as it may fail
        self.config, self._keys.ring = config, ring
        self._handshakes.configure(config.daemon, users)
        outcomes = await self._supervisor.reload(config, only)
        self._log.info("reloaded", status=self._supervisor.status())
        return Reloaded(outcomes, fixed)

    async def _renew(self, by: str, material: Material | None) -> None:
        """Raises ConfigError where descriptors or memory are used up."""
        try:
            await self._tls.renew(material)
        except OSError as error:
            problem = f"[tls]: the front cannot be told: {error.strerror}; nothing else has changed"
            self._log.error("reload_failed", by=by, problems=[problem])
            raise ConfigError([problem], ExitCode.UNAVAILABLE) from error

    async def _read(self, by: str, only: str | None) -> Read:
        try:
            config = await trio.to_thread.run_sync(self._load)
            ring = await trio.to_thread.run_sync(self._keys.read, config)
            users = await trio.to_thread.run_sync(user_numbers, config.daemon.unix_users)
            material = await trio.to_thread.run_sync(self._tls.read, config)
        except ConfigError as error:
            self._log.error("reload_failed", by=by, problems=list(error.problems))
            raise
        known = config.enabled().keys() | self._supervisor.instances.keys()
        if only is not None and only not in known:
            names = ", ".join(sorted(known)) or "none"
            raise UnknownInstance(f"there is no instance {only!r:.80}; the instances are: {names}")
        return config, ring, users, material


def _fixed(old: Config, new: Config) -> list[str]:
    of_daemon = sorted(key for key in FIXED if getattr(old.daemon, key) != getattr(new.daemon, key))
    return of_daemon + (["tls.listen"] if old.tls.listen != new.tls.listen else [])
