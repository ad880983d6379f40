# SPDX-License-Identifier: MIT
"""The client as Elixir has it, against a real daemon: its own tests, and applications that depend on it with Mix."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from running_daemon import RunningDaemon
from tests.system.conftest import ROOT

SOURCES = ROOT / "erlang/gen_driver_tcp"
DEADLINE = 240

pytestmark = pytest.mark.timeout(DEADLINE + 60)


@pytest.fixture
def mix(tmp_path: Path) -> Callable[..., str]:
    """Runs `mix`, which must end well, without a home, hex or a network; what it says."""
    found = shutil.which("mix")
    if found is None:
        pytest.skip("mix is not installed: make setup-test installs Elixir")
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("MIX_", "HEX_", "GIT_"))},
        "HEX_OFFLINE": "1",
        "HOME": str(tmp_path),
        "LC_ALL": "C.UTF-8",
        "MIX_HOME": str(tmp_path / "mix"),
        "MIX_REBAR3": shutil.which("rebar3") or "",
    }

    def run(*arguments: str, cwd: Path, **more: str) -> str:
        done = subprocess.run(
            [found, *arguments],
            cwd=cwd,
            env={**env, **more},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
        print(done.stdout[-6000:], done.stderr[-6000:])
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done.stdout

    return run


@pytest.fixture
def url(daemon: Callable[..., RunningDaemon], drivers: Path) -> str:
    """Of a daemon with the instances that are called."""
    streams = drivers / "test/streams.so"
    return daemon(
        {
            "sum": {"driver": "sum.so"},
            "echo": {"driver": "echo.so"},
            "streams": {"driver": streams, "threads": 8},
            "crash": {"driver": streams, "restart": {"first": "1ms"}},
        }
    ).tcp_url


def test_its_own_tests_pass_and_nothing_warns(mix: Callable[..., str], url: str, tmp_path: Path) -> None:
    copy = tmp_path / "gen_driver_tcp"
    shutil.copytree(SOURCES, copy, ignore=shutil.ignore_patterns("_build", "deps"))
    mix("format", "--check-formatted", cwd=copy)
    mix("compile", "--warnings-as-errors", cwd=copy, MIX_ENV="test")
    said = mix("test", "--warnings-as-errors", cwd=copy, MIX_ENV="test", GENDRIVERD_URL=url)
    result = re.search(r"^(\d+) tests, 0 failures$", said, re.MULTILINE)
    assert result is not None, said
    assert int(result[1]) > 0


PROJECT = """defmodule Sums.MixProject do
  use Mix.Project

  def project, do: [app: :sums, version: "0.1.0", deps: [{{:gen_driver_tcp, {dependency}}}]]
  def application, do: [mod: {{Sums.Application, []}}]
end
"""

APPLICATION = """defmodule Sums.Application do
  use Application

  def start(_type, _args) do
    url = System.fetch_env!("GENDRIVERD_URL")

    children = [
      {GenDriver, name: Sum, connect: url, instance: "sum"},
      {GenDriver.Pool, name: Sums, instance: "sum", endpoints: [url], size: 2}
    ]

    Supervisor.start_link(children, strategy: :one_for_one)
  end
end
"""

SCRIPT = """
10.0 = GenDriver.call!(Sum, :sum, [1, 2, 3, 4], 30_000)
{:ok, 10.0} = GenServer.call(Sum, {:port, 1, [1, 2, 3, 4]}, 30_000)
10.0 = GenDriver.Pool.call!(Sums, :sum, [1, 2, 3, 4], key: {:user, 7}, timeout: 30_000)
10.0 = GenDriver.Cluster.call!("sum", :sum, [1, 2, 3, 4], 30_000)

try do
  GenDriver.call!(Sum, :smu)
rescue
  error in GenDriver.Error -> IO.puts("#{error.source}: #{Exception.message(error)}")
end
"""


def application(directory: Path, dependency: str) -> Path:
    """A new Mix application with a client and a pool under its supervisor, and a script that calls them."""
    (directory / "lib").mkdir(parents=True)
    (directory / "mix.exs").write_text(PROJECT.format(dependency=dependency), encoding="utf-8")
    (directory / "lib/application.ex").write_text(APPLICATION, encoding="utf-8")
    (directory / "calls.exs").write_text(SCRIPT, encoding="utf-8")
    return directory


def files(directory: Path) -> set[Path]:
    return set(directory.rglob("*"))


def test_an_application_has_it_by_path(mix: Callable[..., str], url: str, tmp_path: Path) -> None:
    before = files(SOURCES)
    app = application(tmp_path / "sums", f'path: "{SOURCES}"')
    said = mix("run", "calls.exs", cwd=app, GENDRIVERD_URL=url)
    assert said.splitlines()[-1] == 'client: the driver declares no command "smu"'
    assert files(SOURCES) == before


def test_an_application_has_it_from_a_repository(mix: Callable[..., str], url: str, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    cloned = subprocess.run(
        ["git", "clone", "--quiet", "--no-hardlinks", ROOT, clone], capture_output=True, text=True, check=False
    )
    if cloned.returncode != 0:
        pytest.skip(f"this is no repository to clone: {cloned.stderr.strip()}")
    app = application(tmp_path / "sums", f'git: "file://{clone}", subdir: "erlang/gen_driver_tcp"')
    mix("deps.get", cwd=app)
    said = mix("run", "calls.exs", cwd=app, GENDRIVERD_URL=url)
    assert said.splitlines()[-1] == 'client: the driver declares no command "smu"'
