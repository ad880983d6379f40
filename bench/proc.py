# SPDX-License-Identifier: MIT
"""What /proc says of processes: memory, threads. And on which CPUs what is started from here on runs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def status(pid: int, key: str) -> int:
    """A number of /proc/PID/status: `VmRSS` (KiB), `Threads`."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name == key:
            return int(value.split()[0])
    raise KeyError(key)


@contextmanager
def placed(placement: str) -> Iterator[None]:
    """`pinned`: children run on one CPU, the last that we may use, as others begin with the first. `free`: on two."""
    before = os.sched_getaffinity(0)
    cpus = sorted(before)[-1:] if placement == "pinned" else sorted(before)[:2]
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
