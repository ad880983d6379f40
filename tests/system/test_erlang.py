# SPDX-License-Identifier: MIT
"""The Erlang suites that need a real daemon, run by rebar3 against one that is started here."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from running_daemon import RunningDaemon

ROOT = Path(__file__).resolve().parent.parent.parent
SUITES = [ROOT / "erlang/test/system_SUITE.erl", ROOT / "tests/system/examples_SUITE.erl"]
DEADLINE = 240

pytestmark = [
    pytest.mark.skipif(shutil.which("rebar3") is None, reason="rebar3 is not installed"),
    pytest.mark.timeout(DEADLINE + 60),
]


def instances(drivers: Path, directory: Path) -> dict[str, dict[str, object]]:
    """What the suites call: by name, these."""
    wanted: dict[str, dict[str, object]] = {
        "sum": {"driver": "sum.so"},
        "echo": {"driver": "echo.so"},
        "test": {"driver": "sum.so", "threads": 1},
        "test4": {"driver": "sum.so", "threads": 4},
        "zlib": {"driver": "zlib.so"},
        "sqlite": {"driver": "sqlite.so", "settings": {"database": directory / "examples.db"}},
    }
    return {name: keys for name, keys in wanted.items() if (drivers / str(keys["driver"])).exists()}


@pytest.mark.parametrize("suite", SUITES, ids=lambda path: path.stem)
def test_suite_passes_against_a_real_daemon(
    daemon: Callable[..., RunningDaemon], drivers: Path, tmp_path: Path, suite: Path
) -> None:
    running = daemon(instances(drivers, tmp_path))
    command = ["rebar3", "ct", "--suite", os.path.relpath(suite, ROOT / "erlang"), "--logdir", str(tmp_path / "logs")]
    done = subprocess.run(
        command,
        cwd=ROOT / "erlang",
        env={**os.environ, "GENDRIVERD_URL": running.tcp_url, "GENDRIVERD_UNIX_URL": running.unix_url},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    print(done.stdout[-4000:])
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
