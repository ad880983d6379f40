# SPDX-License-Identifier: MIT
"""Reloads and driver swaps under a steady load: no call fails, none is lost, nothing runs twice or out of order.

python tests/soak/reload.py RELOADS SWAPS
"""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

from paced import ROOT, paced, verdict
from running_daemon import RunningDaemon, configuration, running_daemon

RATE = 5000  # calls a second
PAUSE = 0.1  # seconds between two reloads, so that each host gets its calls


class Service:
    """One instance whose configuration and driver change."""

    def __init__(self, directory: Path, original: Path) -> None:
        self.directory = directory
        self.driver = directory / "ledger.so"
        self.ledger = directory / "ledger"
        self.contents = original.read_bytes()
        self.round = 0
        self.driver.write_bytes(self.contents)

    def instances(self) -> dict[str, dict[str, object]]:
        settings = {"ledger": str(self.ledger), "round": self.round}
        return {"ledger": {"driver": str(self.driver), "threads": 4, "settings": settings}}

    def reload(self, daemon: RunningDaemon) -> None:
        """Returns when the new host has taken over; raises when it did not."""
        since = len(daemon.events)
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_event("reloaded", since=since)
        if not any(event["event"] == "instance_ready" for event in daemon.events[since:]):
            raise SystemExit(f"a reload brought no new host:\n{daemon.log()[-2000:]}")

    def change(self, daemon: RunningDaemon) -> None:
        self.round += 1
        drop_in = self.directory / "conf.d" / "ledger.toml"
        drop_in.parent.mkdir(exist_ok=True)
        drop_in.write_text(configuration({}, self.instances()))
        self.reload(daemon)

    def swap(self, daemon: RunningDaemon) -> None:
        """Another build, in place of the one that runs: the same code with other bytes at its end."""
        self.round += 1
        build = self.contents + b"build %d" % self.round
        self.driver.write_bytes(build)
        self.reload(daemon)
        loaded = Path(f"/proc/{daemon.host_pid('ledger')}/maps").read_text()
        if hashlib.sha256(build).hexdigest() not in loaded:
            raise SystemExit(f"round {self.round}: the new host runs another file")


def run(reloads: int, swaps: int, directory: Path, drivers: Path) -> int:
    service = Service(directory, drivers / "test/ledger.so")
    with running_daemon(directory, service.instances()) as daemon:
        with paced(directory, daemon.tcp_url, "ledger", RATE) as told:
            began = time.monotonic()
            for number in range(reloads + swaps):
                if number % (1 + reloads // max(1, swaps)) == 0 and swaps:
                    service.swap(daemon)
                else:
                    service.change(daemon)
                time.sleep(PAUSE)
            seconds = time.monotonic() - began
        died = [event for event in daemon.events if event["event"] == "host_exited" and event["code"] != 0]
    print(f"{reloads + swaps} reloads, {swaps} of them with another driver, in {seconds:.1f} s")
    print(f"{len(told.outcomes) / seconds:.0f} requests a second; {told.summary()}")
    problems = told.problems(service.ledger) + told.lost(service.ledger)
    return verdict(problems + [f"a host died: {event['reason']}" for event in died])


def main() -> int:
    reloads, swaps = (int(argument) for argument in sys.argv[1:3]) if len(sys.argv) > 2 else (200, 50)
    drivers = Path(os.environ.get("GENDRIVERD_DRIVERS") or ROOT / "build/drivers")
    with tempfile.TemporaryDirectory(prefix="gendriverd-soak-") as directory:
        return run(reloads, swaps, Path(directory), drivers)


if __name__ == "__main__":
    sys.exit(main())
