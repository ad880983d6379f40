# SPDX-License-Identifier: MIT
"""What a well-behaved client notices of a crowd on its instance: idle connections, slow ones, ones that never read.

    python tests/soak/crowd.py IDLE SLOW DEAF

The crowd is another process, over loopback: IDLE connections that say nothing, SLOW ones whose requests come a byte at
a time, DEAF ones that ask for 4 MiB each and read none of it. In turns: without it, and with it; the median p99 of the
client's calls is to be no more than half as long again. Printed are figures of host and daemon too. It ends with 1
where an answer is wrong, or missing; where descriptors or memory are not given back once the crowd has gone; and, as
machines are noisy, only where the ratio is off by far.
"""

from __future__ import annotations

import contextlib
import os
import resource
import select
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "scripts"), str(ROOT / "bench")]

import proc  # noqa: E402 (its path is set above)
import wire  # noqa: E402
from gendriverd import etf  # noqa: E402
from gendriverd.etf import Atom  # noqa: E402
from paced import verdict  # noqa: E402
from running_daemon import RunningDaemon, running_daemon  # noqa: E402
from steady import Steady, at, port_of  # noqa: E402

ECHO, NUMBER = 1, 12345  # of examples/echo
OK = Atom("ok")
ROUNDS, SECONDS = 3, 4.0
AT_ONCE = 100  # handshakes
TICK, TICKS = 0.02, 10  # seconds; each slow connection sends a byte every so many
DEAF_CALLS, DEAF_BYTES = 64, 64 << 10
QUIET = 0.5  # seconds without a byte taken: no more will be
RATIO, FAR_OFF, NOTICED = 1.5, 3.0, 20_000.0  # the last in microseconds: less is noise on a busy machine
GROWN = 100 << 10  # KiB: that the last crowd may take more than the first; what malloc keeps between is its own affair
SPARE = 200  # descriptors beside the crowd's
PATIENCE = 30.0  # seconds


