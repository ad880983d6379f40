# SPDX-License-Identifier: MIT
"""A unix socket that listens: its directory, file, owner and mode, bound by one daemon at a time.

A file left by a daemon that died is removed, but only when nobody answers on it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from gendriverd import passing
from gendriverd.errors import AddressTaken, ExitCode, ListenError, listen_error
from gendriverd.users import owner_numbers

BACKLOG = 1024
LOCK_SECONDS = 10.0  # for another daemon to have its sockets


def bind_unix(path: Path, mode: int, owner: str) -> socket.socket:
    """Raises ConfigError; ListenError, AddressTaken when somebody answers there."""
    user, group = owner_numbers(owner)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    passing.refuse(sock)
    mask = os.umask(0o177)  # nobody gets in between bind and chmod
    try:
        _make_directory(path.parent)
        with _alone_in(path.parent):
            _remove_stale(path)
            sock.bind(str(path))
            _give(path, user, group, owner)
            path.chmod(mode)
            sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise listen_error(f"unix:{path}", error) from error
    except ListenError:
        sock.close()
        raise
    finally:
        os.umask(mask)
    return sock


def _give(path: Path, user: int, group: int, owner: str) -> None:
    try:
        if owner:
            os.chown(path, user, group)
    except OSError as error:
        path.unlink()
        why = f"{error.strerror}; only root may give it to another user, and its owner to a group that it is in"
        raise ListenError(f"cannot give unix:{path} to {owner}: {why}", ExitCode.NO_PERMISSION) from error


@contextlib.contextmanager
def _alone_in(directory: Path) -> Iterator[None]:
    """One daemon of a user at a time looks for what is stale and binds: else it takes a socket that is not listening
    yet. The lock is on a file that nobody else may open, as whoever may can hold it.
    """
    path = directory / f".gendriverd-{os.geteuid()}.lock"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    try:
        about = os.fstat(fd)
        if about.st_uid != os.geteuid() or about.st_mode & 0o077:
            raise ListenError(f"cannot listen in {directory}: {path} is not this user's alone; remove it")
        _lock(fd, path)
        yield
    finally:
        os.close(fd)


def _lock(fd: int, path: Path) -> None:
    until = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > until:
                raise ListenError(f"cannot listen in {path.parent}: another process holds {path}") from None
        time.sleep(0.02)


def _make_directory(directory: Path) -> None:
    if directory.is_dir():
        return
    if not directory.parent.is_dir():
        raise ListenError(f"cannot listen in {directory}: neither it nor {directory.parent} exists")
    directory.mkdir(exist_ok=True)
    directory.chmod(0o755)


def _remove_stale(path: Path) -> None:
    """A file on which nobody answers is a dead daemon's."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise ListenError(f"cannot listen on unix:{path}: there is a file of that name that is no socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except TimeoutError:  # its backlog is full: somebody is there
            pass
    raise AddressTaken(f"cannot listen on unix:{path}: another process answers there; is gendriverd running already?")
