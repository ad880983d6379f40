# SPDX-License-Identifier: MIT
"""The host alone: a real daemon's host under the C load generator, beside the same loop with no pool.

Rounds are interleaved: each point is measured once for every system before the next round begins, and ratios are
those of one round. `loop alone` (loop.c) checks every request as the host does, with the host's own sources;
`bare loop alone` believes its client. Also: a host's memory beyond its driver, and its time from start to ready.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

import trio  # noqa: E402

import compiled  # noqa: E402
from gendriverd import snapshot  # noqa: E402
from gendriverd.messages import Ready  # noqa: E402
from gendriverd.schema import DaemonConfig, InstanceConfig  # noqa: E402
from gendriverd.start import Plan, start  # noqa: E402
from rows import Rows, placed  # noqa: E402
from running_daemon import RunningDaemon, running_daemon  # noqa: E402

DEPTHS = (1, 16, 128, 1024)
CONNECTIONS = (1, 4, 16)
THREADS = (1, 2, 3, 4)
DEFAULT_THREADS = 4
WITHOUT_RECORDS = "host without records"


@dataclass(frozen=True)
class Shape:
    """How long, and how much of it."""

    rounds: int
    seconds: float
    connections: Sequence[int]
    threads: Sequence[int]
    starts: int


LONG = Shape(5, 0.5, CONNECTIONS, THREADS, 20)
SHORT = Shape(3, 0.1, (1, 4), (DEFAULT_THREADS,), 8)


@dataclass(frozen=True)
class Target:
    """A system that the load generator can reach, over a unix socket where its name says nothing else."""

    system: str
    address: str
    instance: str | None = None
    pid: int = 0  # of the process that serves


def cpu_ns(pid: int) -> int:
    """What the threads of a process have had of the CPUs: other load on the machine does not count in it."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text(encoding="ascii").split()[0]) for task in tasks)


def load(target: Target, depth: int, connections: int, seconds: float, *more: str) -> dict[str, float]:
    """One run of the load generator; `depth` calls in flight on each connection. It has checked every answer."""
    command = [str(compiled.load()), "-a", target.address, "-d", str(depth), "-c", str(connections)]
    command += ["-s", str(seconds), *(["-i", target.instance] if target.instance else []), *more]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=seconds + 60)
    result: dict[str, float] = json.loads(done.stdout)
    return result


def with_host(host: Path) -> dict[str, object]:
    """Settings of a daemon. debug: only then its log says which process a host is."""
    return {"host": str(host), "log_level": "debug"}


@contextmanager
def without_records(directory: Path) -> Iterator[Target]:
    """The host once more, but its recorder and statistics note nothing."""
    below = directory / "without"
    below.mkdir()
    instances = {"sum": {"driver": str(compiled.driver("sum"))}}
    with running_daemon(below, instances, settings=with_host(compiled.host_without_records())) as daemon:
        yield Target(WITHOUT_RECORDS, daemon.unix_url, "sum", daemon.host_pid("sum"))


@contextmanager
def loops(directory: Path) -> Iterator[list[Target]]:
    """The loops with no pool, on unix sockets and TCP."""
    with ExitStack() as stack:
        targets = []
        for system, mode in (("loop alone", "checked"), ("bare loop alone", "bare")):
            for transport, address in (("", f"unix:{directory}/{mode}"), (" tcp", "tcp:0")):
                command = [str(compiled.loop()), address, mode]
                process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
                stack.callback(process.kill)
                assert process.stdout is not None
                targets.append(Target(system + transport, process.stdout.readline().strip(), None, process.pid))
        yield targets


def hosts(daemon: RunningDaemon, threads: Sequence[int]) -> list[Target]:
    """An instance for each number of workers, on both transports; the default number has the plain name."""
    found = []
    for count in threads:
        name = "host alone" if count == DEFAULT_THREADS else f"host alone {count} workers"
        port = daemon.tcp_url.rsplit(":", 1)[1]
        instance = f"sum{count}"
        pid = daemon.host_pid(instance)
        found.append(Target(name, daemon.unix_url, instance, pid))
        found.append(Target(f"{name} tcp", f"tcp:{port}", instance, pid))
    return found


