# SPDX-License-Identifier: MIT
"""How exposed the service is, as systemd sees it: never more than is written here, alone and with each drop-in."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

UNITS = Path(__file__).resolve().parent.parent.parent / "deploy/systemd"
DROP_INS = UNITS / "drop-ins"

# Drop-ins, and the most that they may bring the service to: 0.0 (nothing is open) to 10.0.
MOST = {
    (): 0.9,
    ("credentials",): 0.9,
    ("jit",): 0.9,
    ("devices",): 1.1,
    ("limits",): 1.1,
    ("jit", "devices"): 1.1,
    ("jit", "devices", "limits"): 1.3,
    ("socket",): 0.2,
    ("socket", "jit"): 0.2,
}

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze, of the package systemd, is not on this machine"
)


def unit(directory: Path, drop_ins: tuple[str, ...]) -> Path:
    """A copy of the service with these drop-ins; its program is one that is there."""
    text = (UNITS / "gendriverd.service").read_text()
    copied = directory / "gendriverd.service"
    copied.write_text(text.replace("/usr/local/bin/gendriverd", "/bin/true"))
    shutil.copy(UNITS / "gendriverd.socket", directory)
    (directory / "gendriverd.service.d").mkdir()
    for name in drop_ins:
        shutil.copy(DROP_INS / f"{name}.conf", directory / "gendriverd.service.d")
    return copied


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, timeout=50, check=False)


@needs_systemd
@pytest.mark.parametrize("drop_ins", MOST, ids=lambda names: "+".join(names) or "alone")
def test_the_service_is_no_more_exposed_than_it_may_be(tmp_path: Path, drop_ins: tuple[str, ...]) -> None:
    most = MOST[drop_ins]
    threshold = f"--threshold={round(most * 10)}"
    done = analyze("security", "--offline=true", "--no-pager", threshold, unit(tmp_path, drop_ins))
    assert done.returncode == 0, f"more than {most}:\n{done.stdout}{done.stderr}"
    assert "Overall exposure level for gendriverd.service" in done.stdout


@needs_systemd
def test_a_service_without_all_that_is_exposed(tmp_path: Path) -> None:
    """That the threshold is one."""
    (tmp_path / "bare.service").write_text("[Service]\nExecStart=/bin/true\n")
    assert analyze("security", "--offline=true", "--threshold=11", tmp_path / "bare.service").returncode != 0


@needs_systemd
@pytest.mark.parametrize("drop_ins", [(), *((path.stem,) for path in sorted(DROP_INS.glob("*.conf")))], ids=str)
def test_systemd_understands_every_line(tmp_path: Path, drop_ins: tuple[str, ...]) -> None:
    done = analyze("verify", "--man=no", unit(tmp_path, drop_ins))
    about = [line for line in (done.stdout + done.stderr).splitlines() if "gendriverd" in line]
    assert (about, done.returncode) == ([], 0)


def test_every_drop_in_has_its_bound() -> None:
    assert {name for names in MOST for name in names} == {path.stem for path in DROP_INS.glob("*.conf")}
