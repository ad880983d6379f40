# SPDX-License-Identifier: MIT
"""The service under a systemd that really boots, from a root of its own: what each check in it found.

`make boot` sets GENDRIVERD_BOOT=1: then a machine that cannot boot one is a failure, and else these tests are skipped.
"""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

import boot_checks
import boot_root

pytestmark = pytest.mark.timeout(boot_root.SECONDS + 600)
BOOT_SECONDS = 400.0


@pytest.fixture(scope="session")
def found() -> dict[str, tuple[str, str]]:
    """Of each check: ok, failed or skipped, and why."""
    try:
        root = boot_root.make_root()
    except boot_root.NoBoot as why:
        if os.environ.get("GENDRIVERD_BOOT") == "1":
            pytest.fail(str(why))
        pytest.skip(str(why))
    results = boot_root.PLACE / "results"
    shutil.rmtree(results, ignore_errors=True)
    results.mkdir()
    try:
        console = boot_root.boot(root, results, BOOT_SECONDS)
    except subprocess.TimeoutExpired as late:
        console = f"{late.output}\n(not off within {BOOT_SECONDS:g} s)"
    said = results / "said"
    if not said.exists():
        pytest.fail(f"no check ran. The console:\n{console}")
    lines = [line.split(" ", 2) for line in said.read_text().splitlines()]
    return {name: (verdict, why) for verdict, name, why in lines}


@pytest.mark.parametrize("name", [check.__name__ for check in boot_checks.CHECKS])
def test_under_systemd(found: dict[str, tuple[str, str]], name: str) -> None:
    verdict, why = found.get(name, ("failed", "it was not reached"))
    if verdict == "skipped":
        pytest.skip(why)
    assert verdict == "ok", why.replace("\\n", "\n")
