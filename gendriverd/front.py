# SPDX-License-Identifier: MIT
"""Keeps the front running that ends TLS, and takes in the clients that it hands over.

The front is treated as hostile: what it says is checked, and one that says what is no message is killed. Its death
costs its clients their connections and nobody else anything; the listening sockets are the daemon's, so who connects
meanwhile waits in them for the next one.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence
from logging import INFO, WARNING

import trio

from gendriverd import passing
from gendriverd.backoff import Backoff
from gendriverd.client_lines import NAMES_SHOWN
from gendriverd.descriptors import check_for_client
from gendriverd.errors import BadMessage, HostGone, LaunchError
from gendriverd.etf import Atom
from gendriverd.farewell import close, drop
from gendriverd.front_messages import (
    FrontClient,
    FrontMessage,
    FrontPong,
    FrontReady,
    FrontRefused,
    FrontRenewed,
    parse_front,
)
from gendriverd.launch import Exit, Host, launch_front
from gendriverd.listener import Listener, tls_name
from gendriverd.log import LineBudget, Log, clean_text
from gendriverd.quantities import Address
from gendriverd.sources import Epoch
from gendriverd.tls_files import Material

START_TIMEOUT = 10.0  # seconds until ready
HEARTBEAT = 30.0  # seconds for a sign of its loop; it is asked twice as often
LEAVE = 5.0  # seconds for the last words to its clients when the daemon ends
LAST_WORDS = 2.0  # seconds in which what it said before its death is read
RENEW_TIMEOUT = 10.0  # seconds until it has taken up what a reload has brought; it may have to become ready first
SEND_TIMEOUT = 5.0
LINE_MAX = 2048  # bytes of one printed line

Serve = Callable[[trio.socket.SocketType, Address, tuple[str, ...] | None, Epoch], Awaitable[None]]


class FrontKeeper:
    """`serve` owns the socket that it is given, of a client at this address, with these names in its certificate, which
    were verified in this epoch.
    """

    def __init__(
        self,
        material: Material,
        listeners: Sequence[Listener],
        serve: Serve,
        log: Log,
        launcher: Callable[[], Host] = launch_front,
    ) -> None:
        self._material = material
        self._listeners = listeners
        self._serve = serve
        self._log = log
        self._launch = launcher
        self._backoff = Backoff(max=5.0)
        self._front: Host | None = None
        self._ready_at: float | None = None
        self._charge: str | None = None  # why it is killed
        self._epoch = Epoch()  # of what it has said since it began, or was renewed
        self._epoch_over = trio.Event()
        self._renewing = False  # it has been asked to
        self._beat = trio.Event()
        self._handed_over = 0  # clients, by this one
        self._draining = trio.Event()
        self._stopping = False
        self._ended = trio.Event()
        self._budget = LineBudget(burst=200, per_second=20)

    async def run(self, clients: trio.Nursery) -> None:
        """Until stop(). Each client gets a task in `clients`. Cancelled, it leaves no front behind."""
        failures = 0
        try:
            while not self._draining.is_set():
                reason, lived = await self._one_front(clients)
                if self._draining.is_set():
                    return
                failures = self._backoff.failures(failures, lived)
                delay = self._backoff.delay(failures, random.random())  # noqa: S311 (no secret)
                self._log.warning("tls_front_backoff", reason=reason, failures=failures, delay=round(delay, 3))
                with trio.move_on_after(delay):
                    await self._draining.wait()
        finally:
            self._ended.set()

    async def renew(self, material: Material) -> None:
        """For new clients; connections that are there stay. When it returns no host gets a client any more that was let
        in by what was there before; a front that does not take it up is put down, and the next one starts with it.
        """
        if material == self._material:
            return
        self._material = material
        front, epoch, over = self._front, self._epoch, self._epoch_over
        if front is None or self._stopping:
            return
        self._renewing = True
        with trio.move_on_after(RENEW_TIMEOUT), contextlib.suppress(HostGone, OSError):
            with material.files() as fds:
                await front.channel.send(Atom("renew"), material.about(), passed=fds)
            await over.wait()
        if epoch.over and front is self._front:
            self._log.info("tls_renewed", until=material.until)
        elif not epoch.over:
            self._renewing = False
            self._end_epoch()
            self._kill(front, "has not taken up the new certificate")

    async def drain(self) -> None:
        """No new clients; those that are there stay for as long as their hosts want them."""
        self._draining.set()
        for listener in self._listeners:
            listener.close()
        if self._front is not None:
            with contextlib.suppress(HostGone), trio.move_on_after(SEND_TIMEOUT):
                await self._front.channel.send(Atom("drain"))

    async def stop(self) -> None:
        """When the hosts have said all: the front passes the rest on, and ends. Returns when it has."""
        self._stopping = True
        front = self._front
        if front is None:
            return
        self._log.debug("tls_front_leaves", pid=front.pid)
        front.channel.close()
        with trio.move_on_after(LEAVE):
            await self._ended.wait()
            return
        front.kill()

    def about(self) -> dict[str, object]:
        """For `gendriverd status`."""
        state = "running" if self._ready_at is not None and self._front is not None else "starting"
        return {
            "state": state,
            "pid": None if self._front is None else self._front.pid,
            "certificate": list(self._material.names[:NAMES_SHOWN]),
            "until": self._material.until,
            "handed_over": self._handed_over,
        }

    async def _one_front(self, clients: trio.Nursery) -> tuple[str, float]:
        """From start to reaping: why it ended, and for how many seconds it was ready."""
        try:
            front = self._start()
        except (LaunchError, OSError) as error:
            return str(error), 0.0
        try:
            end = await self._hear_out(front, clients)
        finally:
            self._front = None
            self._end_epoch()
            with trio.CancelScope(shield=True):
                front.kill()
                await front.wait()
            front.close()
        lived = 0.0 if self._ready_at is None else trio.current_time() - self._ready_at
        return self._charge or str(end), lived

    def _start(self) -> Host:
        self._ready_at = self._charge = None
        self._handed_over = 0
        self._begin_epoch()
        front = self._launch()
        try:
            with self._material.files() as fds:
                for listener in self._listeners:
                    listener.listen_anew()
                sockets = [listener.fileno() for listener in self._listeners]
                front.channel.send_first(Atom("start"), len(sockets), self._material.about(), passed=[*sockets, *fds])
        except (HostGone, OSError) as error:
            front.discard()
            raise LaunchError(f"cannot start the front: {error}", permanent=False) from error
        self._log.debug("tls_front_started", pid=front.pid)
        self._front = front
        return front

    def _begin_epoch(self) -> None:
        self._epoch, self._epoch_over = Epoch(), trio.Event()
        self._renewing = False

    def _end_epoch(self) -> None:
        self._epoch.over = True
        self._epoch_over.set()

    async def _hear_out(self, front: Host, clients: trio.Nursery) -> Exit:
        async with trio.open_nursery() as nursery:
            heard = trio.Event()
            nursery.start_soon(self._read_channel, front, clients, heard)
            nursery.start_soon(self._read_output, front)
            nursery.start_soon(self._limit_start, front)
            nursery.start_soon(self._heartbeat, front)
            end = await front.wait()
            with trio.move_on_after(LAST_WORDS):
                await heard.wait()
            nursery.cancel_scope.cancel()
        return end

    async def _limit_start(self, front: Host) -> None:
        await trio.sleep(START_TIMEOUT)
        if self._ready_at is None:
            self._kill(front, f"not ready after {START_TIMEOUT:g} s")

    async def _heartbeat(self, front: Host) -> None:
        for number in itertools.count(1):
            await trio.sleep(HEARTBEAT / 2)
            self._beat = trio.Event()
            with trio.move_on_after(HEARTBEAT) as scope:
                try:
                    await front.channel.send(Atom("ping"), number)
                except HostGone:
                    return
                await self._beat.wait()
                self._log.debug("tls_front_heartbeat", pid=front.pid)
            if scope.cancelled_caught:
                self._kill(front, f"its loop did not answer for {HEARTBEAT:g} s")
                return

    async def _read_channel(self, front: Host, clients: trio.Nursery, heard: trio.Event) -> None:
        try:
            while True:
                term, fds = await front.channel.receive_term(1)
                with _closing(fds):
                    self._hear(front, parse_front(term), fds, clients)
        except HostGone:
            heard.set()
            if not self._stopping:
                await trio.sleep(LAST_WORDS)
                self._kill(front, "closed its channel")
        except BadMessage as error:
            self._kill(front, f"said what is no message: {error}")
            heard.set()

    def _hear(self, front: Host, message: FrontMessage, fds: list[int], clients: trio.Nursery) -> None:
        """Takes the descriptor out of `fds` that it makes use of."""
        match message:
            case FrontReady():
                if self._ready_at is not None:
                    raise BadMessage("ready, a second time")
                self._ready_at = trio.current_time()
                level = INFO if message.landlock and message.seccomp else WARNING
                self._log.log(level, "tls_ready", pid=front.pid, until=self._material.until, **message._asdict())
            case FrontClient(address, names):
                client = _client_socket(fds)
                try:
                    check_for_client(client.fileno())
                except OSError as error:
                    close(client)
                    self._log_refused(tls_name(address), str(error.strerror))
                    return
                self._handed_over += 1
                clients.start_soon(self._serve, client, address, names, self._epoch)
            case FrontRenewed():
                if not self._renewing:
                    raise BadMessage("renewed, which it was not asked to")
                self._end_epoch()
                self._begin_epoch()
            case FrontPong():
                self._beat.set()
            case FrontRefused(address, why):
                self._log_refused(tls_name(address), why)

    def _log_refused(self, peer: str, why: str) -> None:
        if self._budget.allows(trio.current_time()):
            more = self._budget.take_dropped()
            also = {"not_logged": more} if more else {}
            self._log.info("tls_refused", peer=peer, why=clean_text(why), **also)

    async def _read_output(self, front: Host) -> None:
        """It prints only when something is wrong with it."""
        while chunk := await front.read_output():
            for line in chunk.splitlines():
                if self._budget.allows(trio.current_time()):
                    self._log.warning("tls_front_output", line=line[:LINE_MAX])

    def _kill(self, front: Host, charge: str) -> None:
        self._charge = self._charge or charge
        front.kill()


def _client_socket(fds: list[int]) -> trio.socket.SocketType:
    """One end of a socketpair, which is all that a client comes with. Raises BadMessage."""
    if not fds:
        raise BadMessage("a client without a socket")
    try:
        sock = socket.socket(fileno=fds[0])
    except OSError:
        raise BadMessage("a client whose descriptor is no socket") from None
    fds.clear()
    try:
        _check_socket(sock)
        passing.refuse(sock)
        sock.setblocking(False)
        return trio.socket.from_stdlib_socket(sock)
    except BaseException:
        close(sock)
        raise


def _check_socket(sock: socket.socket) -> None:
    try:
        sock.getpeername()
    except OSError:
        raise BadMessage("a client whose socket is connected to nothing") from None
    if sock.family != socket.AF_UNIX or sock.type != socket.SOCK_STREAM:
        raise BadMessage("a client whose socket is no unix stream socket")


@contextlib.contextmanager
def _closing(fds: list[int]) -> Iterator[None]:
    """Those that nobody has taken."""
    try:
        yield
    finally:
        for fd in fds:
            drop(fd)
