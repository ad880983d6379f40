# SPDX-License-Identifier: MIT
"""Control groups: which one is ours, what is written into those of hosts, and, where the kernel has them, their end."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gendriverd import cgroup
from gendriverd.cgroup import Groups, wanted
from gendriverd.errors import LaunchError
from gendriverd.schema import Sandbox

LIMITED = Sandbox(memory=1 << 30, tasks=64, cpu=1.5)


@pytest.fixture
def delegated(tmp_path: Path) -> Path:
    """As the kernel's, but that files must be there already."""
    for name in ("daemon", "host-1"):
        (tmp_path / name).mkdir()
    (tmp_path / "host-1").rmdir()
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
    (tmp_path / "cgroup.procs").write_text("")
    return tmp_path


def test_we_move_into_a_leaf_and_hosts_get_one_each(delegated: Path) -> None:
    groups = Groups(delegated)
    assert (delegated / "daemon/cgroup.procs").read_text() == f"{os.getpid()}\n"
    assert (delegated / "cgroup.subtree_control").read_text() == "+memory +pids +cpu\n"
    groups.make(LIMITED).add(4711)
    host = delegated / "host-1"
    found = {file.name: file.read_text() for file in host.iterdir()}
    assert found == {
        "memory.max": f"{1 << 30}\n",
        "memory.oom.group": "1\n",
        "pids.max": "64\n",
        "cpu.max": "150000 100000\n",
        "cgroup.procs": "4711\n",
    }
    groups.make(Sandbox(tasks=5))
    assert [file.name for file in (delegated / "host-2").iterdir()] == ["pids.max"]


def test_limits_that_its_controllers_do_not_keep_are_left_to_setrlimit(delegated: Path) -> None:
    (delegated / "cgroup.controllers").write_text("cpu\n")
    groups = Groups(delegated)
    assert groups.keeps(Sandbox(cpu=1.0))
    assert not groups.keeps(LIMITED)
    assert not groups.keeps(Sandbox(memory=1 << 30))


def test_a_group_that_is_somebody_elses_too_is_not_divided(delegated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Path.write_text

    def busy(self: Path, data: str) -> int:
        if self.name == "cgroup.subtree_control":
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        return plain(self, data)

    monkeypatch.setattr(Path, "write_text", busy)
    assert not Groups(delegated).keeps(Sandbox(cpu=1.0))


def test_a_group_that_cannot_be_limited_is_not_left_there(delegated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    groups = Groups(delegated)

    def refuse(_path: Path, _sandbox: Sandbox) -> None:
        raise LaunchError("no", permanent=False)

    monkeypatch.setattr(cgroup, "_limit", refuse)
    with pytest.raises(LaunchError):
        groups.make(LIMITED)
    assert not (delegated / "host-1").exists()


def test_the_kernels_refusal_is_one_sentence(delegated: Path) -> None:
    groups = Groups(delegated)
    (delegated / "host-1").mkdir()
    with pytest.raises(LaunchError, match=r"cannot make the control group .*host-1: File exists"):
        groups.make(LIMITED)


def test_who_was_killed_for_memory_is_known(delegated: Path) -> None:
    group = Groups(delegated).make(LIMITED)
    assert not group.out_of_memory()
    events = delegated / "host-1/memory.events"
    events.write_text("low 0\nhigh 0\noom 0\noom_kill 0\n")
    assert not group.out_of_memory()
    events.write_text("low 0\nhigh 0\nmax 9\noom 1\noom_kill 3\noom_group_kill 1\n")
    assert group.out_of_memory()


@pytest.mark.parametrize(
    ("cgroups", "mounts", "path"),
    [
        ("0::/system.slice/g.service\n", ["/ /sys/fs/cgroup"], "/sys/fs/cgroup/system.slice/g.service"),
        ("0::/a/b\n", ["/a /mnt"], "/mnt/b"),
        ("0::/\n", ["/ /sys/fs/cgroup"], "/sys/fs/cgroup"),
        ("4:memory:/x\n0::/y\n", ["/ /sys/fs/cgroup/unified"], "/sys/fs/cgroup/unified/y"),
        ("0::/a\n", ["/b /mnt"], None),
        ("4:memory:/x\n", ["/ /mnt"], None),
        ("0::/a\n", [], None),
    ],
)
def test_our_own_group_is_found(tmp_path: Path, cgroups: str, mounts: list[str], path: str | None) -> None:
    (tmp_path / "cgroup").write_text(cgroups)
    lines = ["1 0 8:1 / / rw - ext4 /dev/sda1 rw", *(f"30 24 0:26 {mount} rw - cgroup2 none rw" for mount in mounts)]
    (tmp_path / "mountinfo").write_text("\n".join(lines))
    found = cgroup._own(tmp_path)
    assert found == (None if path is None else Path(path))


def test_without_limits_no_group_is_wanted() -> None:
    assert wanted(Sandbox()) == []
    assert wanted(LIMITED) == ["memory", "tasks", "cpu"]


@pytest.fixture
def kernels() -> Iterator[Path]:
    """A group of the kernel's, for this test's processes."""
    own = cgroup._own()
    if own is None or not os.access(own, os.W_OK):
        pytest.skip("no cgroup v2 that this user may write to")
    path = own / f"gendriverd-test-{os.getpid()}"
    try:
        path.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made: {error.strerror}")
    yield path
    for each in (path / "daemon", path):
        each.rmdir()


def test_a_group_of_the_kernels_ends_all_that_is_in_it(kernels: Path) -> None:
    code = (
        "import subprocess, sys; from pathlib import Path\n"
        "from gendriverd.cgroup import Groups; from gendriverd.schema import Sandbox\n"
        "group = Groups(Path(sys.argv[1])).make(Sandbox())\n"
        "child = subprocess.Popen(['sleep', '1000'], start_new_session=True); group.add(child.pid)\n"
        "assert str(child.pid) in Path(sys.argv[1], 'host-1/cgroup.procs').read_text()\n"
        "group.kill(); print(child.wait(30)); group.remove(); assert not Path(sys.argv[1], 'host-1').exists()"
    )
    done = subprocess.run([sys.executable, "-c", code, kernels], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == str(-signal.SIGKILL)


def test_what_we_have_started_moves_along_and_nobody_else(kernels: Path) -> None:
    code = (
        "import os, subprocess, sys; from pathlib import Path; from gendriverd.cgroup import Groups\n"
        "path = Path(sys.argv[1]); (path / 'cgroup.procs').write_text(str(os.getpid()))\n"
        "child = subprocess.Popen(['sleep', '1000']); Groups(path)\n"
        "moved = {int(pid) for pid in (path / 'daemon/cgroup.procs').read_text().split()}\n"
        "child.kill(); child.wait(); print(moved == {os.getpid(), child.pid})"
    )
    with subprocess.Popen(["sleep", "1000"]) as stranger:
        (kernels / "cgroup.procs").write_text(str(stranger.pid))
        command = [sys.executable, "-c", code, str(kernels)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        left = (kernels / "cgroup.procs").read_text().split()
        stranger.kill()
    assert done.stdout.strip() == "True", done.stderr
    assert left == [str(stranger.pid)]


def test_who_descends_from_whom() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as child:
        assert cgroup._descends_from(os.getppid(), child.pid)
        assert not cgroup._descends_from(child.pid, os.getpid())
    assert not cgroup._descends_from(os.getpid(), child.pid)
