# SPDX-License-Identifier: MIT
"""Thousands of malformed sessions against a real daemon, while an honest client is served.

    python tests/soak/malformed.py SESSIONS

The sessions are those of malformed_sessions.py, many at a time. At the end neither daemon nor host has died, each
session came to its end, all that was said were frames, descriptors are what they were, memory what it was after the
first tenth, and every answer of the honest client was right.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from crowd import descriptors, settled, state_of
from gendriverd.etf import Atom
from paced import ROOT, verdict
from proc import status
from running_daemon import RunningDaemon, running_daemon
from steady import Steady, at, port_of

ECHO, NUMBER = 1, 12345  # of examples/echo
LIMITS: dict[str, object] = {"frame": "256KiB", "terms": 100_000, "unsent_bytes": "1MiB"}
GROWN = {"daemon": 64 << 10, "host": 64 << 10}  # KiB: more than after the first tenth, and it leaks
PROCESSES = 2
EXITS = ("host_exited", "instance_failed", "recorder_overwritten")


def held(port: int, first: int, last: int) -> tuple[list[str], Counter[str]]:
    """Let these sessions be held; what was wrong, and how many there were of each kind."""
    share = -(-(last - first) // PROCESSES)
    script = str(Path(__file__).parent / "malformed_sessions.py")
    processes = [
        subprocess.Popen(
            [sys.executable, script, str(port), str(begin), str(min(begin + share, last))],
            stdout=subprocess.PIPE,
            text=True,
        )
        for begin in range(first, last, share)
    ]
    wrong, counted = list[str](), Counter[str]()
    for process in processes:
        *told, summary = process.communicate()[0].splitlines() or [""]
        words = summary.split()
        if process.returncode != 0 or words[:1] != ["held"]:
            raise SystemExit("the sessions were not held")
        wrong += told
        counted.update({kind: int(count) for kind, count in zip(words[1::2], words[2::2], strict=True)})
    return wrong, counted


class Honest:
    """Calls one after another, with a pause, in a thread of its own, until it is ended."""

    def __init__(self, port: int) -> None:
        self.took: list[float] = []
        self.trouble: list[str] = []
        self._steady = Steady(port, "echo")
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            while not self._over.wait(0.002):
                self.took.append(self._steady.once(ECHO, NUMBER, (Atom("ok"), NUMBER)))
        except OSError as error:
            self.trouble.append(f"the honest client was left: {error}")

    def end(self) -> list[str]:
        self._over.set()
        self._thread.join()
        self._steady.close()
        return self.trouble + [f"the honest client was told {answer!r}" for answer in self._steady.wrong]


def resident(pids: dict[str, int]) -> dict[str, int]:
    """KiB."""
    return {name: status(pid, "VmRSS") for name, pid in pids.items()}


def run(daemon: RunningDaemon, sessions: int) -> list[str]:
    pids = {"daemon": daemon.pid, "host": daemon.host_pid("echo")}
    port, began = port_of(daemon.tcp_url), time.monotonic()
    honest = Honest(port)
    before = {name: descriptors(pid) for name, pid in pids.items()}
    print("before:", state_of(pids))
    problems, counted = held(port, 0, sessions // 10)
    problems += settled(pids, before)
    warm = resident(pids)
    print("a tenth:", state_of(pids), flush=True)
    more, rest = held(port, sessions // 10, sessions)
    problems += more + settled(pids, before)
    print("after: ", state_of(pids))
    for name, most in GROWN.items():
        if (grown := resident(pids)[name] - warm[name]) > most:
            problems.append(f"{name} grew by {grown >> 10} MiB")
    problems += honest.end()
    if daemon.process.poll() is not None:
        problems.append("the daemon is gone")
    problems += [f"{event}" for event in daemon.events if event["event"] in EXITS]
    print(
        f"{(counted + rest).total()} sessions in {time.monotonic() - began:.0f} s:",
        dict(sorted((counted + rest).items())),
    )
    print(f"the honest client: {len(honest.took)} calls, p50 {statistics.median(honest.took):.0f} us,", end=" ")
    print(f"p99 {at(honest.took, 0.99):.0f} us")
    return problems


def main() -> int:
    sessions = int(sys.argv[1]) if len(sys.argv) > 1 else 50_000
    # Memory is measured: a sanitizer must not hold on to what was freed.
    os.environ["ASAN_OPTIONS"] = os.environ.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=1"
    drivers = Path(os.environ.get("GENDRIVERD_DRIVERS") or ROOT / "build/drivers")
    instance: dict[str, object] = {"driver": str(drivers / "echo.so"), "limits": LIMITS}
    with (
        tempfile.TemporaryDirectory(prefix="gendriverd-soak-") as directory,
        running_daemon(Path(directory), {"echo": instance}) as daemon,
    ):
        return verdict(run(daemon, sessions))


if __name__ == "__main__":
    sys.exit(main())
