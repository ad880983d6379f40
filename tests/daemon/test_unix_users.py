# SPDX-License-Identifier: MIT
"""Whose a unix socket is, and which users a real daemon lets in there: clients of other users are real ones."""

from __future__ import annotations

import grp
import os
import pwd
import socket
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gendriverd.client import connect
from gendriverd.errors import ListenError
from gendriverd.listener import open_unix
from gendriverd.quantities import Address
from running_daemon import RunningDaemon
from test_daemon import hello

Daemon = Callable[..., RunningDaemon]
ECHO: dict[str, dict[str, object]] = {"echo": {"driver": "echo.so"}}
NOBODY = 65534
OTHER = 65533
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="another user's client wants root")


@pytest.fixture
def directory() -> Iterator[Path]:
    """One that every user may pass through."""
    with tempfile.TemporaryDirectory(prefix="gendriverd-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def heard_by(user: int, path: Path) -> bytes:
    """What a client of this user hears, who says a hello; nothing where it may not connect.

    By fork alone: that user may not be allowed to execute this Python.
    """
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setgid(user)
            os.setuid(user)
            os.write(write, exchange(path))
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as heard:
        data = heard.read()
    os.waitpid(pid, 0)
    return data


def exchange(path: Path) -> bytes:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(30)
        client.connect(str(path))
        client.sendall(hello(b"echo"))
        client.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: client.recv(4096), b""))


@as_root
def test_only_users_who_are_named_root_and_our_own_are_let_in(daemon: Daemon, directory: Path) -> None:
    path = directory / "s"
    settings = {"listen": [f"unix:{path}", "tcp://127.0.0.1:0"], "unix_mode": "0666", "unix_users": [NOBODY]}
    running = daemon(ECHO, settings=settings)
    assert b"welcome" in heard_by(NOBODY, path)
    refused = heard_by(OTHER, path)
    assert b"refused" in refused
    assert b"auth" in refused
    assert running.wait_event("client_refused", reason="auth")["why"] == "a user who is not in unix_users"
    for url in running.addresses():
        with connect(url, "echo") as client:
            assert client.call("echo", 1)


@as_root
def test_a_socket_is_given_to_a_user_and_a_group(daemon: Daemon, directory: Path) -> None:
    path = directory / "s"
    listen = [f"unix:{path}", "tcp://127.0.0.1:0"]
    running = daemon(ECHO, settings={"listen": listen, "unix_mode": "0660", "unix_owner": f"0:{NOBODY}"})
    found = path.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (0, NOBODY, 0o660)
    assert b"welcome" in heard_by(NOBODY, path)  # by its group
    assert heard_by(OTHER, path) == b""
    admin = Path(running.admin).stat()
    assert (admin.st_uid, admin.st_gid, stat.S_IMODE(admin.st_mode)) == (os.geteuid(), os.getegid(), 0o600)


async def test_names_are_as_good_as_numbers(tmp_path: Path) -> None:
    user, group = pwd.getpwuid(os.geteuid()).pw_name, grp.getgrgid(os.getegid()).gr_name
    for number, owner in enumerate((user, f"{user}:{group}", f":{group}", f"{os.geteuid()}:{os.getegid()}")):
        path = tmp_path / str(number)
        open_unix(Address("", 0, str(path)), 0o600, owner).close()
        assert not path.exists()


async def test_a_socket_that_cannot_be_given_away_is_not_left_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "chown", denied)
    path = tmp_path / "s"
    with pytest.raises(ListenError, match=r"cannot give unix:.*/s to 0: Operation not permitted; only root") as refused:
        open_unix(Address("", 0, str(path)), 0o600, "0")
    assert refused.value.exit_code == 77
    assert not path.exists()
