# SPDX-License-Identifier: MIT
"""What grows with what: connections, queued requests, instances, workers, payloads; memory and times by their count.

A service that costs twice as much for twice as many is fine; one where each costs more, the more there are, is not.
So each row is to be read along its x: `growth` lines at the end say by how much one costs more among many.
"""

from __future__ import annotations

import argparse
import itertools
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

import compiled  # noqa: E402 (its path is set above)
import wire  # noqa: E402
from alone import Target, cpu_ns, load, with_host  # noqa: E402
from gendriverd import etf  # noqa: E402
from gendriverd.etf import Atom, Term  # noqa: E402
from rows import Rows  # noqa: E402
from running_daemon import RunningDaemon, running_daemon  # noqa: E402

SYSTEM = "host alone"
SUM, NUMBERS, ECHO = 1, [1, 2, 3, 4], 1  # of examples/sum, examples/echo
WAIT, SEAT = 1, 4  # of tests/drivers/gate.c
AT_ONCE = 64  # handshakes; handshake_pending allows more
SENDERS = 5  # connections over which queued requests come
MILLION = 1_000_000
AGAIN = 20  # new connections timed for a median


@dataclass(frozen=True)
class Sizes:
    """How far it goes."""

    idle: Sequence[int]
    queued: Sequence[int]
    instances: Sequence[int]
    workers: Sequence[int]
    payloads: Sequence[int]
    seconds: float


LONG = Sizes(
    (0, 100, 1000, 10_000), (500, 5000, 50_000), (1, 10, 50, 200), range(1, 9), (16, 256, 4096, 65536, 1 << 20), 1
)
SHORT = Sizes((0, 100, 1000), (500, 5000, 50_000), (1, 10), (1, 4), (4096, 1 << 20), 0.15)


def resident(pid: int) -> float:
    """KiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024


def own_share(pid: int) -> float:
    """KiB: what is shared counts in part, so that sums over processes are right."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("Pss:"))


def path_of(daemon: RunningDaemon) -> str:
    return daemon.unix_url.removeprefix("unix:")


def new_connection_ms(daemon: RunningDaemon, instance: str) -> float:
    """From nothing to a call's answer."""
    times = []
    for _ in range(AGAIN):
        began = time.perf_counter()
        sock = wire.connect(path_of(daemon), instance)[0]
        sock.sendall(wire.call(0, SUM, NUMBERS))
        assert wire.receive(sock) == (Atom("reply"), 0, (Atom("ok"), 10.0))
        times.append((time.perf_counter() - began) * 1000)
        sock.close()
    return statistics.median(times)


def connections(rows: Rows, directory: Path, sizes: Sizes) -> None:
    """Idle ones, held open while others are opened and one is busy."""
    most = max(sizes.idle)
    limits = {"connections": most + 200}
    instances = {"sum": {"driver": str(compiled.driver("sum")), "limits": limits}}
    with running_daemon(directory, instances, settings=with_host(compiled.host())) as daemon:
        held = wire.connect(path_of(daemon), "sum")  # all that is made at the first connection is there
        for count in sizes.idle:
            while len(held) <= count:
                held += wire.connect(path_of(daemon), "sum", min(AT_ONCE, count + 1 - len(held)))
            workload = "idle connections"
            rows.add(SYSTEM, workload, count, "rss", "KiB", resident(daemon.host_pid("sum")))
            rows.add("gendriverd", workload, count, "rss", "KiB", resident(daemon.pid))
            rows.add("gendriverd", workload, count, "start", "ms", new_connection_ms(daemon, "sum"))
            for depth, metric, unit in ((1, "p50", "us"), (1, "p99", "us"), (128, "rate", "1/s")):
                busy = load(Target(SYSTEM, daemon.unix_url, "sum"), depth, 1, sizes.seconds)
                rows.add(SYSTEM, workload, count, metric, unit, busy[metric])
        wire.close(held)


def open_gate(gate: Path) -> None:
    with gate.open("wb", buffering=0) as fifo:
        fifo.write(b"!")


def queue_up(daemon: RunningDaemon, gate: Path, count: int, options: dict[Term, Term]) -> float:
    """So many calls behind one that waits at the gate; every answer is checked. All have one key, so that none runs
    before it. The us of CPU time that the host takes for each."""
    keyed: dict[Term, Term] = {Atom("key"): 0, **options}
    share = count // SENDERS
    calls = b"".join(wire.call(i, SEAT, [], keyed) for i in range(share)) + etf.frame((Atom("ping"), 0))
    answers = b"".join(etf.frame((Atom("reply"), i, 0)) for i in range(share))
    first, *senders = wire.connect(path_of(daemon), "gate", SENDERS + 1)
    first.sendall(wire.call(0, WAIT, [], {Atom("key"): 0}) + etf.frame((Atom("ping"), 0)))
    assert wire.receive(first)[0] == "pong"
    host = daemon.host_pid("gate")
    before = cpu_ns(host)
    for sock in senders:
        sock.sendall(calls)
        assert wire.receive(sock)[0] == "pong"  # they are in the queue
    open_gate(gate)
    for sock in senders:
        assert wire.take(sock, len(answers)) == answers
    wire.close([first, *senders])
    return (cpu_ns(host) - before) / count / 1000


