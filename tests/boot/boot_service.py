# SPDX-License-Identifier: MIT
"""The service's life under systemd: ready, reloaded, crashed, killed, stopped, started by its socket."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

from boot_asks import (
    ETC,
    GATES,
    SECONDS,
    STATE,
    UNIT,
    UNIX,
    answer,
    call,
    drop_in,
    lines,
    no_drop_ins,
    opened_gate,
    restart,
    run,
    serves,
    show,
    systemctl,
    wait_until,
)

CONFIGURATION = f"""
[daemon]
driver_path = ["/opt/drivers"]
[instances.slow]
sandbox.read = ["/srv/gates"]
driver = "slowinit.so"
settings = {{ fifo = "{GATES}/slow" }}
[instances.gate]
sandbox.read = ["/srv/gates"]
driver = "gate.so"
settings = {{ gate = "{GATES}/gate" }}
[instances.crash]
driver = "crash.so"
[instances.confined]
sandbox.profile = "none"  # what the unit forbids is looked at
driver = "confined.so"
[instances.changing]
driver = "changing.so"
"""


def prepare() -> None:
    """What an operator has done before the first start."""
    systemctl("daemon-reload")
    (ETC / "conf.d").mkdir(exist_ok=True)
    (ETC / "conf.d/boot.toml").write_text(CONFIGURATION)
    shutil.copy("/opt/drivers/gate.so", "/opt/drivers/changing.so")
    GATES.mkdir()
    for name in ("slow", "gate"):
        os.mkfifo(GATES / name)
        shutil.chown(GATES / name, "gendriverd")


def active_only_when_it_is_ready() -> None:
    prepare()
    systemctl("start", "--no-block", UNIT)
    wait_until("listening", lambda: len(lines(event="listening")) == 2)
    serves()
    assert show("ActiveState") == "activating", "the driver `slow` is not up yet"
    os.close(opened_gate("slow"))
    systemctl("start", UNIT)  # waits for the start that is under way
    assert show("ActiveState") == "active"
    (ETC / "conf.d/boot.toml").write_text(
        CONFIGURATION.replace("[instances.slow]", "[instances.slow]\nenabled = false")
    )
    systemctl("reload", UNIT)


def the_status_line_is_systemds() -> None:
    text = show("StatusText")
    assert re.fullmatch(r"(\d+) of \1 instances running", text), text


def calls_over_tcp_and_a_unix_socket() -> None:
    serves()
    assert answer("echo", "echo", "{a,[1]}", url=UNIX) == "{ok,{a,[1]}}"


def a_reload_takes_a_changed_driver() -> None:
    shutil.copy("/opt/drivers/confined.so", "/opt/drivers/new.so")
    Path("/opt/drivers/new.so").replace("/opt/drivers/changing.so")
    before = show("MainPID")
    systemctl("reload", UNIT)
    assert "ok" in answer("changing", "landlock") or answer("changing", "landlock").isdecimal()
    assert show("MainPID") == before
    assert show("ActiveState") == "active"


def a_reload_of_a_broken_configuration_fails_and_the_old_one_serves() -> None:
    broken = ETC / "conf.d/broken.toml"
    broken.write_text("[instances.sum]\nthreads = 0\n")
    done = run("systemctl", "reload", UNIT)
    broken.unlink()
    assert done.returncode != 0
    assert show("ActiveState") == "active"
    assert lines(event="reload_failed")
    serves()


def a_reload_that_the_daemon_was_told_by_a_signal_is_seen() -> None:
    """SIGHUP: systemd hears of it from the daemon alone, and that it is over."""
    count = len(lines(event="reloaded"))
    systemctl("kill", "--kill-whom=main", "-s", "HUP", UNIT)
    wait_until("the reload", lambda: len(lines(event="reloaded")) > count)
    wait_until("active", lambda: show("ActiveState") == "active")
    wait_until("its status", lambda: show("StatusText").endswith("instances running"))


def a_host_crashes_and_the_service_goes_on() -> None:
    before = show("MainPID")
    done = call("crash", "segv")
    assert (done.returncode, "crashed" in done.stdout + done.stderr) == (70, True), done
    wait_until("its report", lambda: any((STATE / "reports").glob("*.json")))
    assert show("ActiveState") == "active"
    assert (show("MainPID"), show("NRestarts")) == (before, "0")
    assert answer("crash", "pid").startswith("{ok,")
    serves()


def the_journal_has_events_identifier_and_priorities() -> None:
    ready = lines(event="ready")[0]["of"]
    assert ready["_SYSTEMD_UNIT"] == UNIT
    assert ready["SYSLOG_IDENTIFIER"] == "gendriverd"
    assert ready["PRIORITY"] == "6"
    died = lines(event="host_exited", instance="crash")[0]
    assert died["signal"] == "SIGSEGV"
    assert died["of"]["PRIORITY"] == "4"
    assert lines(event="reload_failed")[0]["of"]["PRIORITY"] == "3"


def a_daemon_that_stands_still_is_killed_by_the_watchdog_and_comes_back() -> None:
    drop_in("watchdog", "[Service]\nWatchdogSec=5\n")
    before = show("MainPID")
    host = answer("confined", "pid").strip("{}ok,")
    os.kill(int(before), signal.SIGSTOP)
    wait_until("another daemon", lambda: show("MainPID") not in {before, "0"} and show("ActiveState") == "active")
    assert show("NRestarts") == "1"
    journal = run("journalctl", "--no-pager", "-u", UNIT, "-o", "cat").stdout
    assert "Failed with result 'watchdog'" in journal
    assert "Fatal Python error: Aborted" in journal, "where it hung"
    assert not Path(f"/proc/{host}").exists(), "its host outlived it"
    serves()
    no_drop_ins()


def a_daemon_that_goes_round_is_left_alone() -> None:
    drop_in("watchdog", "[Service]\nWatchdogSec=5\n")
    before, began = show("MainPID"), time.monotonic()
    while time.monotonic() < began + 11:
        serves()
    assert (show("MainPID"), show("NRestarts")) == (before, "0")
    no_drop_ins()


def a_daemon_that_is_killed_comes_back() -> None:
    before = show("MainPID")
    os.kill(int(before), signal.SIGKILL)
    wait_until("another daemon", lambda: show("MainPID") not in {before, "0"} and show("ActiveState") == "active")
    assert show("NRestarts") == "1"
    serves()


def a_wrong_configuration_is_not_tried_again() -> None:
    broken = ETC / "conf.d/broken.toml"
    broken.write_text("[instances.sum]\nthreads = 0\n")
    assert run("systemctl", "restart", UNIT).returncode != 0
    broken.unlink()
    assert (show("ActiveState"), show("ExecMainStatus"), show("NRestarts")) == ("failed", "78", "0")
    restart()
    serves()


def a_stop_answers_what_runs() -> None:
    asking = subprocess.Popen(
        ["gendriverd", "call", "--timeout", "30", "gate", "wait"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    gate = opened_gate("gate")  # the call runs
    systemctl("stop", "--no-block", UNIT)
    wait_until("the stop", lambda: show("ActiveState") == "deactivating")
    os.write(gate, b"x")
    os.close(gate)
    said, _ = asking.communicate(timeout=SECONDS)
    systemctl("stop", UNIT)  # waits for the stop that is under way
    assert (asking.returncode, said.strip()) == (0, "ok"), said
    assert (show("ActiveState"), show("Result"), show("ExecMainStatus")) == ("inactive", "success", "0")


def a_client_starts_the_service_by_its_socket() -> None:
    systemctl("start", "gendriverd.socket")
    assert show("ActiveState") == "inactive"
    serves()
    wait_until("active", lambda: show("ActiveState") == "active")
    assert answer("echo", "echo", "1", url=UNIX) == "{ok,1}"


def a_client_that_comes_while_the_daemon_restarts_waits() -> None:
    before = show("MainPID")
    systemctl("restart", "--no-block", UNIT)
    wait_until("the old one's end", lambda: show("MainPID") != before)
    serves()
