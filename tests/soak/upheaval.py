# SPDX-License-Identifier: MIT
"""A thousand callers and a hundred casters on four connections, through all that can happen to a daemon.

    python tests/soak/upheaval.py ROUNDS

Each round: the daemon is restarted (on listening sockets that stay, as systemd's do), the driver is swapped for another
build, one connection is reset, the host is killed. No answer is wrong; the ledger accounts for each request: what was
told `ok` ran once, what `never started` did not, and nothing ran twice.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from paced import ROOT, Told, compiled, read_told, verdict
from reload import Service
from running_daemon import RunningDaemon, running_daemon

CALLERS, CASTERS = 1000, 100
PAUSE = 0.5  # seconds between two upheavals
SENT = 100_000  # that many numbers and more, or the load was none


@contextmanager
def load(directory: Path, port: int) -> Iterator[tuple[Told, Callable[[], None]]]:
    """What was told is filled in at the end; meanwhile the function cuts a connection."""
    told, outcomes = Told(), directory / "outcomes"
    arguments = f'[{{127,0,0,1}}, {port}, {CALLERS}, {CASTERS}, "{outcomes}"]'
    command: list[str | Path] = ["erl", "-noshell", "-pa", *compiled(directory, "upheaval_load")]
    process = subprocess.Popen(
        [*command, "-eval", f"upheaval_load:main({arguments})."],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None

    def cut() -> None:
        print("cut", file=process.stdin, flush=True)

    try:
        if process.stdout.readline() != "ready\n":
            raise SystemExit(f"the load did not start: {process.communicate()[0]}")
        yield told, cut
        print(process.communicate(timeout=120)[0], end="")
    finally:
        process.kill()
        process.wait()
    if process.returncode != 0:
        raise subprocess.CalledProcessError(process.returncode, "upheaval_load")
    read_told(outcomes, told)


def upheave(rounds: int, directory: Path, drivers: Path) -> list[str]:
    service = Service(directory, drivers / "test/ledger.so")
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as held, ExitStack() as running:

        def start() -> RunningDaemon:
            return running.enter_context(running_daemon(directory, service.instances(), passed=[held.fileno()]))

        daemon = start()
        began = time.monotonic()
        with load(directory, held.getsockname()[1]) as (told, cut):
            for _ in range(rounds):
                time.sleep(PAUSE)
                running.close()
                daemon = start()
                time.sleep(PAUSE)
                service.swap(daemon)
                time.sleep(PAUSE)
                cut()
                time.sleep(PAUSE)
                os.kill(daemon.host_pid("ledger"), signal.SIGKILL)
            time.sleep(PAUSE)
        seconds = time.monotonic() - began
    print(f"{rounds} restarts, swaps, resets and kills in {seconds:.1f} s; {told.summary()}")
    problems = told.problems(service.ledger)
    problems += [f"{number} got a wrong answer" for number, outcome in told.outcomes.items() if outcome == "wrong"]
    if len(told.outcomes) < SENT * rounds / 10:
        problems.append(f"only {len(told.outcomes)} requests were made")
    return problems


def main() -> int:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    drivers = Path(os.environ.get("GENDRIVERD_DRIVERS") or ROOT / "build/drivers")
    with tempfile.TemporaryDirectory(prefix="gendriverd-soak-") as directory:
        return verdict(upheave(rounds, Path(directory), drivers))


if __name__ == "__main__":
    sys.exit(main())
