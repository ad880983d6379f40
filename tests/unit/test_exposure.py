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
    (): 1.0,
    ("credentials",): 1.0,
    ("jit",): 1.1,
    ("devices",): 1.2,
    ("limits",): 1.2,
    ("jit", "devices"): 1.2,
    ("jit", "devices", "limits"): 1.4,
    ("socket",): 0.3,
    ("socket", "jit"): 0.3,
}

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze, of the package systemd, is not on this machine"
)


def analyze(directory: Path, *arguments: str, drop_ins: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Of a copy of the service with these drop-ins."""
    unit = directory / "gendriverd.service"
    shutil.copy(UNITS / "gendriverd.service", unit)
    added = directory / "gendriverd.service.d"
    added.mkdir()
    for name in drop_ins:
        shutil.copy(DROP_INS / f"{name}.conf", added)
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", *arguments, str(unit)]
    return subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)


@needs_systemd
@pytest.mark.parametrize("drop_ins", MOST, ids=lambda names: "+".join(names) or "alone")
def test_the_service_is_no_more_exposed_than_it_may_be(tmp_path: Path, drop_ins: tuple[str, ...]) -> None:
    most = MOST[drop_ins]
    done = analyze(tmp_path, f"--threshold={round(most * 10)}", drop_ins=drop_ins)
    assert done.returncode == 0, f"more than {most}:\n{done.stdout}{done.stderr}"
    assert "Overall exposure level for gendriverd.service" in done.stdout


@needs_systemd
def test_a_service_without_all_that_is_exposed(tmp_path: Path) -> None:
    """That the threshold is one."""
    (tmp_path / "bare.service").write_text("[Service]\nExecStart=/bin/true\n")
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=11", str(tmp_path / "bare.service")]
    assert subprocess.run(command, capture_output=True, timeout=50, check=False).returncode != 0


def test_every_drop_in_has_its_bound() -> None:
    assert {name for names in MOST for name in names} == {path.stem for path in DROP_INS.glob("*.conf")}
