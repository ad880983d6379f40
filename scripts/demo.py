# SPDX-License-Identifier: MIT
"""make demo: a daemon in a temporary directory; its drivers called from Python and Erlang, one killed, all stopped."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from gendriverd.client import connect
from gendriverd.erlterm import format as erlang
from native import BIN
from running_daemon import RunningDaemon, running_daemon

ROOT = Path(__file__).resolve().parent.parent
BUILT = ROOT / "build" / "drivers"


def instances(directory: Path) -> dict[str, dict[str, object]]:
    """sum and echo, and what else was built."""
    wanted: dict[str, dict[str, object]] = {
        "sum": {"driver": "sum.so"},
        "echo": {"driver": "echo.so"},
        "zlib": {"driver": "zlib.so"},
        "sqlite": {"driver": "sqlite.so", "settings": {"database": directory / "demo.db"}},
        "test": {"driver": "sum.so", "threads": 1},
    }
    return {
        name: keys
        for name, keys in wanted.items()
        if (BUILT / str(keys["driver"])).exists() or (BIN / "drivers" / str(keys["driver"])).exists()
    }


def title(text: str) -> None:
    print(f"\n== {text}", flush=True)


def run_client(daemon: RunningDaemon, names: list[str]) -> None:
    title("The drivers, called from Python (examples/demo.py)")
    command = [sys.executable, str(ROOT / "examples/demo.py"), daemon.tcp_url, *names]
    subprocess.run(command, check=True, timeout=300)


def kill_a_host(daemon: RunningDaemon) -> None:
    title("What a crash costs: the host of sum is killed")
    with connect(daemon.unix_url, "echo") as neighbour:
        before, pid = len(daemon.events), daemon.host_pid("sum")
        os.kill(pid, signal.SIGKILL)
        daemon.wait_event("instance_ready", since=before, instance="sum")
        print(f"  host {pid} was killed; the daemon has put host {daemon.host_pid('sum')} in its place")
        with connect(daemon.unix_url, "sum") as driver:
            print(f"  sum answers again: {erlang(driver.call(1, [1, 2, 3, 4]))}")
        print(f"  echo, on the connection it had all along: {erlang(neighbour.call(1, b'what happened?'))}")


def call_from_erlang(daemon: RunningDaemon, directory: Path) -> None:
    """The original's transcript, with the modules compiled by erlc: no rebar3 needed."""
    title("The original's transcript, from Erlang (examples/sum/gen_driver_test.erl)")
    client = ROOT / "erlang"
    sources = [*client.glob("gen_driver_*/src/*.erl"), ROOT / "examples/sum/gen_driver_test.erl"]
    subprocess.run(["erlc", "-o", str(directory), *map(str, sources)], check=True, timeout=120)
    for application in client.glob("gen_driver_*/src/*.app.src"):
        shutil.copy(application, directory / application.name.removesuffix(".src"))
    script = f"""
        application:load(gen_driver_compat),
        application:set_env(gen_driver_compat, connect, "{daemon.tcp_url}"),
        {{ok, _}} = application:ensure_all_started(gen_driver_compat),
        {{ok, Pid}} = gen_driver_test:start_link(),
        io:format("  start_link()             => {{ok,~p}}~n", [Pid]),
        io:format("  sum(Pid, [1,2,3,4])      => ~p~n", [gen_driver_test:sum(Pid, [1,2,3,4])]),
        io:format("  ping(Pid)                => ~p~n", [gen_driver_test:ping(Pid)]),
        io:format("  stats(Pid)               => ~p~n", [gen_driver_test:stats(Pid)]),
        halt(0)."""
    subprocess.run(["erl", "-noshell", "-pa", str(directory), "-eval", script], check=True, timeout=120)


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="gendriverd-demo-") as name:
        directory = Path(name)
        wanted = instances(directory)
        title(f"A daemon with {len(wanted)} instances: {', '.join(wanted)}")
        with running_daemon(directory, wanted, arguments=["--driver-path", str(BUILT)]) as daemon:
            print(f"  pid {daemon.pid}, on {daemon.tcp_url} and {daemon.unix_url}")
            run_client(daemon, [name for name in wanted if name != "test"])
            kill_a_host(daemon)
            if shutil.which("erlc"):
                call_from_erlang(daemon, directory)
            else:
                title("No Erlang here: the calls from Erlang are left out")
            title("Stopping the daemon")
    print("  it ended with 0; no process is left")
    return 0


if __name__ == "__main__":
    sys.exit(main())