def many_descriptors(wanted: int) -> None:
    """For us and for what we start. Raises SystemExit where this user may not have so many."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise SystemExit(f"crowd: {wanted} descriptors are needed, and this user may have {hard}: ulimit -Hn")
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


# --- the crowd ---------------------------------------------------------------


def dialled(port: int, receives: int | None) -> socket.socket:
    sock = socket.socket()
    sock.settimeout(wire.DEADLINE)
    if receives is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receives)
    sock.connect(("127.0.0.1", port))
    return sock


def opened(port: int, count: int, receives: int | None = None) -> list[socket.socket]:
    """Welcomed connections; so many shake hands at once. `receives`: bytes that the kernel is to keep for each."""
    hello, socks = etf.frame((Atom("hello"), 1, b"echo", {})), list[socket.socket]()
    while len(socks) < count:
        some = [dialled(port, receives) for _ in range(min(AT_ONCE, count - len(socks)))]
        for sock in some:
            wire.receive(sock)
            sock.sendall(hello)
        for sock in some:
            if (answer := wire.receive(sock))[0] != "welcome":
                raise SystemExit(f"crowd: connection {len(socks)} was told {answer!r}")
        socks += some
    return socks


def trickle(slow: list[socket.socket]) -> None:
    """A byte of a request on some of them at each tick, until our standard input ends."""
    frame = wire.call(1, ECHO, b"slow" * 10)
    sent, tick = [0] * len(slow), 0
    while not select.select([sys.stdin], [], [], TICK)[0]:
        for i in range(tick % TICKS, len(slow), TICKS):
            slow[i].sendall(frame[sent[i] : sent[i] + 1])
            sent[i] = (sent[i] + 1) % len(frame)
            if sent[i] == 0 and wire.receive(slow[i])[0] != "reply":
                raise SystemExit("crowd: a slow request was not answered")
        tick += 1


def ask(deaf: list[socket.socket]) -> None:
    """As much as the service reads."""
    calls = b"".join(wire.call(i, ECHO, b"x" * DEAF_BYTES) for i in range(DEAF_CALLS))
    rest = {sock.fileno(): (sock, memoryview(calls)) for sock in deaf}
    poll = select.poll()
    for sock in deaf:
        sock.setblocking(False)
        poll.register(sock, select.POLLOUT)
    while ready := poll.poll(QUIET * 1000):
        for fd, _ in ready:
            sock, left = rest[fd]
            with contextlib.suppress(BlockingIOError):
                rest[fd] = sock, left[sock.send(left) :]
            if not rest[fd][1]:
                poll.unregister(fd)


def crowd(port: int, idle: int, slow: int, deaf: int) -> None:
    many_descriptors(idle + slow + deaf + SPARE)
    held = opened(port, idle)
    slow_ones = opened(port, slow)
    deaf_ones = opened(port, deaf, 4096)  # or the kernel would take what they do not
    ask(deaf_ones)
    print("ready", flush=True)
    trickle(slow_ones)
    wire.close(held + slow_ones + deaf_ones)


# --- what is measured ----------------------------------------------------------


@contextmanager
def crowded(port: int, sizes: list[int]) -> Iterator[float]:
    """The seconds that it took to come in."""
    began = time.monotonic()
    command = [sys.executable, __file__, "crowd", str(port), *map(str, sizes)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise SystemExit("the crowd did not come")
        yield time.monotonic() - began
        process.stdin.close()
        if process.wait(PATIENCE) != 0:
            raise SystemExit("the crowd ended in trouble")


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208 (numbers, not paths)


def state_of(pids: dict[str, int]) -> str:
    return "; ".join(
        f"{name}: {proc.status(pid, 'VmRSS') / 1024:.1f} MiB, {descriptors(pid)} descriptors,"
        f" {proc.status(pid, 'Threads')} threads"
        for name, pid in pids.items()
    )


def settled(pids: dict[str, int], before: dict[str, int]) -> list[str]:
    """Wait until descriptors are back; those that are not."""
    until = time.monotonic() + PATIENCE
    while left := [name for name, pid in pids.items() if descriptors(pid) > before[name]]:
        if time.monotonic() > until:
            return [f"{name} has {descriptors(pids[name])} descriptors, not {before[name]} as before" for name in left]
        time.sleep(0.05)
    return []


def measure(daemon: RunningDaemon, sizes: list[int]) -> list[str]:
    pids = {"daemon": daemon.pid, "host": daemon.host_pid("echo")}
    port, problems = port_of(daemon.tcp_url), list[str]()
    without, within, resident = list[list[float]](), list[list[float]](), list[int]()
    steady = Steady(port, "echo")
    ask = (ECHO, NUMBER, (OK, NUMBER))
    steady.measure(1.0, *ask)
    before = {name: descriptors(pid) for name, pid in pids.items()}
    print("before:", state_of(pids))
    for turn in range(ROUNDS):
        without.append(steady.measure(SECONDS, *ask))
        with crowded(port, sizes) as came:
            within.append(steady.measure(SECONDS, *ask))
            print(f"round {turn + 1}: all there after {came:.1f} s; {state_of(pids)}", flush=True)
            resident.append(proc.status(pids["host"], "VmRSS"))
        problems += settled(pids, before)
    print("after: ", state_of(pids))
    if resident[-1] - resident[0] > GROWN:
        problems.append(f"the host grew by {(resident[-1] - resident[0]) >> 10} MiB from the first crowd to the last")
    problems += [f"the client was told {answer!r}" for answer in steady.wrong]
    steady.close()
    return problems + compared(without, within)


def compared(without: list[list[float]], within: list[list[float]]) -> list[str]:
    ratio, told = 0.0, 0.0
    for name, share in (("p50", 0.5), ("p99", 0.99)):
        alone, beside = (statistics.median(at(one, share) for one in each) for each in (without, within))
        ratio, told = beside / alone, beside
        print(f"{name}: {alone:.0f} us without, {beside:.0f} us with the crowd: {ratio:.2f}x")
    print(f"the ratio of p99: {ratio:.2f} (at most {RATIO})")
    return ["it is off by far"] if ratio > FAR_OFF and told > NOTICED else []


def main() -> int:
    if sys.argv[1:2] == ["crowd"]:
        port, *numbers = map(int, sys.argv[2:])
        crowd(port, *numbers)
        return 0
    sizes = [int(argument) for argument in sys.argv[1:4]] if len(sys.argv) > 3 else [10_000, 500, 200]
    many_descriptors(sum(sizes) + SPARE)
    drivers = Path(os.environ.get("GENDRIVERD_DRIVERS") or ROOT / "build/drivers")
    limits = {"connections": sum(sizes) + 20}
    instance: dict[str, object] = {"driver": str(drivers / "echo.so"), "limits": limits}
    with (
        tempfile.TemporaryDirectory(prefix="gendriverd-soak-") as directory,
        running_daemon(Path(directory), {"echo": instance}) as daemon,
    ):
        return verdict(measure(daemon, sizes))


if __name__ == "__main__":
    sys.exit(main())
