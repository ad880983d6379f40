# SPDX-License-Identifier: MIT
"""What the checks ask the booted system (boot_checks.py): systemctl, journal, `gendriverd call`; and how they wait."""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NoReturn

UNIT = "gendriverd.service"
ETC = Path("/etc/gendriverd")
STATE = Path("/var/lib/gendriverd")
TCP, UNIX = "tcp://127.0.0.1:9900", "unix:/run/gendriverd/gendriverd.sock"
DROP_INS = Path("/run/systemd/system/gendriverd.service.d")
GATES = Path("/srv/gates")  # FIFOs at which drivers wait
SECONDS = 40.0


class Skip(Exception):
    """Why this system cannot do it."""


def run(*command: str, seconds: float = SECONDS) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)


def systemctl(*arguments: str) -> None:
    done = run("systemctl", *arguments)
    assert done.returncode == 0, f"systemctl {' '.join(arguments)}: {done.stderr}{journal_tail()}"


def journal_tail() -> str:
    return run("journalctl", "--no-pager", "-n", "30", "-o", "cat").stdout


def show(name: str, unit: str = UNIT) -> str:
    return run("systemctl", "show", "--value", "-p", name, unit).stdout.strip()


def call(*arguments: str, url: str = TCP) -> subprocess.CompletedProcess[str]:
    return run("gendriverd", "call", "--connect", url, "--timeout", "20", *arguments)


def answer(*arguments: str, url: str = TCP) -> str:
    done = call(*arguments, url=url)
    assert done.returncode == 0, f"call {arguments}: {done.returncode} {done.stdout}{done.stderr}{journal_tail()}"
    return done.stdout.strip()


def tried(*arguments: str) -> int:
    """The errno of what the driver `confined` has tried."""
    found = re.fullmatch(r"\{ok,(\d+)\}|(\d+)", answer("confined", *arguments))
    assert found is not None, answer("confined", *arguments)
    return int(found[1] or found[2])


def wait_until(what: str, holds: Callable[[], bool]) -> None:
    """Asks at each news of the service; and once a second, as no line tells of each change of its state."""
    end = time.monotonic() + SECONDS
    with followed_journal() as news:
        while not holds():
            assert time.monotonic() < end, f"waiting for {what}: not within {SECONDS:g} s\n{journal_tail()}"
            if select.select([news], [], [], 1.0)[0]:
                os.read(news.fileno(), 1 << 16)


@contextmanager
def followed_journal() -> Iterator[IO[bytes]]:
    """The service's lines, systemd's own about it too: all that are there, then each as it comes."""
    command = ["journalctl", "--follow", "--no-tail", "-u", UNIT, "-o", "cat"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as following:
        assert following.stdout is not None
        try:
            yield following.stdout
        finally:
            following.kill()


def serves() -> None:
    assert answer("sum", "sum", "[1,2,3,4]") == "{ok,10.0}"


def lines(**fields: object) -> list[dict[str, Any]]:
    """The service's lines in the journal that are JSON and have these fields; `of` holds the journal's own."""
    found = []
    for text in run("journalctl", "--no-pager", "-u", UNIT, "-o", "json").stdout.splitlines():
        of = json.loads(text)
        try:
            event = json.loads(of["MESSAGE"])
        except (TypeError, ValueError):
            continue
        if isinstance(event, dict) and all(event.get(key) == value for key, value in fields.items()):
            found.append({**event, "of": of})
    return found


def drop_in(name: str, text: str | None = None) -> None:
    """Add one of the shipped, or a text, and start the service anew with it."""
    DROP_INS.mkdir(parents=True, exist_ok=True)
    target = DROP_INS / f"{name}.conf"
    target.write_text(Path(f"/opt/drop-ins/{name}.conf").read_text() if text is None else text)
    restart()


def no_drop_ins() -> None:
    shutil.rmtree(DROP_INS, ignore_errors=True)
    restart()


def restart() -> None:
    systemctl("daemon-reload")
    systemctl("reset-failed", UNIT)
    systemctl("restart", UNIT)


def status_of(process: str) -> dict[str, str]:
    text = Path(f"/proc/{process}/status").read_text()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}


def opened_gate(name: str) -> int:
    """Until a driver waits there: then the gate is open for it, and this end is still to be written to or closed."""

    def late(*_: object) -> NoReturn:
        raise TimeoutError(f"waiting for a driver at the gate {name}: not within {SECONDS:g} s\n{journal_tail()}")

    signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        return os.open(GATES / name, os.O_WRONLY)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
