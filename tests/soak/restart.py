# SPDX-License-Identifier: MIT
"""The daemon is killed, and restarted in order, under a steady load.

    python tests/soak/restart.py KILLS RESTARTS

Killed: its hosts are gone within a second, the next daemon starts on the same addresses, and what callers are told is
true. Restarted in order, with listening sockets that outlive it as systemd's do: no caller hears of it.
"""

from __future__ import annotations

import os
import select
import socket
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from paced import ROOT, paced, percentile, verdict
from running_daemon import RunningDaemon, descendants, running_daemon

RATE = 2000  # calls a second
PAUSE = 0.2  # seconds that a daemon serves before its end


def instances(ledger: Path, drivers: Path) -> dict[str, dict[str, object]]:
    settings = {"ledger": str(ledger)}
    return {
        "ledger": {"driver": str(drivers / "test/ledger.so"), "threads": 4, "settings": settings},
        "echo": {"driver": str(drivers / "echo.so"), "processes": 2, "spares": 1},
    }


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def kill(daemon: RunningDaemon) -> tuple[int, list[str]]:
    """Microseconds until its hosts were gone; and those that were not after a second."""
    family = descendants(daemon.pid)
    held = {os.pidfd_open(process.pid): process for process in family}
    daemon.kill_daemon()
    began = time.monotonic()
    left = dict(held)
    while left and time.monotonic() < began + 1:
        for fd in select.select(list(left), [], [], began + 1 - time.monotonic())[0]:
            del left[fd]
    took = round((time.monotonic() - began) * 1e6)
    for fd in held:
        os.close(fd)
    return took, [f"{process} outlived its daemon by a second" for process in left.values()]


def kills(times: int, directory: Path, drivers: Path) -> list[str]:
    ledger, took, problems = directory / "ledger", list[int](), list[str]()
    listen = [f"tcp://127.0.0.1:{free_port()}", f"unix:{directory}/s"]
    settings = {"listen": listen}
    with ExitStack() as first:
        daemon = first.enter_context(running_daemon(directory, instances(ledger, drivers), settings=settings))
        with paced(directory, listen[0], "ledger", RATE) as told:
            for _ in range(times):
                time.sleep(PAUSE)
                gone, found = kill(daemon)
                took.append(gone)
                problems += found
                first.close()
                daemon = first.enter_context(running_daemon(directory, instances(ledger, drivers), settings=settings))
            time.sleep(PAUSE)
    print(f"{times} times kill -9: hosts gone after p50 {percentile(took, 0.5):.1f}, max {percentile(took, 1):.1f} ms")
    print(told.summary())
    return problems + told.problems(ledger)


def restarts(times: int, directory: Path, drivers: Path) -> list[str]:
    """The first daemon and its successors have sockets that are held here."""
    ledger = directory / "ledger"
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as held, ExitStack() as running:
        url, passed = f"tcp://127.0.0.1:{held.getsockname()[1]}", [held.fileno()]
        running.enter_context(running_daemon(directory, instances(ledger, drivers), passed=passed))
        with paced(directory, url, "ledger", RATE) as told:
            for _ in range(times):
                time.sleep(PAUSE)
                running.close()  # SIGTERM, and all is gone
                running.enter_context(running_daemon(directory, instances(ledger, drivers), passed=passed))
            time.sleep(PAUSE)
    print(f"{times} restarts with sockets that stay: {told.summary()}")
    return told.problems(ledger) + told.lost(ledger, casts=False)  # without a link they are dropped, and counted


def run(counts: Sequence[int], drivers: Path) -> int:
    problems = []
    for part, times in zip((kills, restarts), counts, strict=True):
        with tempfile.TemporaryDirectory(prefix="gd-soak-") as directory:
            problems += part(times, Path(directory), drivers)
    return verdict(problems)


def main() -> int:
    counts = [int(argument) for argument in sys.argv[1:3]] if len(sys.argv) > 2 else [50, 20]
    return run(counts, Path(os.environ.get("GENDRIVERD_DRIVERS") or ROOT / "build/drivers"))


if __name__ == "__main__":
    sys.exit(main())
