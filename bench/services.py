# SPDX-License-Identifier: MIT
"""What stands outside the VM: a real daemon, the raw echo, epmd and the C node. Started when first asked for.

A service of another engineer's making is one more generator in SERVICES.
"""

from __future__ import annotations

import importlib.util
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from certificates import Authority
from running_daemon import running_daemon
from vm import SystemTrouble

PEERS = Path(__file__).resolve().parent / "peers"
# All else is default: four threads. What is raised lets 64 MiB through, and 10,000 clients stay.
LIMITS = {
    "frame": "80MiB",
    "reply": "80MiB",
    "in_flight_bytes": "256MiB",
    "unsent_bytes": "4MiB",
    "connections": 20000,
}


@dataclass
class Service:
    """A running one: how it is reached, and the processes that serve."""

    tcp: str = ""
    unix: str = ""
    pids: tuple[int, ...] = ()
    host: int = 0  # of gendriverd: the process that runs the driver
    name: str = ""
    tls: str = ""
    ca: str = ""  # file: who may sign for it


@contextmanager
def child(command: Sequence[str], env: dict[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
    """A program that serves until its standard input ends; started means that it has said its first line."""
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env) as process:
        try:
            yield process
        finally:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def first_line(process: subprocess.Popen[str], what: str) -> str:
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    if not line:
        raise SystemTrouble(f"{what} did not start")
    return line


@contextmanager
def daemon(bed: Bed) -> Iterator[Service]:
    """gendriverd with the bench's driver."""
    instance = {"driver": bed.built / "driver.so", "limits": LIMITS}
    with (
        tempfile.TemporaryDirectory(prefix="gendriverd-bench-") as directory,
        running_daemon(Path(directory), {"work": instance}) as running,
    ):
        host = running.host_pid("work")
        yield Service(running.tcp_url, running.unix_url, (running.pid, host), host)


@contextmanager
def tls(bed: Bed) -> Iterator[Service]:
    """A daemon with TLS before the bench's driver."""
    instance = {"driver": bed.built / "driver.so", "limits": LIMITS}
    with tempfile.TemporaryDirectory(prefix="gendriverd-bench-") as name:
        directory = Path(name)
        authority = Authority(directory)
        ours = authority.issue("localhost", hosts=["localhost"])
        files = {"certificate": ours.certificate, "key": ours.key}
        with running_daemon(directory, {"work": instance}, tls=files) as running:
            host, front = running.host_pid("work"), int(running.wait_event("tls_ready")["pid"])
            url = running.tls_url.replace("127.0.0.1", "localhost")
            yield Service(pids=(running.pid, host, front), host=host, tls=url, ca=str(authority.file))


@contextmanager
def echo(bed: Bed) -> Iterator[Service]:
    """The raw echo: the ceiling."""
    with (
        tempfile.TemporaryDirectory(prefix="gendriverd-bench-") as directory,
        child([str(bed.built / "echo"), f"{directory}/echo.sock"]) as process,
    ):
        port = first_line(process, "peers/echo.c")
        yield Service(f"tcp://127.0.0.1:{port}", f"unix:{directory}/echo.sock", (process.pid,))


@contextmanager
def naive(bed: Bed) -> Iterator[Service]:
    """trio, erlang-py and a thread."""
    with (
        tempfile.TemporaryDirectory(prefix="gendriverd-bench-") as directory,
        child([sys.executable, str(PEERS / "naive.py"), str(bed.built / "sum.so"), f"{directory}/naive"]) as process,
    ):
        port = first_line(process, "peers/naive.py")
        yield Service(f"tcp://127.0.0.1:{port}", f"unix:{directory}/naive", (process.pid,))


@contextmanager
def grpcio(bed: Bed) -> Iterator[Service]:
    """A gRPC server in Python."""
    if importlib.util.find_spec("grpc") is None:
        raise SystemTrouble("grpcio is not there: pip install -e '.[bench]'")
    with child([sys.executable, str(PEERS / "grpc_server.py"), str(bed.built / "sum.so")]) as process:
        yield Service(f"127.0.0.1:{first_line(process, 'peers/grpc_server.py')}", pids=(process.pid,))


@contextmanager
def cnode(bed: Bed) -> Iterator[Service]:
    """The C node, known to the bench's own epmd."""
    bed.service("epmd")
    command = [str(bed.built / "cnode"), "bench_c", "bench"]
    with child(command, {"ERL_EPMD_PORT": str(bed.epmd_port)}) as process:
        yield Service(name=first_line(process, "peers/cnode.c"), pids=(process.pid,))


@contextmanager
def epmd(bed: Bed) -> Iterator[Service]:
    """An epmd of our own, which no other node on this machine knows of."""
    command = ["epmd", "-port", str(bed.epmd_port), "-address", "127.0.0.1"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            await_port(bed.epmd_port)
            yield Service(pids=(process.pid,))
        finally:
            process.terminate()
            process.wait(10)


def await_port(port: int, seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.monotonic() > end:
                raise SystemTrouble(f"nothing listens on port {port} after {seconds:g} s") from None
            time.sleep(0.01)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


SERVICES: dict[str, Callable[[Bed], AbstractContextManager[Service]]] = {
    "daemon": daemon,
    "tls": tls,
    "echo": echo,
    "naive": naive,
    "grpcio": grpcio,
    "cnode": cnode,
    "epmd": epmd,
}


@dataclass
class Bed:
    """The services of one placement, each started once."""

    built: Path  # drivers and peers
    stack: ExitStack
    epmd_port: int = field(default_factory=free_port)
    running: dict[str, Service] = field(default_factory=dict)

    def service(self, name: str) -> Service:
        if name not in self.running:
            self.running[name] = self.stack.enter_context(SERVICES[name](self))
        return self.running[name]
