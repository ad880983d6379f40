# SPDX-License-Identifier: MIT
"""The Erlang VM that all callers live in: a request is a term on its standard input, an answer a line of JSON."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gendriverd import erlterm
from gendriverd.etf import Atom

# OTP's own defaults, as those who compare will run it: on one CPU that is one scheduler online, as the VM sees its
# affinity by itself. Only the user's own ~/.erlang is kept out. A node it becomes later, and only for the C node.
FLAGS = ("-noshell", "-boot", "no_dot_erlang")


class SystemTrouble(Exception):
    """A system cannot be opened, answers wrong or breaks: one sentence."""


class Vm:
    """One VM, which does one thing at a time."""

    def __init__(self, ebin: Path, env: dict[str, str]) -> None:
        command = ["erl", *FLAGS, "-pa", str(ebin), "-s", "bench_main", "main"]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **env}
        )
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, name="VM", daemon=True)
        self._reader.start()
        self.about = self.ask(Atom("about"))

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                if line.startswith("= "):
                    self._lines.put(line[2:])
                else:
                    sys.stderr.write(f"  VM: {line}")
        self._lines.put("")

    def ask(self, request: object, seconds: float = 240.0) -> dict[str, Any]:
        """Its answer; `SystemTrouble` where that is an error."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{erlterm.format(request)}.\n")
        self.process.stdin.flush()
        try:
            line = self._lines.get(timeout=seconds)
        except queue.Empty:
            raise SystemTrouble(f"the VM gave no answer within {seconds:g} s") from None
        if not line:
            raise SystemTrouble("the VM has ended")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise SystemTrouble(answer["error"])
        return answer

    def close(self) -> None:
        """Its standard input ends, and so it does."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._reader.join()


@contextmanager
def running_vm(ebin: Path, env: dict[str, str]) -> Iterator[Vm]:
    vm = Vm(ebin, env)
    try:
        yield vm
    finally:
        vm.close()
