# SPDX-License-Identifier: MIT
"""Rounds: every system, then every system again. What breaks is left out, and that is said."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from idle import Idle, many_descriptors, most
from proc import placed, status
from results import Results
from running_daemon import DaemonTrouble
from services import Bed
from systems import SYSTEMS, Opened, Result, System
from vm import SystemTrouble, running_vm

# Of a 300 ms stall something must be seen; a transfer must get going.
LEAST = {"mixed times": 700, "parts": 200}
# In the short form: which x stand for the others.
SHORT: dict[str, tuple[int, ...]] = {
    "calls": (1, 128),
    "payload": (64, 1048576),
    "cpu": (100,),
    "idle connections": (0, 200),
}


@dataclass(frozen=True)
class Plan:
    """What was asked for."""

    rounds: int
    milliseconds: int
    systems: tuple[str, ...]
    workloads: tuple[str, ...]
    placements: tuple[str, ...]
    out: Path
    short: bool

    def window(self, workload: str) -> int:
        return max(self.milliseconds, LEAST.get(workload, 0))

    def wanted(self) -> list[System]:
        """The systems asked for, each with the workloads and x asked for."""
        return [replace(each, workloads=self._of(each)) for each in SYSTEMS if each.name in self.systems]

    def _of(self, system: System) -> dict[str, tuple[int, ...]]:
        return {name: self._xs(name, xs) for name, xs in system.workloads.items() if name in self.workloads}

    def _xs(self, workload: str, xs: tuple[int, ...]) -> tuple[int, ...]:
        """Not more idle connections than there are descriptors for."""
        possible = tuple(x for x in xs if workload != "idle connections" or x <= most())
        if self.short and workload in SHORT:
            return tuple(x for x in SHORT[workload] if x in xs or workload == "idle connections")
        return possible


class Run:
    """All workloads on one placement."""

    def __init__(self, plan: Plan, results: Results, placement: str) -> None:
        self.plan, self.results, self.placement = plan, results, placement
        self.there: dict[str, tuple[System, Opened]] = {}
        self.idle: dict[str, Idle] = {}

    def everything(self, built: Path, ebin: Path) -> None:
        with placed(self.placement), many_descriptors(), ExitStack() as stack:
            bed = Bed(built, stack)
            vm = stack.enter_context(running_vm(ebin, {"ERL_EPMD_PORT": str(bed.epmd_port)}))
            self.results.versions["otp"] = str(vm.about["otp"])
            for system in self.plan.wanted():
                try:
                    opened = system.opened(bed, vm)
                    opened.check()
                    self.there[system.name] = (system, opened)
                except (SystemTrouble, DaemonTrouble, OSError) as trouble:
                    self.missed(system.name, "", str(trouble))
            try:
                for workload in self.plan.workloads:
                    self.workload(workload)
            finally:
                self.close()

    def close(self) -> None:
        self.alone()
        for _, opened in self.there.values():
            with suppress(SystemTrouble, OSError):  # what has broken was said already
                opened.close()

    def workload(self, workload: str) -> None:
        """Every x of it, round by round, so that what is compared was measured within seconds."""
        taking = [(system, opened) for system, opened in self.there.values() if workload in system.workloads]
        for x in sorted({x for system, _ in taking for x in system.workloads[workload]}):
            now = [(system, opened) for system, opened in taking if x in system.workloads[workload]]
            print(f"{self.placement}: {workload} {x}: {len(now)} systems", flush=True)
            for _ in range(self.plan.rounds):
                for system, opened in list(now):
                    if not self.cell(system, opened, workload, x):
                        now.remove((system, opened))
        self.alone()

    def alone(self) -> None:
        """No idle connections any more."""
        for held in self.idle.values():
            held.close()
        self.idle.clear()

    def cell(self, system: System, opened: Opened, workload: str, x: int) -> bool:
        """One system, one x, one round. False when it has broken."""
        window = self.plan.window(workload)
        try:
            if workload == "idle connections":
                self.crowd(system, opened, x)
            result = opened.run(workload, x, max(5, min(200, window // 5)), window) | observed(opened)
        except (SystemTrouble, OSError) as trouble:
            self.results.drop(self.placement, system.name, workload, x)
            self.missed(system.name, f"{workload} {x}", str(trouble))
            return False
        self.results.add(self.placement, system.name, workload, x, result)
        return True

    def crowd(self, system: System, opened: Opened, count: int) -> None:
        """Idle connections to this system; they stay until the workload is over."""
        if system.name not in self.idle:
            self.idle[system.name] = Idle(opened.service.tcp)
        self.idle[system.name].grow(count)

    def missed(self, system: str, workload: str, reason: str) -> None:
        print(f"{self.placement}: {system} left out{': ' if workload else ''}{workload}: {reason}", flush=True)
        self.results.leave_out(self.placement, system, workload, reason)


def observed(opened: Opened) -> Result:
    """What a look at the processes adds: memory of those that serve; threads of a host."""
    seen: Result = {}
    if serving := opened.pids[1:]:
        seen["rss"] = float(sum(status(pid, "VmRSS") for pid in serving))
    if opened.service.host:
        seen["threads"] = float(status(opened.service.host, "Threads"))
    return seen
