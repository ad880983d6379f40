# SPDX-License-Identifier: MIT
"""Whether a driver's file is one to load: nobody but root, the daemon's user and those it trusts can have written it,
or can put another in its place; and it is the file that was meant, where its SHA-256 is configured.

Looked at are the file, each directory on the way to it, symbolic links followed, and those of the links' targets.
"""

from __future__ import annotations

import errno
import grp
import hashlib
import os
import pwd
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from gendriverd.errors import ConfigError, LaunchError
from gendriverd.users import user_name, user_number

LINKS_MAX = 40  # as the kernel's
# Where there is one, the group's bits are what all whom it names may do at most.
ACCESS_LIST = "system.posix_acl_access"


def check_written_by(driver: str, trusted: Iterable[str]) -> None:
    """`trusted`: users beside root and our own, names or numbers. Raises LaunchError. A file that cannot be reached is
    left to the host, which says why.
    """
    owners = {0, os.geteuid(), *map(_number, trusted)}
    try:
        for path in _way(Path(driver).absolute()):
            if (trouble := _trouble(path, owners)) is not None:
                raise LaunchError(f"driver {driver}: {trouble}", permanent=True)
    except OSError:
        return


def check_digest(driver: str, loaded: str, wanted: str | None) -> None:
    """`loaded`: the file that will be. Raises LaunchError."""
    if wanted is None:
        return
    try:
        with Path(loaded).open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise LaunchError(f"driver {driver}: {error.strerror}", permanent=True) from None
    if found != wanted:
        raise LaunchError(f"driver {driver}: its sha256 is {found}, and {wanted} is asked for", permanent=True)


def _number(user: str) -> int:
    try:
        return user_number(user)
    except ConfigError as error:
        raise LaunchError(f"[daemon] driver_owners: {error}", permanent=True) from None


def _way(path: Path) -> Iterator[Path]:
    """All that decides which file `path` is, in the order in which the kernel goes. Raises OSError."""
    here, ahead, links = Path("/"), list(reversed(path.parts[1:])), 0
    yield here
    while ahead:
        step = ahead.pop()
        if step == "..":
            here = here.parent
            continue
        entry = here / step
        if entry.is_symlink():
            links += 1
            if links > LINKS_MAX:
                return  # the host will say it
            target = entry.readlink()
            ahead += reversed(target.parts[1:] if target.is_absolute() else target.parts)
            here = Path("/") if target.is_absolute() else here
            continue
        yield (here := entry)


def _trouble(path: Path, owners: set[int]) -> str | None:
    found = path.stat()
    kind = "directory" if stat.S_ISDIR(found.st_mode) else "file"
    if found.st_uid not in owners:
        whose = user_name(found.st_uid)
        return f"{kind} {path} belongs to {whose}, who is neither root nor us nor among [daemon] driver_owners"
    if found.st_mode & stat.S_ISVTX and kind == "directory":
        return None  # what lies in it only its owner can replace, and that one is looked at
    writers = _writers(path, found)
    mode = stat.S_IMODE(found.st_mode)
    return f"{kind} {path} can be written by {writers} (mode {mode:04o}): chmod go-w" if writers else None


def _writers(path: Path, found: os.stat_result) -> str | None:
    """Beside its owner, as far as that is known."""
    if found.st_mode & stat.S_IWOTH:
        return "others"
    if not found.st_mode & stat.S_IWGRP:
        return None
    if _has_list(path):
        return "those in its access list"
    return None if _private(found) else "its group"


def _has_list(path: Path) -> bool:
    """Where that cannot be known there may be one."""
    try:
        os.getxattr(path, ACCESS_LIST)
    except OSError as error:
        return error.errno not in {errno.ENODATA, errno.EOPNOTSUPP}
    return True


def _private(found: os.stat_result) -> bool:
    """Its group is its owner's alone, of the same name, as most systems make one for each user."""
    try:
        user, group = pwd.getpwuid(found.st_uid), grp.getgrgid(found.st_gid)
    except KeyError:
        return False
    return user.pw_gid == group.gr_gid and user.pw_name == group.gr_name and set(group.gr_mem) <= {user.pw_name}
