# SPDX-License-Identifier: MIT
"""What is said to systemd, where it is said to, and silence without it."""

from __future__ import annotations

import os
import re
import socket
import time
from pathlib import Path

import pytest

from gendriverd.sdnotify import Notifier, named_fds, passed_fds, watchdog_time


@pytest.mark.parametrize("abstract", [False, True])
def test_ready_arrives_with_its_status(tmp_path: Path, *, abstract: bool) -> None:
    name = f"gendriverd-{os.urandom(8).hex()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.settimeout(10)
        systemd.bind(f"\0{name}" if abstract else name)
        Notifier({"NOTIFY_SOCKET": f"@{name}" if abstract else name}).ready("2 of 2")
        assert systemd.recv(100) == b"READY=1\nSTATUS=2 of 2"


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": "/nowhere/at/all"}, {"NOTIFY_SOCKET": "x" * 500}])
def test_nobody_listening_is_no_error(environ: dict[str, str]) -> None:
    Notifier(environ).stopping()


def test_a_full_socket_does_not_block(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")})
        for _ in range(2000):
            notifier.alive()


def test_a_reload_is_said_when_it_begins_and_when_it_is_done(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.settimeout(10)
        systemd.bind(str(tmp_path / "notify"))
        notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")})
        notifier.ready("1 of 1")
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        notifier.reloading()
        notifier.reloaded("2 of 2")
        assert systemd.recv(100) == b"READY=1\nSTATUS=1 of 1"
        began = re.fullmatch(rb"RELOADING=1\nMONOTONIC_USEC=(\d+)\nSTATUS=reloading", systemd.recv(100))
        assert began is not None
        assert before <= int(began[1]) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        assert systemd.recv(100) == b"READY=1\nSTATUS=2 of 2"


def test_a_reload_does_not_make_ready_what_starts_or_stops(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.settimeout(10)
        systemd.bind(str(tmp_path / "notify"))
        notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")})
        notifier.reloading()
        notifier.reloaded("0 of 1")
        notifier.ready("1 of 1")
        notifier.stopping()
        notifier.reloading()
        notifier.reloaded("1 of 1")
        notifier.status("gone")
        heard = [systemd.recv(100).decode().split("\n")[0] for _ in range(3)]
        assert heard == ["READY=1", "STOPPING=1", "STATUS=gone"]


def test_what_the_watchdog_allows_is_in_seconds() -> None:
    assert watchdog_time({"WATCHDOG_USEC": "30000000"}) == 30
    assert watchdog_time({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}) == 30


@pytest.mark.parametrize(
    "environ", [{}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "x"}, {"WATCHDOG_USEC": "1", "WATCHDOG_PID": "1"}]
)
def test_nobody_asks_for_life_signs(environ: dict[str, str]) -> None:
    assert watchdog_time(environ) is None


def test_descriptors_passed_to_another_process_are_not_ours() -> None:
    assert passed_fds({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "2"}) == [3, 4]
    assert passed_fds({"LISTEN_PID": "1", "LISTEN_FDS": "2"}) == []
    assert passed_fds({}) == []


def test_descriptors_are_known_by_the_name_that_their_unit_gives_them() -> None:
    environ = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "3", "LISTEN_FDNAMES": "gendriverd.socket:tls:tls"}
    assert named_fds("tls", environ) == [4, 5]
    assert named_fds("tls", {**environ, "LISTEN_FDNAMES": ""}) == []
    assert named_fds("tls", {**environ, "LISTEN_PID": "1"}) == []
