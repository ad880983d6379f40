# SPDX-License-Identifier: MIT
"""The sandbox of a host as an operator sets it: what is in force, what profile and lists allow, what is refused."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gendriverd.client import connect
from gendriverd.etf import Atom
from running_daemon import RunningDaemon, running_daemon
from test_daemon import driver_path

OK = Atom("ok")
Daemon = Callable[..., RunningDaemon]
ROOT = os.geteuid() == 0
CAPABILITIES = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
NOT_SANITIZED = pytest.mark.skipif("GENDRIVERD_SANITIZER" in os.environ, reason="sanitizers need what is refused here")

# Becomes the command that follows it, on a kernel that seems to have no call of the number that comes first.
WITHOUT_A_CALL = """import ctypes, os, struct, sys
lines = (0x20, 0, 0, 0), (0x15, 0, 1, int(sys.argv[1])), (6, 0, 0, 0x50026), (6, 0, 0, 0x7fff0000)
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in lines))
fprog = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", 4, ctypes.addressof(code)))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, fprog, 0, 0) == 0
os.execv(sys.argv[2], sys.argv[2:])"""
LANDLOCK, SECCOMP = 444, {"x86_64": 317, "aarch64": 277}.get(os.uname().machine, 0)


def landlock() -> int:
    """The version that the kernel has; -1: none."""
    size = ctypes.c_size_t(0)
    return int(
        ctypes.CDLL(None).syscall(444, None, size, 1)
    )  # landlock_create_ruleset, LANDLOCK_CREATE_RULESET_VERSION


def status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


@pytest.fixture
def elsewhere(drivers: Path) -> Iterator[Path]:
    """A directory that `default` does not name, as it would /tmp."""
    with tempfile.TemporaryDirectory(dir=drivers.parent) as path:
        Path(path).chmod(0o755)
        yield Path(path)


@pytest.mark.parametrize(("profile", "filters"), [("none", "0"), ("default", "2"), ("strict", "2")])
@NOT_SANITIZED
def test_every_host_runs_without_privileges(daemon: Daemon, profile: str, filters: str) -> None:
    pid = daemon({"echo": {"driver": "echo.so", "sandbox": {"profile": profile}}}).host_pid("echo")
    found = status(pid)
    assert {found[name] for name in CAPABILITIES} == {"0" * 16}
    assert (found["NoNewPrivs"], found["Seccomp"]) == ("1", filters)
    assert int(Path(f"/proc/{pid}/oom_score_adj").read_text()) >= 500
    assert Path(f"/proc/{pid}/mem").stat().st_uid == 0, "dumpable"


def test_a_host_has_its_own_descriptors_and_no_others(daemon: Daemon) -> None:
    with tempfile.TemporaryFile() as stray:
        os.set_inheritable(stray.fileno(), True)
        running = daemon({"echo": {"driver": "echo.so"}})
        descriptors = Path(f"/proc/{running.host_pid('echo')}/fd").iterdir()
        names = {str(descriptor.readlink()).partition(":")[0] for descriptor in descriptors}
    assert names == {"/dev/null", "socket", "anon_inode"}


def test_the_environment_is_an_allowed_list(daemon: Daemon, tmp_path: Path) -> None:
    running = daemon({"echo": {"driver": "echo.so"}}, env={"SECRET_TOKEN": "x", "AWS_KEY": "y", "TZ": "UTC"})
    names = {line.partition("=")[0] for line in environment(running.host_pid("echo"))}
    assert "TZ" in names
    assert not {"SECRET_TOKEN", "AWS_KEY", "NOTIFY_SOCKET"} & names


def environment(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/environ").read_text().split("\0")


@pytest.mark.skipif(not ROOT, reason="only a daemon that runs as root changes users")
def test_hosts_of_a_daemon_that_is_root_have_users_of_their_own(drivers: Path, host_path: Path) -> None:
    assert host_path.exists()
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        named: dict[str, dict[str, object]] = {
            "a": {"driver": drivers / "echo.so", "sandbox": {"user": ""}},
            "b": {"driver": drivers / "echo.so", "sandbox": {"user": ""}},
            "c": {"driver": drivers / "echo.so", "sandbox": {"user": "daemon:nogroup"}},
        }
        with running_daemon(Path(place), named) as running:
            users = {name: status(running.host_pid(name)) for name in named}
            for name in named:
                with connect(running.tcp_url, name) as client:
                    assert client.call("echo", 1) == (OK, 1)
    own = {name: int(found["Uid"].split()[0]) for name, found in users.items()}
    assert len(set(own.values())) == 3
    assert all(0x70000000 <= own[name] < 0x78000000 for name in "ab")
    assert all(users[name]["Groups"] == "" for name in "ab")
    assert users["c"]["Uid"].split() == ["1"] * 4
    assert users["c"]["Gid"].split() == ["65534"] * 4


def refused(daemon: Daemon, sandbox: dict[str, object], **options: Any) -> str:
    running = daemon({"echo": {"driver": "echo.so", "sandbox": sandbox}}, expect_ready=[], **options)
    return str(running.wait_event("instance_failed", instance="echo")["reason"])


def test_a_user_that_nobody_is_is_refused(daemon: Daemon) -> None:
    assert "sandbox user 'no-such-user'" in refused(daemon, {"user": "no-such-user"})
    assert "no-such-group" in refused(daemon, {"user": "root:no-such-group"})


@pytest.mark.skipif(not ROOT, reason="it takes a second user")
def test_another_user_takes_a_daemon_that_is_root(drivers: Path, host_path: Path) -> None:
    assert host_path.exists()
    with tempfile.TemporaryDirectory() as place:
        instances = {"echo": {"driver": drivers / "echo.so", "sandbox": {"user": "daemon"}}}
        with running_daemon(Path(place), instances, user=65534, expect_ready=[]) as running:
            assert "only a daemon that runs as root" in str(running.wait_event("instance_failed")["reason"])


@NOT_SANITIZED
@pytest.mark.parametrize("profile", ["default", "strict"])
def test_a_driver_reads_and_writes_what_is_listed(daemon: Daemon, elsewhere: Path, profile: str) -> None:
    ledger = elsewhere / "ledger"
    config = {"driver": driver_path("ledger"), "settings": {"ledger": str(ledger)}}
    reason = daemon({"ledger": config | {"sandbox": {"profile": profile}}}, expect_ready=[])
    assert "ledger" in str(reason.wait_event("instance_failed", instance="ledger")["reason"])
    listed = daemon({"ledger": config | {"sandbox": {"profile": profile, "write": [elsewhere]}}})
    with connect(listed.tcp_url, "ledger") as client:
        client.call("record", 7)
    assert ledger.stat().st_size == 8
    only_read = {"sandbox": {"profile": profile, "read": [elsewhere]}}
    daemon({"ledger": config | only_read}, expect_ready=[]).wait_event("instance_failed")


def test_a_path_that_is_listed_must_be_there(daemon: Daemon) -> None:
    assert "/no/such/path, which read names: No such file" in refused(daemon, {"read": ["/no/such/path"]})
    assert "/no/such/path, which write names: No such file" in refused(daemon, {"write": ["/no/such/path"]})


@pytest.mark.parametrize("profile", ["default", "strict"])
@pytest.mark.parametrize(("call", "why"), [(LANDLOCK, "no Landlock"), (SECCOMP, "no seccomp filter")])
def test_what_the_kernel_lacks_is_refused(daemon: Daemon, profile: str, call: int, why: str) -> None:
    lacking = {"under": [sys.executable, "-c", WITHOUT_A_CALL, str(call)]}
    reason = refused(daemon, {"profile": profile}, **lacking)
    assert why in reason
    assert f'profile = "{profile}"' in reason
    running = daemon({"echo": {"driver": "echo.so", "sandbox": {"profile": "none"}}}, **lacking)
    with connect(running.tcp_url, "echo") as client:
        assert client.call("echo", 1) == (OK, 1)


def test_a_limit_that_cannot_be_kept_is_refused(daemon: Daemon) -> None:
    assert "cpu needs a control group" in refused(daemon, {"cpu": 0.5})
    user = "root" if ROOT else ""
    assert "tasks needs a control group" in refused(daemon, {"tasks": 100, "user": user})


@NOT_SANITIZED
def test_limits_are_those_of_the_configuration(daemon: Daemon) -> None:
    running = daemon({"echo": {"driver": "echo.so", "sandbox": {"nofile": 100, "memory": "1GiB"}}})
    lines = Path(f"/proc/{running.host_pid('echo')}/limits").read_text().splitlines()
    found = {line[:26].strip(): line[26:].split()[:2] for line in lines}
    assert found["Max open files"] == ["100", "100"]
    assert found["Max address space"] == [str(1 << 30)] * 2
    assert found["Max core file size"][0] == "0"


@NOT_SANITIZED
def test_a_core_is_left_only_where_one_is_wanted(daemon: Daemon) -> None:
    pid = daemon({"echo": {"driver": "echo.so", "cores": True}}).host_pid("echo")
    assert Path(f"/proc/{pid}/mem").stat().st_uid == os.geteuid()


@NOT_SANITIZED
def test_the_profile_for_mistakes_refuses_what_no_driver_needs(daemon: Daemon, elsewhere: Path) -> None:
    secret = elsewhere / "secret"
    secret.write_text("secret")
    settings = {"secret": str(secret), "outside": str(elsewhere)}
    running = daemon({"late": {"driver": driver_path("hostile"), "settings": settings}})
    allowed: dict[str, set[str]] = {"read_secrets": set(), "trace_the_daemon": set(), "fill_the_disk": set()}
    names = {"tmp", "chmod", "chown", "xattr"} | ({"truncate"} if landlock() < 3 else set())
    allowed |= {"ask_the_kernel": {"uid", "dumpable"}, "write_outside": names}
    with connect(running.tcp_url, "late") as client:
        for command, may in allowed.items():
            attempts = dict(each.split("=") for each in client.call(command).decode().split())
            assert {what for what, came in attempts.items() if came == "ok"} <= may, command
    assert stat.S_IMODE(secret.stat().st_mode) == 0o777  # of a file of its user's: that it keeps them from takes strict
    assert secret.read_text() == "secret"


@NOT_SANITIZED
@pytest.mark.skipif(landlock() < 6, reason="Landlock holds signals from Linux 6.12 on")
def test_no_signal_leaves_the_sandbox(daemon: Daemon) -> None:
    running = daemon({"late": {"driver": driver_path("hostile")}})
    with connect(running.tcp_url, "late") as client:
        attempts = dict(each.split("=") for each in client.call("signal_others").decode().split())
    signals = ("probe", "all", "daemon", "thread", "queue", "pidfd")
    assert {name: attempts[name] for name in signals} == dict.fromkeys(signals, "EPERM")
    assert running.process.poll() is None


def test_a_driver_that_others_can_write_is_not_loaded(daemon: Daemon, drivers: Path, tmp_path: Path) -> None:
    driver = tmp_path / "x.so"
    shutil.copy(drivers / "echo.so", driver)
    driver.chmod(0o666)
    running = daemon({"x": {"driver": driver}}, expect_ready=[])
    reason = str(running.wait_event("instance_failed", instance="x")["reason"])
    assert f"file {driver} can be written by others (mode 0666): chmod go-w" in reason


def test_a_driver_that_is_not_the_pinned_one_is_not_loaded(daemon: Daemon, drivers: Path) -> None:
    digest = hashlib.sha256((drivers / "echo.so").read_bytes()).hexdigest()
    daemon({"echo": {"driver": "echo.so", "sha256": digest.upper()}})
    daemon({"echo": {"driver": "echo.so", "sha256": digest, "snapshot": False}})
    for snapshot in (True, False):
        other = {"driver": drivers / "sum.so", "sha256": digest, "snapshot": snapshot}
        running = daemon({"echo": other}, expect_ready=[])
        assert f"and {digest} is asked for" in str(running.wait_event("instance_failed")["reason"])
