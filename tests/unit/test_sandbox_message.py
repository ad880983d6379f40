# SPDX-License-Identifier: MIT
"""Who a host becomes, and what it is told of its sandbox."""

from __future__ import annotations

import os
import pwd
import resource

import pytest

from gendriverd.errors import LaunchError
from gendriverd.etf import Atom
from gendriverd.sandbox import Identity, identity, own_number, sandbox_message, with_hint
from gendriverd.schema import Sandbox

DAEMON = pwd.getpwnam("daemon")


def test_as_root_each_instance_has_a_number_of_its_own_and_keeps_it() -> None:
    found = {name: identity(name, "", euid=0) for name in ("a", "b", "sum")}
    assert len({who.uid for who in found.values() if who is not None}) == 3
    assert found == {name: own_number(name) for name in found}
    assert all(0x70000000 <= own_number(str(n)).uid < 0x77FFFFFF for n in range(1000))
    assert own_number("a").groups == ()


def test_as_anybody_else_hosts_are_what_the_daemon_is() -> None:
    assert identity("a", "", euid=1000) is None
    assert identity("a", "daemon", euid=DAEMON.pw_uid) is None
    with pytest.raises(LaunchError, match="only a daemon that runs as root") as caught:
        identity("a", "daemon", euid=1000)
    assert caught.value.permanent


def test_root_may_be_asked_for() -> None:
    assert identity("a", "root", euid=0) is None


@pytest.mark.parametrize("user", ["daemon", str(DAEMON.pw_uid)])
def test_a_user_is_a_name_or_a_number(user: str) -> None:
    groups = tuple(os.getgrouplist("daemon", DAEMON.pw_gid))
    assert identity("a", user, euid=0) == Identity(DAEMON.pw_uid, DAEMON.pw_gid, groups)
    assert identity("a", f"{user}:0", euid=0) == Identity(DAEMON.pw_uid, 0, tuple(os.getgrouplist("daemon", 0)))


def test_a_number_without_a_name_needs_its_group() -> None:
    assert identity("a", "4000000:4000001", euid=0) == Identity(4000000, 4000001, (4000001,))
    with pytest.raises(LaunchError, match="its group is not known: write 4000000:GROUP"):
        identity("a", "4000000", euid=0)
    with pytest.raises(LaunchError, match="sandbox user 'no-such': there is no user 'no-such'"):
        identity("a", "no-such", euid=0)


def test_what_a_control_group_keeps_the_host_need_not() -> None:
    sandbox = Sandbox(memory=1 << 30, tasks=10, cpu=1.0, user="root")
    message = sandbox_message("a", sandbox, 10, "/beside", limited=True)
    assert (message[Atom("memory")], message[Atom("tasks")]) == (0, 0)
    with pytest.raises(LaunchError, match="sandbox cpu needs a control group"):
        sandbox_message("a", sandbox, 10, "/beside", limited=False)


@pytest.mark.parametrize(
    ("ours", "euid", "told"),
    [(1024, 1000, 512), (20_000, 1000, 15_904), (1 << 20, 1000, 30_000), (-1, 1000, 30_000), (1024, 0, 30_000)],
)
def test_a_host_of_our_user_has_fewer_descriptors(
    monkeypatch: pytest.MonkeyPatch, ours: int, euid: int, told: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (ours, ours))
    monkeypatch.setattr("os.geteuid", lambda: euid)
    message = sandbox_message("x", Sandbox(nofile=30_000), 10, "/", limited=False)
    assert message[Atom("nofile")] == told


def test_descriptors_are_enough_for_the_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1 << 20, 1 << 20))
    assert sandbox_message("a", Sandbox(), 5000, "/", limited=False)[Atom("nofile")] == 6024
    assert sandbox_message("a", Sandbox(nofile=100), 5000, "/", limited=False)[Atom("nofile")] == 100


def test_what_was_denied_is_told_where_to_allow_it() -> None:
    assert "`read` and `write`" in with_hint("x.so: Permission denied", Sandbox())
    assert with_hint("x.so: Permission denied", Sandbox(profile="none")) == "x.so: Permission denied"
    assert with_hint("x.so: undefined symbol", Sandbox()) == "x.so: undefined symbol"