def measure(rows: Rows, targets: Sequence[Target], shape: Shape) -> None:
    points = [(c, depth) for c in shape.connections for depth in DEPTHS if depth >= c]
    for target in targets:
        load(target, 16, 1, 0.1)  # pages touched, threads begun
    for _ in range(shape.rounds):
        for connections, depth in points:
            workload = "calls" if connections == 1 else f"calls, {connections} connections"
            for target in targets:
                if connections > 1 and ("workers" in target.system or target.system == WITHOUT_RECORDS):
                    continue
                before = cpu_ns(target.pid)
                result = load(target, depth // connections, connections, shape.seconds)
                cpu = (cpu_ns(target.pid) - before) / result["calls"] / 1000
                rows.add(target.system, workload, depth, "cpu", "us", cpu)
                rows.add(target.system, workload, depth, "rate", "1/s", result["rate"])
                rows.add(target.system, workload, depth, "p50", "us", result["p50"])
                rows.add(target.system, workload, depth, "p99", "us", result["p99"])


def memory(pid: int) -> tuple[int, int]:
    """A host's resident KiB, and of these what its driver's file takes: its mappings, by their file's name."""
    total = of_driver = 0
    is_driver = False
    for line in Path(f"/proc/{pid}/smaps").read_text(encoding="utf-8").splitlines():
        words = line.split()
        if not words[0].endswith(":"):
            is_driver = words[-1].endswith(".so") and "/lib/" not in words[-1]
        elif words[0] == "Rss:":
            total += int(words[1])
            of_driver += int(words[1]) * is_driver
    return total, of_driver


def add_memory(rows: Rows, daemon: RunningDaemon, workload: str) -> None:
    total, of_driver = memory(daemon.host_pid(f"sum{DEFAULT_THREADS}"))
    rows.add("host alone", workload, None, "rss", "KiB", total - of_driver)


async def start_once(plan: Plan, driver: snapshot.Snapshot) -> float:
    """ms from the spawn of a host, as the daemon does it, to its word that it is ready."""
    began = time.perf_counter()
    started = start(plan, driver, 1)
    try:
        with trio.fail_after(30):
            while not isinstance(await started.host.channel.receive(), Ready):
                pass
        return (time.perf_counter() - began) * 1000
    finally:
        started.host.kill()
        await started.host.wait()
        started.host.close()
        started.recorder.close()


def measure_start(rows: Rows, directory: Path, times: int) -> None:
    plan = Plan("sum", InstanceConfig(driver=str(compiled.driver("sum"))), DaemonConfig(host=str(compiled.host())))
    driver = snapshot.take(plan.config.driver, str(directory / "drivers"))
    for _ in range(times):
        rows.add("host alone", "start", None, "start", "ms", trio.run(start_once, plan, driver))


def run(rows: Rows, directory: Path, shape: Shape) -> None:
    driver = compiled.driver("sum")
    instances = {f"sum{count}": {"driver": str(driver), "threads": count} for count in shape.threads}
    measure_start(rows, directory, shape.starts)
    with (
        running_daemon(directory, instances, settings=with_host(compiled.host())) as daemon,
        loops(directory) as references,
        without_records(directory) as other,
    ):
        add_memory(rows, daemon, "memory, idle")
        measure(rows, [*hosts(daemon, shape.threads), *references, other], shape)
        add_memory(rows, daemon, "memory, after load")


def ratios(rows: Rows) -> Iterator[str]:
    """Of rates, and of CPU time a request: the latter mean something on a busy machine too."""
    for transport in ("", " tcp"):
        for depth in DEPTHS:
            where = f"{rows.placement}, {transport.strip() or 'unix'}, {depth} deep"
            for name, other in (("the loop with no pool", "loop alone"), ("the bare loop", "bare loop alone")):
                pair = f"host alone{transport}", other + transport
                rate, cpu = (rows.ratio(*pair, "calls", depth, metric) for metric in ("rate", "cpu"))
                yield f"{where}: {rate:.2f} of the rate of {name}, with {cpu:.2f} of its CPU time a request"
    for depth in DEPTHS:
        cost = rows.ratio("host alone", WITHOUT_RECORDS, "calls", depth, "cpu") - 1
        yield f"{rows.placement}, unix, {depth} deep: recorder and statistics cost {cost:.1%} of the CPU time"
    start_ms = statistics.median(rows.find("host alone", "start", None, "start"))
    yield f"{rows.placement}: start to ready {start_ms:.1f} ms"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--short", action="store_true", help="twenty seconds")
    parser.add_argument(
        "--placement", choices=["free", "pinned", "both"], help="CPUs: all, one, or one after the other"
    )
    parser.add_argument("--out", type=Path, default=compiled.BUILT / "alone.json")
    options = parser.parse_args()
    chosen = options.placement or ("free" if options.short else "both")
    compiled.load(), compiled.loop()
    rows = Rows()
    told: list[str] = []
    for rows.placement in ["free", "pinned"] if chosen == "both" else [chosen]:
        with placed(rows.placement), tempfile.TemporaryDirectory(prefix="gd-alone-") as directory:
            run(rows, Path(directory), SHORT if options.short else LONG)
            told += ratios(rows)
    rows.write(options.out)
    print(*rows.table("rate", "cpu", "rss", "start"), *told, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
