# SPDX-License-Identifier: MIT
"""Control groups for hosts whose memory, tasks or processor time are limited: cgroup v2, where it is delegated to us.

Delegated is the group that this process is in when it may write to it, as with systemd's Delegate=yes. Processes lie in
leaves only, so we and all that we have started move into one, `daemon`, and each such host gets one beside it. Linux,
admin-guide/cgroup-v2; systemd's CGROUP_DELEGATION.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from functools import cache
from pathlib import Path

from gendriverd.errors import LaunchError
from gendriverd.schema import Sandbox

PERIOD = 100_000  # us, of cpu.max
CONTROLLERS = {"memory": "memory", "tasks": "pids", "cpu": "cpu"}


def wanted(sandbox: Sandbox) -> list[str]:
    """The limits that a control group keeps best."""
    return [name for name in CONTROLLERS if getattr(sandbox, name) is not None]


class Group:
    """One host's. Not empty: kill() it, and remove() it when its processes are reaped."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, pid: int) -> None:
        """Raises LaunchError."""
        _write(self._path / "cgroup.procs", pid)

    def out_of_memory(self) -> bool:
        """The kernel has killed it for what it used."""
        with contextlib.suppress(OSError):
            for line in (self._path / "memory.events").read_text().splitlines():
                if line.startswith("oom_kill "):
                    return line != "oom_kill 0"
        return False

    def kill(self) -> None:
        """All that is in it, whatever it calls itself now."""
        with contextlib.suppress(OSError):  # before Linux 5.14
            (self._path / "cgroup.kill").write_text("1")

    def remove(self) -> None:
        with contextlib.suppress(OSError):
            self._path.rmdir()


class Groups:
    """The group that is delegated to us."""

    def __init__(self, path: Path) -> None:
        """Raises LaunchError."""
        self._path = path
        self._numbers = 0
        _make(path / "daemon", exist_ok=True)
        self._move_down()
        for stale in path.glob("host-*"):
            Group(stale).kill()
            Group(stale).remove()
        self._controllers = self._divided()

    def _move_down(self) -> None:
        """Ourselves first: what we start from then on is there."""
        _write(self._path / "daemon/cgroup.procs", os.getpid())
        for pid in map(int, (self._path / "cgroup.procs").read_text().split()):
            if _descends_from(os.getpid(), pid):
                with contextlib.suppress(LaunchError):  # it has ended
                    _write(self._path / "daemon/cgroup.procs", pid)

    def _divided(self) -> list[str]:
        """The controllers that there are for single hosts: none where somebody else's processes lie in the group."""
        available = (self._path / "cgroup.controllers").read_text().split()
        controllers = [name for name in CONTROLLERS.values() if name in available]
        try:
            (self._path / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in controllers) + "\n")
        except OSError as error:
            if error.errno == errno.EBUSY:
                return []
            raise LaunchError(f"control group {self._path}: {error.strerror}", permanent=False) from None
        return controllers

    def keeps(self, sandbox: Sandbox) -> bool:
        """It has a controller for each limit that is wanted."""
        return all(CONTROLLERS[limit] in self._controllers for limit in wanted(sandbox))

    def make(self, sandbox: Sandbox) -> Group:
        """For one host. Raises LaunchError."""
        self._numbers += 1
        path = self._path / f"host-{self._numbers}"
        _make(path)
        try:
            _limit(path, sandbox)
        except LaunchError:
            Group(path).remove()
            raise
        return Group(path)


def _limit(path: Path, sandbox: Sandbox) -> None:
    if sandbox.memory is not None:
        _write(path / "memory.max", sandbox.memory)
        _write(path / "memory.oom.group", 1)
    if sandbox.tasks is not None:
        _write(path / "pids.max", sandbox.tasks)
    if sandbox.cpu is not None:
        _write(path / "cpu.max", f"{max(1000, round(sandbox.cpu * PERIOD))} {PERIOD}")


@cache
def delegated() -> Groups | None:
    """None: nothing is, and limits are setrlimit's business. Raises LaunchError."""
    path = _own()
    if path is None or not (path / "cgroup.events").exists():  # only the root of all has none
        return None
    files = (path, path / "cgroup.procs", path / "cgroup.subtree_control")
    return Groups(path) if all(os.access(file, os.W_OK) for file in files) else None


def _own(proc: Path = Path("/proc/self")) -> Path | None:
    """The directory of this process's group; None without cgroup v2."""
    try:
        lines = (proc / "cgroup").read_text().splitlines()
        mounts = [line.split() for line in (proc / "mountinfo").read_text().splitlines()]
    except OSError:
        return None
    inside = next((line[3:] for line in lines if line.startswith("0::")), None)
    for fields in mounts:
        root, place = fields[3], fields[4]
        if inside is not None and fields[fields.index("-") + 1] == "cgroup2":
            beneath = os.path.relpath(inside, root)
            return None if beneath.startswith("..") else Path(os.path.normpath(Path(place) / beneath))
    return None


def _descends_from(ancestor: int, pid: int) -> bool:
    while pid > 1 and pid != ancestor:
        try:
            pid = int(re.findall(r"^PPid:\s+([0-9]+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)[0])
        except OSError:
            return False
    return pid == ancestor


def _make(path: Path, *, exist_ok: bool = False) -> None:
    try:
        path.mkdir(exist_ok=exist_ok)
    except OSError as error:
        raise LaunchError(f"cannot make the control group {path}: {error.strerror}", permanent=False) from None


def _write(file: Path, value: object) -> None:
    try:
        file.write_text(f"{value}\n")
    except OSError as error:
        raise LaunchError(f"control group {file}: {error.strerror}", permanent=False) from None
