# SPDX-License-Identifier: MIT
"""Users and groups of this machine, by name or number, as the configuration names them; it may block."""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Iterable

from gendriverd.errors import ConfigError


def user_number(name: str) -> int:
    """Raises ConfigError."""
    try:
        return int(name) if name.isdecimal() else pwd.getpwnam(name).pw_uid
    except KeyError:
        raise ConfigError([f"there is no user {name!r}"]) from None


def user_name(uid: int) -> str:
    """For a sentence."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def group_number(name: str) -> int:
    """Raises ConfigError."""
    try:
        return int(name) if name.isdecimal() else grp.getgrnam(name).gr_gid
    except KeyError:
        raise ConfigError([f"there is no group {name!r}"]) from None


def owner_numbers(owner: str) -> tuple[int, int]:
    """Of "user", "user:group" or ":group"; -1: as it is. Raises ConfigError."""
    user, _, group = owner.partition(":")
    try:
        return user_number(user) if user else -1, group_number(group) if group else -1
    except ConfigError as error:
        raise ConfigError([f"[daemon] unix_owner: {error}"]) from None


def user_numbers(names: Iterable[str]) -> frozenset[int] | None:
    """Those who may connect: these, root and our own; None: nobody was named, so all. Raises ConfigError."""
    try:
        named = {user_number(name) for name in names}
    except ConfigError as error:
        raise ConfigError([f"[daemon] unix_users: {error}"]) from None
    return frozenset({*named, 0, os.geteuid()}) if named else None
