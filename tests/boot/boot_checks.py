# SPDX-License-Identifier: MIT
"""What is checked inside the booted system, in this order: a line of `ok`, `failed` or `skipped` for each.

Runs as root, on the system's own Python, from a service (boot_root.py), with the shipped configuration and drivers of
the tests beside it. Never sleeps for a thing to happen: it asks until it has, and not for ever.
It is long as it is one sequence: what one check leaves is where the next begins.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from boot_asks import (
    GATES,
    SECONDS,
    UNIT,
    UNIX,
    Skip,
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
    status_of,
    systemctl,
    tried,
    wait_until,
)

ETC = Path("/etc/gendriverd")
STATE = Path("/var/lib/gendriverd")
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
KEYS = """
[daemon]
auth = "hmac"
[keys.anna]
file = "anna.key"
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
    wait_until("active", lambda: show("ActiveState") == "active")
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


def the_daemon_and_its_hosts_are_without_privileges() -> None:
    for process in (show("MainPID"), answer("confined", "pid").strip("{}ok,")):
        status = status_of(process)
        assert status["NoNewPrivs"] == "1", status
        assert status["Seccomp"] == "2", status
        assert {int(status[key], 16) for key in ("CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}, status
        assert Path(f"/proc/{process}").stat().st_uid == Path("/run/gendriverd").stat().st_uid != 0


def a_driver_writes_to_its_state_and_nowhere_else() -> None:
    assert tried("write", f'<<"{STATE}/mine">>') == 0
    for place in ("/usr/local", "/etc", "/var", "/srv"):
        open_to_all = Path(place, "open_to_all")
        open_to_all.mkdir()
        open_to_all.chmod(0o777)
        assert tried("write", f'<<"{open_to_all}/mine">>') in {errno.EROFS, errno.EACCES}, place


def a_driver_sees_neither_homes_nor_devices() -> None:
    Path("/home/secret").write_text("x")
    assert tried("read", '<<"/home/secret">>') in {errno.EACCES, errno.ENOENT, errno.EPERM}
    assert tried("read", '<<"/dev/zero">>') == 0
    os.mknod("/dev/boot-device", 0o660 | 0o020000, os.makedev(1, 5))
    shutil.chown("/dev/boot-device", group="dialout")
    assert tried("read", '<<"/dev/boot-device">>') == errno.ENOENT


def memory_is_not_both_writable_and_executable() -> None:
    assert tried("executable") in {errno.EPERM, errno.EACCES}


def only_internet_and_unix_sockets_are_made() -> None:
    assert tried("socket", str(int(socket.AF_UNIX))) == 0
    assert tried("socket", str(int(socket.AF_INET))) == 0
    assert tried("socket", str(int(socket.AF_NETLINK))) == errno.EAFNOSUPPORT


def a_host_may_confine_itself_further() -> None:
    """ENOSYS, EOPNOTSUPP: the kernel has no Landlock; but nobody forbids to ask."""
    found = tried("landlock")
    assert found in {0, errno.ENOSYS, errno.EOPNOTSUPP}, errno.errorcode[found]


def room_for_ten_thousand_connections_and_no_core_of_the_daemon() -> None:
    limits = Path(f"/proc/{show('MainPID')}/limits").read_text()
    assert re.search(r"Max core file size +0 +", limits), limits
    most = re.search(r"Max open files +\d+ +(\d+)", Path("/proc/1/limits").read_text())
    assert most is not None
    assert re.search(rf"Max open files +{min(int(most[1]), 32768)} ", limits), limits


def what_all_hosts_may_have_together_is_bounded() -> None:
    if not Path("/sys/fs/cgroup/cgroup.controllers").exists():
        raise Skip("the control groups of this kernel are of version 1, which systemd does not limit in a container")
    group = Path("/sys/fs/cgroup") / show("ControlGroup").lstrip("/")
    assert (group / "pids.max").read_text().strip() == "4096"


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
    wait_until("the end", lambda: show("ActiveState") == "inactive")
    assert (asking.returncode, said.strip()) == (0, "ok"), said
    assert (show("Result"), show("ExecMainStatus")) == ("success", "0")


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


def with_its_socket_the_service_needs_no_network() -> None:
    drop_in("socket")
    assert Path(f"/proc/{show('MainPID')}/ns/net").stat().st_ino != Path("/proc/self/ns/net").stat().st_ino
    assert tried("socket", str(int(socket.AF_INET))) == errno.EAFNOSUPPORT
    assert answer("echo", "echo", "1", url=UNIX) == "{ok,1}"
    systemctl("reload", UNIT)
    no_drop_ins()


def a_driver_may_compile_with_the_drop_in_for_it() -> None:
    drop_in("jit")
    assert tried("executable") == 0
    no_drop_ins()


def a_driver_may_use_a_device_with_the_drop_in_for_it() -> None:
    shipped = Path("/opt/drop-ins/devices.conf").read_text()
    drop_in("devices", f"{shipped}\nDeviceAllow=/dev/boot-device rw\nSupplementaryGroups=dialout\n")
    assert tried("read", '<<"/dev/boot-device">>') == 0
    no_drop_ins()


def the_service_starts_with_what_limits_need() -> None:
    drop_in("limits")
    serves()
    assert show("Delegate") == "yes"
    no_drop_ins()


def a_key_may_be_a_credential() -> None:
    secret = ETC / "secrets/anna.key"
    secret.parent.mkdir(mode=0o700)
    secret.write_text("a secret of more than thirty-two bytes")
    secret.chmod(0o600)
    (ETC / "conf.d/keys.toml").write_text(KEYS)
    shipped = Path("/opt/drop-ins/credentials.conf").read_text()
    drop_in("credentials", shipped.replace("# LoadCredential=anna.key", "LoadCredential=anna.key"))
    assert answer("--key-file", f"anna={secret}", "sum", "sum", "[1]") == "{ok,1.0}"
    refused = call("sum", "sum", "[1]")
    assert (refused.returncode, "key_needed" in refused.stderr) == (69, True), refused
    assert tried_with_key(secret, f'<<"{secret}">>') in {errno.EACCES, errno.EPERM}
    (ETC / "conf.d/keys.toml").unlink()
    no_drop_ins()
    serves()


def tried_with_key(key: Path, term: str) -> int:
    return int(answer("--key-file", f"anna={key}", "confined", "read", term).strip("{}ok,"))


CHECKS: list[Callable[[], None]] = [
    active_only_when_it_is_ready,
    the_status_line_is_systemds,
    calls_over_tcp_and_a_unix_socket,
    the_daemon_and_its_hosts_are_without_privileges,
    a_driver_writes_to_its_state_and_nowhere_else,
    a_driver_sees_neither_homes_nor_devices,
    memory_is_not_both_writable_and_executable,
    only_internet_and_unix_sockets_are_made,
    a_host_may_confine_itself_further,
    room_for_ten_thousand_connections_and_no_core_of_the_daemon,
    what_all_hosts_may_have_together_is_bounded,
    a_reload_takes_a_changed_driver,
    a_reload_of_a_broken_configuration_fails_and_the_old_one_serves,
    a_reload_that_the_daemon_was_told_by_a_signal_is_seen,
    a_host_crashes_and_the_service_goes_on,
    the_journal_has_events_identifier_and_priorities,
    a_daemon_that_stands_still_is_killed_by_the_watchdog_and_comes_back,
    a_daemon_that_goes_round_is_left_alone,
    a_daemon_that_is_killed_comes_back,
    a_wrong_configuration_is_not_tried_again,
    a_stop_answers_what_runs,
    a_client_starts_the_service_by_its_socket,
    a_client_that_comes_while_the_daemon_restarts_waits,
    with_its_socket_the_service_needs_no_network,
    a_driver_may_compile_with_the_drop_in_for_it,
    a_driver_may_use_a_device_with_the_drop_in_for_it,
    the_service_starts_with_what_limits_need,
    a_key_may_be_a_credential,
]


def verdict(check: Callable[[], None]) -> str:
    try:
        check()
    except Skip as why:
        return f"skipped {check.__name__} {why}"
    except Exception:  # noqa: BLE001 (the others are checked too)
        return f"failed {check.__name__} " + traceback.format_exc().replace("\n", "\\n")
    return f"ok {check.__name__} "


def main(results: Path) -> None:
    with (results / "said").open("w") as said:
        for check in CHECKS:
            print(verdict(check), file=said, flush=True)
    with (results / "journal").open("w") as journal:
        subprocess.run(["journalctl", "--no-pager"], stdout=journal, check=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
