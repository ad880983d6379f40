# SPDX-License-Identifier: MIT
"""Where clients come in: TCP and unix sockets, opened here or passed by systemd; one sentence when one cannot be.

TCP beyond this machine is refused unless `insecure` is set: nothing is encrypted.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path

import trio

from gendriverd import passing
from gendriverd.descriptors import check_for_client
from gendriverd.errors import ExitCode, ListenError, listen_error
from gendriverd.liveness import Part
from gendriverd.log import LineBudget, Log
from gendriverd.quantities import Address
from gendriverd.schema import DaemonConfig, TlsConfig
from gendriverd.sources import GONE, Peer, of_address, of_nobody, of_user
from gendriverd.unix_socket import BACKLOG, bind_unix

PAUSE = 0.1  # seconds without accepting when there is no descriptor left, or when it cannot be done
EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

PROBES = 4  # of a peer that says nothing, in the second half of `keepalive`

Serve = Callable[[trio.socket.SocketType, Peer], Awaitable[None]]


class Listener:
    """A listening socket. `address` is where clients connect, with the real port."""

    def __init__(
        self,
        sock: socket.socket,
        address: str,
        file: Path | None = None,
        keepalive: float = 0.0,
        admit: Callable[[int], None] = check_for_client,
    ) -> None:
        """`keepalive`: seconds until a TCP peer that is gone without a word is noticed. `admit` raises OSError for a
        client's descriptor that is one too many.
        """
        sock.setblocking(False)
        self._admit = admit
        self._keepalive = keepalive
        self.address = address
        self._socket = trio.socket.from_stdlib_socket(sock)
        self._file = file
        self._made = _inode(file)

    async def accept_forever(self, serve: Serve, nursery: trio.Nursery, log: Log, part: Part) -> None:
        """Each client gets a task of its own; `serve` owns its socket and does not raise."""
        lines = LineBudget(burst=10, per_second=0.1)
        while True:
            try:
                with trio.move_on_after(part.pause):
                    client, peer = await self._socket.accept()
                    self._check(client)
                    _tune(client, self._keepalive)
                    nursery.start_soon(serve, client, _peer(client, peer))
                part.beat()
            except OSError as error:
                if error.errno in GONE:
                    continue
                if error.errno in EXHAUSTED:
                    part.beat()  # others must leave first, and it goes on
                self._log_trouble(log, lines, error)
                await trio.sleep(PAUSE)

    def _check(self, client: trio.socket.SocketType) -> None:
        try:
            self._admit(client.fileno())
        except OSError:
            client.close()
            raise

    def _log_trouble(self, log: Log, lines: LineBudget, error: OSError) -> None:
        if lines.allows(trio.current_time()):
            more = lines.take_dropped()
            also = {"not_logged": more} if more else {}
            log.warning("accept_failed", address=self.address, reason=error.strerror, **also)

    def listen_anew(self) -> None:
        """Whoever was passed this socket may have shut it down."""
        self._socket.listen(BACKLOG)

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()
        file, self._file = self._file, None
        if file is not None and _inode(file) == self._made:
            with contextlib.suppress(OSError):
                file.unlink()


def open_listeners(config: DaemonConfig, passed: Sequence[int]) -> list[Listener]:
    """All of them, or ListenError and none. Sockets passed by systemd stand instead of `listen`."""
    with contextlib.ExitStack() as undo:
        opened: list[Listener] = []
        for each in _passed(passed, config) if passed else _configured(config):
            opened.append(each)
            undo.callback(each.close)
        undo.pop_all()
    return opened


def open_tls(config: TlsConfig, passed: Sequence[int], keepalive: float) -> list[Listener]:
    """The same for the front. It encrypts, so the addresses may be any; what it accepts is tuned as these are."""
    with contextlib.ExitStack() as undo:
        opened: list[Listener] = []
        for sock in _passed_tls(passed) if passed else _configured_tls(config):
            opened.append(Listener(sock, tls_name(_address(sock))))
            undo.callback(opened[-1].close)
            _tune(sock, keepalive)
        undo.pop_all()
    return opened


def _configured_tls(config: TlsConfig) -> Iterator[socket.socket]:
    for address in config.listen:
        yield from _open_tcp(address, insecure=True)


def _configured(config: DaemonConfig) -> Iterator[Listener]:
    for address in config.listen:
        if address.path:
            yield open_unix(address, config.unix_mode, config.unix_owner)
        else:
            for sock in _open_tcp(address, insecure=config.insecure):
                yield Listener(sock, _tcp_name(sock), keepalive=config.keepalive)


def _open_tcp(address: Address, *, insecure: bool) -> Iterator[socket.socket]:
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ListenError(f"cannot listen on {address}: {why}") from error
    for family, _, _, _, target in dict.fromkeys(found):
        _check_exposure(str(target[0]), str(address), insecure=insecure)
        try:
            sock = socket.socket(family, socket.SOCK_STREAM)
        except OSError as error:
            raise listen_error(str(address), error) from error
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(target)
            sock.listen(BACKLOG)
        except OSError as error:
            sock.close()
            raise listen_error(str(address), error) from error
        yield sock


def _check_exposure(host: str, address: str, *, insecure: bool) -> None:
    loopback = ipaddress.ip_address(host.partition("%")[0]).is_loopback
    if not loopback and not insecure:
        raise ListenError(
            f"refusing to listen on {address}: it can be reached from other machines and nothing is encrypted;"
            " use [tls] listen, 127.0.0.1 or a unix socket, or set [daemon] insecure = true",
            ExitCode.CONFIG,
        )


def open_unix(
    address: Address, mode: int, owner: str = "", admit: Callable[[int], None] = check_for_client
) -> Listener:
    """Raises ConfigError; ListenError, AddressTaken when somebody answers there."""
    path = Path(address.path)
    return Listener(bind_unix(path, mode, owner), str(address), path, admit=admit)


def _passed(fds: Sequence[int], config: DaemonConfig) -> Iterator[Listener]:
    for sock in map(_passed_socket, fds):
        if sock.family == socket.AF_UNIX:
            passing.refuse(sock)
            yield Listener(sock, f"unix:{os.fsdecode(sock.getsockname())}")
        else:
            _check_exposure(str(sock.getsockname()[0]), _tcp_name(sock), insecure=config.insecure)
            yield Listener(sock, _tcp_name(sock), keepalive=config.keepalive)


def _passed_tls(fds: Sequence[int]) -> Iterator[socket.socket]:
    for sock in map(_passed_socket, fds):
        if sock.family not in {socket.AF_INET, socket.AF_INET6}:
            raise ListenError(f"descriptor {sock.fileno()} passed by systemd for TLS is no TCP socket")
        yield sock


def _passed_socket(fd: int) -> socket.socket:
    try:
        sock = socket.socket(fileno=fd)
        listening = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise ListenError(f"descriptor {fd} passed by systemd is no socket: {error.strerror}") from error
    if sock.type != socket.SOCK_STREAM or not listening:
        raise ListenError(f"descriptor {fd} passed by systemd is no listening stream socket")
    sock.set_inheritable(False)
    return sock


def _address(sock: socket.socket) -> Address:
    host, port = sock.getsockname()[:2]
    return Address(host, port, "")


def _tcp_name(sock: socket.socket) -> str:
    return str(_address(sock))


def tls_name(address: Address) -> str:
    """tls://HOST:PORT"""
    return f"tls{str(address).removeprefix('tcp')}"


def _inode(file: Path | None) -> tuple[int, int] | None:
    try:
        found = file.lstat() if file is not None else None
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if found else None


def _tune(client: trio.socket.SocketType | socket.socket, keepalive: float) -> None:
    """Small frames go out at once, and a peer that vanished is noticed within this time: idle, by probes in its second
    half; with bytes under way, when these are not taken.
    """
    if client.family in {socket.AF_INET, socket.AF_INET6}:
        with contextlib.suppress(OSError):  # it may be gone already
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            idle = max(1, round(keepalive / 2))
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, idle)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(1, round((keepalive - idle) / PROBES)))
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, PROBES)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(keepalive * 1000))


def _peer(client: trio.socket.SocketType, peer: object) -> Peer:
    if isinstance(peer, tuple) and len(peer) >= 2:
        return of_address(str(peer[0]), int(peer[1]))
    try:
        return of_user(*credentials(client))
    except OSError:
        return of_nobody()


def credentials(client: trio.socket.SocketType) -> tuple[int, int]:
    """Process and user behind a unix socket. Raises OSError."""
    pid, uid, _ = struct.unpack("iII", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return pid, uid
