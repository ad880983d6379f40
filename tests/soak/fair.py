# SPDX-License-Identifier: MIT
"""What a client that asks one thing at a time notices of one that keeps 4,096 calls in flight: figures.

    python tests/soak/fair.py SECONDS ROUNDS

An instance of four threads; requests that take 100 us, with and without a key (the same one for both), and short ones,
which the host's loop runs itself. In turns: alone, and beside the flood. Printed are medians of the rounds, and their
ratio. It ends with 1 where the well-behaved client got no answer, or another one; or (a machine may be busy) where it
waits as long as all of the flood's calls would.
"""

from __future__ import annotations

import statistics
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "scripts"), str(ROOT / "bench")]

import compiled  # noqa: E402 (its path is set above)
import wire  # noqa: E402
from gendriverd.etf import Atom, Term  # noqa: E402
from paced import verdict  # noqa: E402
from running_daemon import running_daemon  # noqa: E402
from steady import Steady, at, port_of, welcomed  # noqa: E402

FLOOD = 4096
SUM, SPIN = 1, 3  # of bench/work.h
SPINS = 100  # microseconds
NUMBERS = [1, 2, 3, 4]
REPLY_ID = 10  # where it begins: 131 104 3 119 5 "reply"
LIMITS = {"in_flight": FLOOD, "queue": FLOOD}


@dataclass(frozen=True)
class Load:
    """What both ask."""

    name: str
    command: int
    params: Term
    expected: Term
    key: int | None = None
    each: float = SPINS  # us
    in_c: bool = False  # the flood is bench/load.c: Python is slower than the host

    @property
    def options(self) -> dict[Term, Term] | None:
        return None if self.key is None else {Atom("key"): self.key}


LOADS = {
    load.name: load
    for load in (
        Load("100 us", SPIN, SPINS, (Atom("ok"), SPINS)),
        Load("100 us, one key", SPIN, SPINS, (Atom("ok"), SPINS), 0),
        Load("short", SUM, NUMBERS, (Atom("ok"), 10), each=1, in_c=True),
        Load("short, one key", SUM, NUMBERS, (Atom("ok"), 10), 0, each=1),
    )
}


def id_in(frame: memoryview) -> int:
    """Of a reply, or of a refusal, whose atom is one longer."""
    at_id = REPLY_ID + (frame[4] - 5)
    return frame[at_id + 1] if frame[at_id] == 97 else int(struct.unpack_from(">i", frame, at_id + 1)[0])


def flood(port: int, load: Load) -> None:
    """Until it is ended: for each answer the same call again."""
    calls = [wire.call(i, load.command, load.params, load.options) for i in range(FLOOD)]
    sock = welcomed(port, "work", b"".join(calls))
    buffer = b""
    print("ready", flush=True)
    while data := sock.recv(1 << 18):
        buffer += data
        view, taken, again = memoryview(buffer), 0, []
        while len(buffer) - taken >= 4 and len(buffer) - taken >= 4 + (size := int.from_bytes(view[taken : taken + 4])):
            again.append(calls[id_in(view[taken + 4 : taken + 4 + size])])
            taken += 4 + size
        view.release()
        buffer = buffer[taken:]
        sock.sendall(b"".join(again))


@contextmanager
def flooded(port: int, load: Load) -> Iterator[None]:
    command = [sys.executable, __file__, "flood", str(port), load.name]
    if load.in_c:
        command = [str(compiled.load()), "-a", f"tcp:{port}", "-i", "work", "-d", str(FLOOD), "-s", "3600"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            if not load.in_c and process.stdout.readline() != "ready\n":
                raise SystemExit("the flood did not begin")
            yield
        finally:
            process.kill()


def beside(port: int, load: Load, seconds: float, rounds: int) -> list[str]:
    """Alone and flooded, in turns."""
    alone, crowded = list[list[float]](), list[list[float]]()
    steady = Steady(port, "work")
    ask = (load.command, load.params, load.expected, load.options)
    steady.measure(seconds / 4, *ask)
    for _ in range(rounds):
        alone.append(steady.measure(seconds, *ask))
        with flooded(port, load):
            crowded.append(steady.measure(seconds, *ask))
    steady.close()
    told = [f"{load.name:16}"]
    for name, share in (("p50", 0.5), ("p99", 0.99)):
        before, after = (statistics.median(at(one, share) for one in each) for each in (alone, crowded))
        told.append(f"{name} {before:8.0f} us alone, {after:8.0f} us beside the flood: {after / before:6.2f}x")
    print("; ".join(told), f"({sum(map(len, crowded))} calls, {len(steady.wrong)} refused)", flush=True)
    problems = [f"{load.name}: {len(steady.wrong)} calls, as {steady.wrong[0]!r}"] if steady.wrong else []
    if statistics.median(at(one, 0.5) for one in crowded) > FLOOD * load.each / 2 + 10_000:
        problems.append(f"{load.name}: it waits for all of the flood")
    return problems


def main() -> int:
    if sys.argv[1:2] == ["flood"]:
        flood(int(sys.argv[2]), LOADS[sys.argv[3]])
        return 0
    seconds, rounds = (float(sys.argv[1]), int(sys.argv[2])) if len(sys.argv) > 2 else (2.0, 5)
    problems = []
    instance: dict[str, object] = {"driver": str(compiled.counted()), "threads": 4, "limits": LIMITS}
    with (
        tempfile.TemporaryDirectory(prefix="gendriverd-soak-") as directory,
        running_daemon(Path(directory), {"work": instance}) as daemon,
    ):
        for load in LOADS.values():
            problems += beside(port_of(daemon.tcp_url), load, seconds, rounds)
    return verdict(problems)


if __name__ == "__main__":
    sys.exit(main())
