# SPDX-License-Identifier: MIT
"""Who binds a unix socket is alone in its directory, and nobody else can keep a daemon waiting for that."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from gendriverd import listener, unix_socket
from gendriverd.errors import ListenError
from gendriverd.schema import DaemonConfig


async def listen(directory: Path) -> None:
    config = DaemonConfig(listen=[f"unix:{directory}/s"])  # type: ignore[arg-type]
    for each in listener.open_listeners(config, []):
        each.close()


def lock_of(directory: Path) -> Path:
    return directory / f".gendriverd-{os.geteuid()}.lock"


async def test_who_locks_the_directory_keeps_nobody_waiting(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    await listen(tmp_path)
    os.close(fd)


async def test_the_lock_is_for_nobody_else_to_open(tmp_path: Path) -> None:
    await listen(tmp_path)
    assert lock_of(tmp_path).stat().st_mode & 0o777 == 0o600


async def test_another_that_binds_is_not_waited_for_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unix_socket, "LOCK_SECONDS", 0.1)
    await listen(tmp_path)
    with lock_of(tmp_path).open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ListenError, match=r"another process holds .*\.lock"):
            await listen(tmp_path)
    await listen(tmp_path)


@pytest.mark.parametrize("mode", [0o666, 0o640])
async def test_a_lock_that_others_may_open_is_none(tmp_path: Path, mode: int) -> None:
    lock_of(tmp_path).touch()
    lock_of(tmp_path).chmod(mode)
    with pytest.raises(ListenError, match="not this user's alone; remove it"):
        await listen(tmp_path)


async def test_a_lock_that_points_elsewhere_is_not_followed(tmp_path: Path) -> None:
    lock_of(tmp_path).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ListenError, match="cannot listen on"):
        await listen(tmp_path)
    assert not (tmp_path / "elsewhere").exists()
