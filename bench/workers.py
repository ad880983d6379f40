# SPDX-License-Identifier: MIT
"""Systems whose callers are Python programs of their own (python/worker.py), not processes in the VM."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from services import Bed, child
from vm import SystemTrouble, Vm

if TYPE_CHECKING:
    from systems import System

WORKER = Path(__file__).resolve().parent / "python" / "worker.py"
SECONDS = 120.0  # beyond its windows, until a worker is given up


def workers(kind: str, way: str) -> Callable[[System, Bed, Vm], WorkerClients]:
    """To be a system's `open`: callers of this kind, over `tcp` or `unix`."""
    return lambda system, bed, _vm: WorkerClients(system, bed, kind, way)


class WorkerClients:
    """One worker, which keeps its connection."""

    def __init__(self, system: System, bed: Bed, kind: str, way: str) -> None:
        self.service = bed.service(system.service)
        command = [sys.executable, str(WORKER), kind, getattr(self.service, way)]
        self._process: subprocess.Popen[str] = bed.stack.enter_context(child(command))
        self.pids = (self._process.pid, *self.service.pids)

    def check(self) -> None:
        self._ask({}, SECONDS)

    def run(self, workload: str, x: int, warm: int, window: int) -> dict[str, float]:
        asked = {"workload": workload, "x": x, "warm": warm, "window": window, "pids": self.pids}
        return {key: float(value) for key, value in self._ask(asked, SECONDS + window / 1000).items()}

    def _ask(self, request: dict[str, object], seconds: float) -> dict[str, Any]:
        """Its answer; one that gives none is killed, so that the line it owes is an empty one."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        late = threading.Timer(seconds, self._process.kill)
        late.start()
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        finally:
            late.cancel()
        answer: dict[str, Any] = json.loads(line) if line else {"error": "the worker gave no answer"}
        if "error" in answer:
            raise SystemTrouble(str(answer["error"]))
        return answer

    def close(self) -> None:
        """With the services: its standard input ends."""
