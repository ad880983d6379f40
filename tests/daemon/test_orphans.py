# SPDX-License-Identifier: MIT
"""What a driver has started goes when its host goes, and not before; nobody is left when the daemon is killed."""

from __future__ import annotations

import errno
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from gendriverd import orphans
from gendriverd.client import SyncClient, connect
from gendriverd.etf import Atom
from gendriverd.log import get_log
from running_daemon import RunningDaemon, descendants, stat_of

OK = Atom("ok")
Daemon = Callable[..., RunningDaemon]


def serving(daemon: Daemon, drivers: Path) -> RunningDaemon:
    return daemon({"crash": {"driver": drivers / "test/crash.so", "restart": {"first": "1ms"}}})


def started(client: SyncClient, how: str) -> int:
    tag, pid = client.call(how)
    assert tag == OK
    return int(pid)


def await_end(pidfd: int) -> None:
    """Of a process: dead, reaped or not."""
    assert select.select([pidfd], [], [], 30)[0]
    os.close(pidfd)


def await_reaped(pid: int) -> None:
    until = time.monotonic() + 30
    while stat_of(pid) is not None:
        assert time.monotonic() < until


@pytest.mark.parametrize("how", ["leave_child", "leave_daemon"])
def test_what_a_host_leaves_behind_goes_with_it(daemon: Daemon, drivers: Path, how: str) -> None:
    running = serving(daemon, drivers)
    with connect(running.tcp_url, "crash") as client:
        left = started(client, how)
        held = os.pidfd_open(left)
        os.kill(running.host_pid("crash"), signal.SIGKILL)
        await_end(held)
    with connect(running.tcp_url, "crash") as client:
        assert started(client, "pid") == running.host_pid("crash")
    if how == "leave_daemon":
        assert running.wait_event("orphan_killed")["orphan"] == left


def test_a_living_hosts_helper_is_left_alone_and_reaped_when_it_dies(daemon: Daemon, drivers: Path) -> None:
    running = serving(daemon, drivers)
    with connect(running.tcp_url, "crash") as client:
        first, second = started(client, "leave_daemon"), started(client, "leave_daemon")
        for helper in (first, second):
            about = stat_of(helper)
            assert about is not None
            assert about.parent == running.pid
        os.kill(first, signal.SIGKILL)
        await_reaped(first)
        os.kill(running.host_pid("crash"), signal.SIGKILL)
        running.wait_event("orphan_killed", orphan=second)
        assert [e["orphan"] for e in running.events if e["event"] == "orphan_killed"] == [second]
        running.wait_event("instance_ready", instance="crash", generation=2)
        await_reaped(second)


def test_when_the_daemon_is_killed_its_hosts_and_theirs_leave_by_themselves(daemon: Daemon, drivers: Path) -> None:
    running = serving(daemon, drivers)
    with connect(running.tcp_url, "crash") as client:
        started(client, "leave_child")
        family = descendants(running.pid)
        assert len(family) == 2
        held = [os.pidfd_open(process.pid) for process in family]
        running.kill_daemon()
        for each in held:
            await_end(each)


async def test_where_no_descriptor_is_left_to_look_with_it_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: object
) -> None:
    send, receive = trio.open_memory_channel[int](1)
    tried: list[float] = []

    def children() -> list[int]:
        tried.append(trio.current_time())
        if len(tried) < 3:
            raise OSError(errno.EMFILE, "Too many open files")
        return []

    monkeypatch.setattr(orphans, "_children", children)
    await send.send(signal.SIGCHLD)
    send.close()
    with receive:
        await orphans.sweep_forever(receive, get_log())
    assert len(tried) == 3


def test_what_cannot_be_looked_at_is_not_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as helper:
        try:
            monkeypatch.setattr(orphans, "_children", lambda: [helper.pid])
            monkeypatch.setattr(orphans, "_environment", no_descriptor)
            with pytest.raises(OSError, match="Too many"):
                orphans.sweep(get_log())
            assert helper.poll() is None
        finally:
            helper.kill()


def no_descriptor(_: int) -> bytes:
    raise OSError(errno.EMFILE, "Too many open files")
