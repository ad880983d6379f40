# SPDX-License-Identifier: MIT
"""A driver runs from a copy: what becomes of its file harms no host, until a reload takes the new one."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import stat
from collections.abc import Callable
from pathlib import Path

from gendriverd.client import connect
from gendriverd.etf import Atom
from gendriverd.snapshot import KEPT, take
from running_daemon import RunningDaemon
from test_reload import Reloadable, moved

OK = Atom("ok")
Daemon = Callable[..., RunningDaemon]


def overwrite(driver: Path, contents: bytes) -> None:
    """In place: a process that has the file mapped dies of it."""
    with driver.open("r+b") as file:
        file.truncate(0)
        file.write(contents)


def test_overwriting_a_driver_in_place_harms_nobody_and_a_reload_takes_it(
    daemon: Daemon, drivers: Path, tmp_path: Path
) -> None:
    driver = tmp_path / "driver.so"
    shutil.copy(drivers / "echo.so", driver)
    service = Reloadable(daemon, tmp_path, {"x": {"driver": str(driver), "restart": {"first": "1ms"}}})
    url = service.running.tcp_url
    with connect(url, "x") as client:
        overwrite(driver, b"no driver at all")
        for number in range(1000):
            assert client.call("echo", number) == (OK, number)
        os.kill(service.pids()["x"], signal.SIGKILL)
    with connect(url, "x") as client:  # a restart is no reload
        assert client.welcome.generation == 2
        assert client.call("echo", 1) == (OK, 1)
        service.reload()
        service.running.wait_event("reload_failed", instance="x")
        overwrite(driver, (drivers / "sum.so").read_bytes())
        service.reload()
        moved(client, service.running.wait_event("instance_ready", generation=4)["generation"])
        assert client.call("sum", [1, 2]) == (OK, 3.0)


def test_the_copies_are_the_daemons_own(daemon: Daemon, drivers: Path, tmp_path: Path) -> None:
    running = daemon(
        {"a": {"driver": "echo.so"}, "b": {"driver": "echo.so"}}, settings={"snapshots_dir": str(tmp_path / "s")}
    )
    running.wait_event("ready")
    (file,) = (tmp_path / "s").iterdir()
    shipped = [event["driver"] for event in running.events if event["event"] == "host_started"]
    assert file.name == hashlib.sha256(Path(shipped[0]).read_bytes()).hexdigest() + ".so"
    file.chmod(0o500)  # as by a daemon that did not yet give its hosts users
    daemon({"a": {"driver": "echo.so"}}, settings={"snapshots_dir": str(tmp_path / "s")})
    modes = (0o555, 0o711) if os.geteuid() == 0 else (0o500, 0o700)  # root's hosts are other users
    assert (stat.S_IMODE(file.stat().st_mode), stat.S_IMODE(file.parent.stat().st_mode)) == modes


def test_without_a_place_for_copies_the_file_itself_is_loaded(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    for place, why in (("/proc/none", "/proc/none"), (str(tmp_path / "open"), "not this user's alone")):
        running = daemon({"x": {"driver": "echo.so"}}, settings={"snapshots_dir": place})
        assert why in running.wait_event("snapshot_not_made")["reason"]
        with connect(running.tcp_url, "x") as client:
            assert client.call("echo", 1) == (OK, 1)
    assert list((tmp_path / "open").iterdir()) == []


def test_an_instance_may_want_none(daemon: Daemon, tmp_path: Path) -> None:
    running = daemon({"x": {"driver": "echo.so", "snapshot": False}}, settings={"snapshots_dir": str(tmp_path / "s")})
    running.wait_event("ready")
    assert not (tmp_path / "s").exists()


def test_its_libraries_are_found_where_the_original_lies(daemon: Daemon, drivers: Path, tmp_path: Path) -> None:
    """Linked with $ORIGIN they would not be found beside the copy."""
    running = daemon({"x": {"driver": "echo.so"}})
    environ = Path(f"/proc/{running.host_pid('x')}/environ").read_bytes().split(b"\0")
    driver = Path(running.wait_event("host_started")["driver"])
    assert any(line.startswith(b"LD_LIBRARY_PATH=") and line.endswith(str(driver.parent).encode()) for line in environ)


def test_only_so_many_are_kept(tmp_path: Path) -> None:
    driver = tmp_path / "x.so"
    taken = []
    for number in range(KEPT + 3):
        driver.write_bytes(b"%d" % number)
        taken.append(Path(take(str(driver), str(tmp_path / "s")).file))
        os.utime(taken[-1], (number, number))
    assert [file.exists() for file in taken] == [False] * 3 + [True] * KEPT
    driver.write_bytes(b"3")
    assert take(str(driver), str(tmp_path / "s")).file == str(taken[3])
    assert taken[3].stat().st_mtime > KEPT
