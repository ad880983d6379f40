# SPDX-License-Identifier: MIT
"""Writes the reports of hosts that died, in a thread, when there is time: the clients of the next host come first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import trio

from gendriverd import reports
from gendriverd.connections import Background
from gendriverd.log import Log
from gendriverd.recorder import Recorder, Untrusted
from gendriverd.schema import DaemonConfig
from gendriverd.statistics import Statistics


@dataclass(frozen=True)
class Pending:
    """A report to be made; `make` reads the driver's file. The recorder is its own."""

    make: Callable[[Statistics], reports.Report]
    recorder: Recorder
    log: Log


class Reporter:
    def __init__(self, config: DaemonConfig, background: Background) -> None:
        self._directory = Path(config.reports_dir)
        self._most = config.reports_max
        self._background = background
        self._pending: list[Pending] = []

    def remember(self, pending: Pending) -> None:
        self._pending.append(pending)

    def write(self) -> None:
        """What was remembered: now there is time."""
        while self._pending:
            self._background(self._write, self._pending.pop(0))

    async def _write(self, pending: Pending) -> None:
        log = pending.log
        try:
            written = await trio.to_thread.run_sync(self._make, pending)
            log.info("report_written", report=written.stem, path=str(written))
        except OSError as error:
            log.warning("report_not_written", path=str(self._directory), reason=error.strerror)
        except Exception:
            log.exception("report_error")

    def _make(self, pending: Pending) -> Path:
        try:
            statistics = pending.recorder.statistics()
        except Untrusted:  # said already, of the record
            statistics = Statistics()
        finally:
            pending.recorder.close()
        return reports.write(self._directory, pending.make(statistics), self._most)
