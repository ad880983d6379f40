# SPDX-License-Identifier: MIT
"""The daemon's life: listen, start the instances, tell systemd, serve until a signal, drain, leave.

The first SIGTERM or SIGINT drains; a second one stops at once.
"""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import trio

from gendriverd import __version__, orphans, passing
from gendriverd.admin import Admin, open_admin
from gendriverd.answers import Answers
from gendriverd.descriptors import take_all
from gendriverd.handshake import Handshakes
from gendriverd.keys import Keys
from gendriverd.listener import Listener, Serve, open_listeners, tls_name
from gendriverd.liveness import Liveness
from gendriverd.log import Log
from gendriverd.quantities import Address
from gendriverd.reload import Reloads
from gendriverd.schema import Config
from gendriverd.sdnotify import Notifier, named_fds, passed_fds, watchdog_time
from gendriverd.sources import Epoch, of_address
from gendriverd.supervisor import Supervisor
from gendriverd.tls import Tls
from gendriverd.users import user_numbers

STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)  # SIGHUP does not stop, but must not kill either
MARGIN = 10.0  # seconds beyond drain and stop limits until the daemon leaves whatever happens


class Daemon:
    def __init__(
        self,
        config: Config,
        path: Path,
        log: Log,
        environ: Mapping[str, str] = os.environ,
        *,
        load: Callable[[], Config],
    ) -> None:
        """Raises ConfigError."""
        self._config = config
        self._path = path
        self._log = log
        self._notifier = Notifier(environ)
        self._liveness = Liveness(watchdog_time(environ), log)
        self._passed_tls = named_fds("tls", environ)
        self._passed = [fd for fd in passed_fds(environ) if fd not in self._passed_tls]
        self._supervisor = Supervisor(config, log)
        self._turned_away = trio.Event()  # those who were not handed over when the stop came
        keys = Keys(path.absolute().parent, environ)
        keys.ring = keys.read(config)
        self._tls = Tls(config, path.absolute().parent, environ, log)
        users = user_numbers(config.daemon.unix_users)
        self._handshakes = Handshakes(self._supervisor, config.daemon, users, keys, log)
        self._reloads = Reloads(
            config, path, load, keys, self._tls, self._handshakes, self._supervisor, self._notifier, log
        )
        self._admin = Admin(Answers(self._reloads, self._supervisor, self._tls).actions, log)

    async def run(self) -> None:
        """Returns when it was told to stop and has. Raises ListenError."""
        self._log.info("started", version=__version__, pid=os.getpid())
        self._log.info("config_loaded", path=str(self._path), instances=sorted(self._config.enabled()))
        if not self._config.enabled():
            self._log.warning("no_instances", path=str(self._path))
        # Once the receiver is gone nothing is left to stop: one more signal must not spoil the exit code.
        for number in STOPPING:
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # inherited as ignored, no host's end could be told
        orphans.inherit()
        take_all()
        if passing.may_come(self._passed):
            passing.limit_waits()
        with trio.open_signal_receiver(*STOPPING) as signals, trio.open_signal_receiver(signal.SIGCHLD) as children:
            listeners = open_listeners(self._config.daemon, self._passed)
            admin: list[Listener] = []
            tls: list[Listener] = []
            try:
                tls = self._tls.open(self._config, self._passed_tls)
                admin = open_admin(self._config.daemon.admin, self._log)
                await self._serve(listeners, admin, tls, signals, children)
            finally:
                for listener in (*listeners, *admin, *tls):
                    listener.close()
        self._log.info("stopped")

    async def _serve(
        self,
        listeners: list[Listener],
        admin: list[Listener],
        tls: list[Listener],
        signals: AsyncIterator[int],
        children: AsyncIterator[int],
    ) -> None:
        async with trio.open_nursery() as background:
            background.start_soon(orphans.sweep_forever, children, self._log)
            await background.start(self._supervise, background)
            async with trio.open_nursery() as accepting:
                for listener in admin:
                    self._accept(listener, self._admin.serve, accepting, background)
                    self._log.info("admin_listening", address=listener.address)
                for listener in listeners:
                    self._accept(listener, self._handshakes.serve, accepting, background)
                    self._log.info("listening", address=listener.address)
                self._tls.start(tls, self._serve_certified, background)
                background.start_soon(self._liveness.watch, self._notifier.alive)
                background.start_soon(self._report)
                await self._wait_for_stop(signals, background)
                self._liveness.release()
                accepting.cancel_scope.cancel()
            for listener in (*listeners, *admin):
                listener.close()
            await self._tls.drain()
            self._supervisor.stop()
            background.start_soon(self._force, signals, background.cancel_scope)
            await self._handshakes.stop()
            self._turned_away.set()

    def _accept(self, listener: Listener, serve: Serve, accepting: trio.Nursery, background: trio.Nursery) -> None:
        part = self._liveness.part(f"accept {listener.address}")
        accepting.start_soon(listener.accept_forever, serve, background, self._log, part)

    async def _serve_certified(
        self, client: trio.socket.SocketType, address: Address, certified: tuple[str, ...] | None, epoch: Epoch
    ) -> None:
        """One that the front hands over, by a unix socket: whose process is behind that says nothing of the client."""
        peer = of_address(address.host, address.port)._replace(name=tls_name(address), epoch=epoch)
        await self._handshakes.serve(client, peer, certified)

    async def _wait_for_stop(self, signals: AsyncIterator[int], background: trio.Nursery) -> None:
        async for number in signals:
            if number == signal.SIGHUP:
                background.start_soon(self._reloads.on_signal)
                continue
            self._log.info("stopping", signal=signal.Signals(number).name)
            self._notifier.stopping()
            return

    async def _supervise(
        self, background: trio.Nursery, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        part = self._liveness.part("supervisor")
        await self._supervisor.run(part, task_status=task_status)
        await self._turned_away.wait()
        await self._tls.stop()
        background.cancel_scope.cancel()

    async def _force(self, signals: AsyncIterator[int], everything: trio.CancelScope) -> None:
        """A second signal, or a stop that takes too long."""
        limits = self._reloads.config.daemon
        with trio.move_on_after(limits.drain_timeout + limits.stop_timeout + MARGIN):
            async for number in signals:
                if number != signal.SIGHUP:
                    break
        self._log.warning("stopping_forced")
        everything.cancel()

    async def _report(self) -> None:
        """READY once every instance has come up or failed to, then every change of the status line."""
        await self._supervisor.wait_settled()
        status = self._supervisor.status()
        self._log.info("ready", status=status)
        self._notifier.ready(status)
        while True:
            await self._supervisor.wait_changed()
            if not self._supervisor.stopping:
                self._notifier.status(self._supervisor.status())
