# SPDX-License-Identifier: MIT
"""What libraries do that mean no harm goes on in a sandbox: under `strict` what computes, under `default` all of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from gendriverd.client import connect
from gendriverd.etf import Atom
from running_daemon import RunningDaemon
from test_daemon import driver_path

Daemon = Callable[..., RunningDaemon]
OK = Atom("ok")
COMPUTES = ["threads", "openmp", "beside", "places", "clocks", "map_listed", "descriptors", "options"]
ALL = {"strict": COMPUTES, "default": [*COMPUTES, "programs", "names", "temporary"]}

pytestmark = pytest.mark.skipif("GENDRIVERD_SANITIZER" in os.environ, reason="sanitizers need what strict refuses")


@pytest.mark.parametrize("profile", ["strict", "default"])
def test_what_means_no_harm_goes_on(daemon: Daemon, tmp_path: Path, profile: str) -> None:
    listed = tmp_path / "listed"
    listed.write_text("listed\n")
    listed.chmod(0o644)
    sandbox = {"profile": profile, "read": [listed]}
    running = daemon({"honest": {"driver": driver_path("honest"), "settings": {"listed": listed}, "sandbox": sandbox}})
    with connect(running.tcp_url, "honest") as client:
        assert {what: client.call(what) for what in ALL[profile]} == dict.fromkeys(ALL[profile], True)


def test_real_libraries_run_under_strict(daemon: Daemon, drivers: Path, tmp_path: Path) -> None:
    strict = {"profile": "strict"}
    if not all((drivers / f"{name}.so").exists() for name in ("zlib", "sqlite")):
        pytest.skip("no zlib1g-dev or libsqlite3-dev here")
    own = tmp_path / "own"
    own.mkdir()
    running = daemon(
        {
            "zlib": {"driver": "zlib.so", "sandbox": strict},
            "sqlite": {
                "driver": "sqlite.so",
                "settings": {"database": own / "x.db"},
                "sandbox": {**strict, "write": [own]},
            },
        }
    )
    text = b"again and again " * 1000
    with connect(running.tcp_url, "zlib") as client:
        tag, small = client.call("compress", (-1, text))
        assert (tag, client.call("decompress", small)) == (OK, (OK, text))
    with connect(running.tcp_url, "sqlite") as client:
        assert client.call("exec", (b"create table t (x)", []))[0] == OK
        assert client.call("transaction", [(b"insert into t values (?)", [n]) for n in range(3)])[0] == OK
        assert client.call("query", (b"select sum(x) from t", [])) == (OK, [b"sum(x)"], [(3,)])
