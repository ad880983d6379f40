# SPDX-License-Identifier: MIT
"""What a host is told of its sandbox: profile, files, limits, and the user that it runs as.

Where the daemon runs as root, each instance's hosts run as a user of their own: the one that is configured, or a number
made from the instance's name, of a range that nobody is given (1879048192 to 2013265918, unused in systemd's
UIDS-GIDS), so that no host can touch another's processes or the daemon's files. Other daemons' hosts run as its user.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import resource
from dataclasses import dataclass

from gendriverd.errors import ConfigError, LaunchError
from gendriverd.etf import Atom, Term
from gendriverd.schema import Sandbox
from gendriverd.users import group_number, user_number

FIRST, COUNT = 0x70000000, 0x07FFFFFF  # of the numbers; the next is the TLS front's
GROUPS_MAX = 64  # host/sandbox.h
DESCRIPTORS = 1024  # beside those of connections, where nothing else is said
SPARE = 4096  # that the daemon has more than a host of its user


@dataclass(frozen=True, slots=True)
class Identity:
    """A user with its groups."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()


def identity(instance: str, user: str, *, euid: int) -> Identity | None:
    """Whom a host becomes; None: it stays what the daemon is. Raises LaunchError."""
    if not user:
        return own_number(instance) if euid == 0 else None
    found = _look_up(user)
    if euid == 0:
        return None if found.uid == 0 else found
    if found.uid != euid:
        raise LaunchError(
            f"sandbox user {user!r}: only a daemon that runs as root can run hosts as another user", permanent=True
        )
    return None


def own_number(instance: str) -> Identity:
    number = FIRST + int.from_bytes(hashlib.sha256(instance.encode()).digest()[:8], "big") % COUNT
    return Identity(number, number)


def _look_up(user: str) -> Identity:
    """NAME, or NAME:GROUP, or numbers. One that nobody has given a name needs its group."""
    name, _, group = user.partition(":")
    try:
        uid = user_number(name)
        gid = group_number(group) if group else pwd.getpwuid(uid).pw_gid
    except ConfigError as error:
        raise LaunchError(f"sandbox user {user!r}: {error}", permanent=True) from None
    except KeyError:
        raise LaunchError(
            f"sandbox user {user!r}: its group is not known: write {name}:GROUP", permanent=True
        ) from None
    return Identity(uid, gid, _groups_of(uid, gid))


def _groups_of(uid: int, gid: int) -> tuple[int, ...]:
    try:
        return tuple(os.getgrouplist(pwd.getpwuid(uid).pw_name, gid)[:GROUPS_MAX])
    except KeyError:
        return (gid,)


def sandbox_message(
    instance: str, sandbox: Sandbox, connections: int, beside: str, *, limited: bool
) -> dict[Term, Term]:
    """The map of `sandbox` in {start, Map}: docs/control-channel.md. `beside`: the directory of the driver's own file.
    `limited`: by a control group, so that the host need not limit its memory and tasks itself. Raises LaunchError.
    """
    who = identity(instance, sandbox.user, euid=os.geteuid())
    if not limited:
        _check_limits(sandbox, own=who is not None)
    message: dict[Term, Term] = {
        Atom("profile"): Atom(sandbox.profile),
        Atom("nofile"): _descriptors(sandbox.nofile or connections + DESCRIPTORS, own=who is not None),
        Atom("tasks"): 0 if limited else sandbox.tasks or 0,
        Atom("memory"): 0 if limited else sandbox.memory or 0,
        Atom("beside"): os.fsencode(beside),
        Atom("read"): [os.fsencode(path) for path in sandbox.read],
        Atom("write"): [os.fsencode(path) for path in sandbox.write],
    }
    if who is not None:
        message |= {Atom("uid"): who.uid, Atom("gid"): who.gid, Atom("groups"): list(who.groups)}
    return message


def _descriptors(wanted: int, *, own: bool) -> int:
    """Of descriptors on their way through sockets the kernel counts all of a user's, and refuses to send more to whom
    they are too many: hosts of our user have fewer than we, so that they cannot keep us from passing clients on.
    """
    ours = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return wanted if own or ours == resource.RLIM_INFINITY else min(wanted, max(ours - SPARE, ours // 2))


def _check_limits(sandbox: Sandbox, *, own: bool) -> None:
    """What setrlimit(2) cannot do is not silently left out."""
    delegated = "needs a control group: cgroup v2, delegated to the daemon with its controller (systemd: Delegate=yes)"
    if sandbox.cpu is not None:
        raise LaunchError(f"sandbox cpu {delegated}", permanent=True)
    if sandbox.tasks is not None and not own:
        raise LaunchError(f"sandbox tasks {delegated}, or a user of the hosts' own", permanent=True)


def with_hint(refusal: str, sandbox: Sandbox) -> str:
    """Why a driver was refused, and where to look when it was not allowed to do something."""
    if sandbox.profile == "none" or not any(text in refusal for text in (os.strerror(1), os.strerror(13))):
        return refusal
    return f"{refusal} (its sandbox has profile = {sandbox.profile!r}; `read` and `write` say what else it may)"