def queued(rows: Rows, directory: Path, sizes: Sizes, over: float) -> None:
    """Each count once, with and without a timeout; then the largest again and again, a million in so many seconds."""
    gate = directory / "gate"
    os.mkfifo(gate)
    most = max(sizes.queued)
    limits = {"queue": most + 100, "in_flight": most}
    driver = {"driver": str(compiled.gate()), "threads": 1, "limits": limits, "settings": {"gate": str(gate)}}
    timed: dict[Term, Term] = {Atom("timeout"): 3_600_000}
    with running_daemon(directory, {"gate": driver}, settings=with_host(compiled.host())) as daemon:
        host = daemon.host_pid("gate")
        for count in sizes.queued:
            rows.add(SYSTEM, "queued", count, "cpu", "us", queue_up(daemon, gate, count, {}))
            rows.add(SYSTEM, "queued, with a timeout", count, "cpu", "us", queue_up(daemon, gate, count, timed))
            rows.add(SYSTEM, "queued", count, "rss", "KiB", resident(host))
        for turn in range(MILLION // most if over > 0 else 0):
            rows.add(SYSTEM, "a million queued", turn + 1, "cpu", "us", queue_up(daemon, gate, most, timed))
            rows.add(SYSTEM, "a million queued", turn + 1, "rss", "KiB", resident(host))
            time.sleep(over * most / MILLION)


def instances(rows: Rows, directory: Path, sizes: Sizes) -> None:
    """From the daemon's start until all are ready; what a host more costs."""
    for count in sizes.instances:
        below = directory / str(count)
        below.mkdir()
        each = {f"sum{i}": {"driver": str(compiled.driver("sum"))} for i in range(count)}
        began = time.perf_counter()
        with running_daemon(below, each, settings=with_host(compiled.host())) as daemon:
            rows.add("gendriverd", "instances", count, "start", "ms", (time.perf_counter() - began) * 1000)
            hosts = sum(own_share(daemon.host_pid(name)) for name in each)
            rows.add(SYSTEM, "instances", count, "rss", "KiB", hosts)
            rows.add("gendriverd", "instances", count, "rss", "KiB", resident(daemon.pid))


def workers_and_payloads(rows: Rows, directory: Path, sizes: Sizes) -> None:
    each: dict[str, dict[str, object]] = {
        f"sum{n}": {"driver": str(compiled.driver("sum")), "threads": n} for n in sizes.workers
    }
    each["echo"] = {"driver": str(compiled.driver("echo"))}
    with running_daemon(directory, each, settings=with_host(compiled.host())) as daemon:
        for _ in range(3):
            for count in sizes.workers:
                result = load(Target(SYSTEM, daemon.unix_url, f"sum{count}"), 128, 1, sizes.seconds)
                rows.add(SYSTEM, "workers", count, "rate", "1/s", result["rate"])
            for size in sizes.payloads:
                target = Target(SYSTEM, daemon.unix_url, "echo")
                result = load(target, 16, 1, sizes.seconds, "-k", str(ECHO), "-e", str(size))
                rows.add(SYSTEM, "payload", size, "rate", "1/s", result["rate"])
                rows.add(SYSTEM, "payload", size, "throughput", "MB/s", 2 * size * result["rate"] / 1e6)


def raise_limit(wanted: int) -> int:
    """Descriptors that this process, and the daemon after it, may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))
    return max(soft, most)


def told(rows: Rows) -> Iterator[str]:
    """For the last two counts: what one more costs there, against what one cost before."""
    for system, workload, metric in (
        (SYSTEM, "idle connections", "rss"),
        ("gendriverd", "idle connections", "rss"),
        (SYSTEM, "instances", "rss"),
        ("gendriverd", "instances", "rss"),
        ("gendriverd", "instances", "start"),
    ):
        points = rows.along(system, workload, metric)
        steps = [(y - b) / (x - a) for (a, b), (x, y) in itertools.pairwise(points)]
        counts = [x for x, _ in points]
        yield f"growth: {system}, {workload}, {metric}: each one more costs " + ", ".join(
            f"{step:.2f} up to {count:,}" for step, count in zip(steps, counts[1:], strict=True)
        )
    for workload in ("queued", "queued, with a timeout"):
        points = rows.along(SYSTEM, workload, "cpu")
        yield f"growth: {workload}: us a request " + ", ".join(f"{y:.2f} of {x:,}" for x, y in points)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--short", action="store_true", help="twenty seconds")
    parser.add_argument(
        "--over", type=float, default=0, help="seconds over which a million requests are queued, besides"
    )
    parser.add_argument("--out", type=Path, default=compiled.BUILT / "growth.json")
    options = parser.parse_args()
    sizes = SHORT if options.short else LONG
    needed = 2 * max(sizes.idle) + 500
    if raise_limit(needed) < max(sizes.idle) + 500:
        print(f"growth: {max(sizes.idle):,} connections want more descriptors than this user may have", file=sys.stderr)
        return 1
    rows = Rows()
    with tempfile.TemporaryDirectory(prefix="gd-growth-") as name:
        below = [Path(name, part) for part in ("connections", "queued", "instances", "rates")]
        for directory in below:
            directory.mkdir()
        connections(rows, below[0], sizes)
        queued(rows, below[1], sizes, options.over)
        instances(rows, below[2], sizes)
        workers_and_payloads(rows, below[3], sizes)
    rows.write(options.out)
    print(*rows.table("rate", "p50", "p99", "cpu", "throughput", "rss", "start"), *told(rows), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
