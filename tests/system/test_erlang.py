# SPDX-License-Identifier: MIT
"""The Erlang suites that need a real daemon, run by Common Test against one that is started here."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from running_daemon import RunningDaemon

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
DEADLINE = 240

pytestmark = [
    pytest.mark.skipif(shutil.which("rebar3") is None, reason="rebar3 is not installed"),
    pytest.mark.timeout(DEADLINE + 60),
]


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Where the client's modules, and the originals' example, are compiled to."""
    subprocess.run(["rebar3", "compile"], cwd=ROOT / "erlang", check=True, capture_output=True)
    ebin = tmp_path_factory.mktemp("ebin")
    subprocess.run(["erlc", "-o", ebin, ROOT / "examples/sum/gen_driver_test.erl"], check=True)
    return [ebin, *(ROOT / "erlang/_build/default/lib").glob("*/ebin")]


def instances(drivers: Path, directory: Path) -> dict[str, dict[str, object]]:
    """What the suites call: by name, these."""
    wanted: dict[str, dict[str, object]] = {
        "sum": {"driver": "sum.so"},
        "echo": {"driver": "echo.so"},
        "tight": {"driver": "echo.so", "limits": {"depth": 5, "terms": 42, "bignum": 9}},
        "test": {"driver": "sum.so", "threads": 1},
        "test4": {"driver": "sum.so", "threads": 4},
        "zlib": {"driver": "zlib.so"},
        "sqlite": {"driver": "sqlite.so", "settings": {"database": directory / "examples.db"}},
    }
    return {name: keys for name, keys in wanted.items() if (drivers / str(keys["driver"])).exists()}


@pytest.mark.parametrize("suite", ["system_SUITE", "examples_SUITE"])
def test_suite_passes_against_a_real_daemon(
    daemon: Callable[..., RunningDaemon], drivers: Path, tmp_path: Path, code: list[Path], suite: str
) -> None:
    running = daemon(instances(drivers, tmp_path))
    env = {"GENDRIVERD_URL": running.tcp_url, "GENDRIVERD_UNIX_URL": running.unix_url}
    passed, of = run_suite(suite, code, tmp_path, env)
    assert passed == of or not all((drivers / f"{name}.so").exists() for name in ("zlib", "sqlite"))


def test_a_daemon_with_keys_serves_the_erlang_client_that_proves_one(
    daemon: Callable[..., RunningDaemon], tmp_path: Path, code: list[Path]
) -> None:
    key = tmp_path / "anna.key"
    key.write_bytes(b"k" * 48 + b"\n")
    key.chmod(0o600)
    wanted = {"sum": {"driver": "sum.so"}, "echo": {"driver": "echo.so"}}
    running = daemon(wanted, settings={"auth": "hmac"}, keys={"anna": {"file": key, "instances": ["sum"]}})
    env = {
        "GENDRIVERD_URL": running.tcp_url,
        "GENDRIVERD_UNIX_URL": running.unix_url,
        "GENDRIVERD_OPEN_URL": daemon(wanted).tcp_url,
    }
    assert run_suite("keys_SUITE", code, tmp_path, env) == (5, 5)


def run_suite(suite: str, code: list[Path], tmp_path: Path, env: dict[str, str]) -> tuple[int, int]:
    """How many cases passed, of how many; none may fail."""
    logs = tmp_path / "logs"
    logs.mkdir()
    # Not ct_run: it makes a distributed node of a fixed name, of which a machine can have one.
    run = (
        f'{{_, Failed, _}} = ct:run_test([{{dir, "{HERE}"}}, {{suite, {suite}}}, {{logdir, "{logs}"}}]), halt(Failed).'
    )
    command: list[str | Path] = ["erl", "-noshell", "-pa", *code, "-eval", run]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    print(done.stdout[-6000:])
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    result = re.search(r"TEST COMPLETE, (\d+) ok, 0 failed of (\d+) test cases", done.stdout)
    assert result is not None, done.stdout
    assert int(result[1]) > 0
    return int(result[1]), int(result[2])
