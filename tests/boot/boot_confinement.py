# SPDX-License-Identifier: MIT
"""What the unit forbids its daemon and hosts, and what its drop-ins allow."""

from __future__ import annotations

import errno
import os
import re
import shutil
import socket
from pathlib import Path

from boot_asks import (
    ETC,
    STATE,
    UNIT,
    UNIX,
    Skip,
    answer,
    call,
    drop_in,
    no_drop_ins,
    serves,
    show,
    status_of,
    systemctl,
    tried,
)

KEYS = """
[daemon]
auth = "hmac"
[keys.anna]
file = "anna.key"
"""


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
