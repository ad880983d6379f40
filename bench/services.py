# SPDX-License-Identifier: MIT
"""What stands outside the VM: a real daemon, the raw echo, epmd and the C node. Started when first asked for.

A service of another engineer's making is one more generator in SERVICES.
"""

from __future__ import annotations

import importlib.util
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

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

CERTIFICATE = (
    *("openssl", "req", "-x509", "-days", "2"),
    *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc"),
)
AUTHORITY = ("-subj", "/CN=bench", "-keyout", "ca.key", "-out", "ca.pem")
OF_LOCALHOST = (
    *("-CA", "ca.pem", "-CAkey", "ca.key", "-keyout", "key.pem", "-out", "cert.pem"),
    *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
    *("-addext", "basicConstraints=critical,CA:FALSE"),
)
STUNNEL = """foreground = quiet
pid =
socket = l:TCP_NODELAY=1
sslVersionMin = TLSv1.3
cert = {directory}/cert.pem
key = {directory}/key.pem
[front]
accept = 127.0.0.1:{port}
connect = {path}
"""


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
    """The same daemon behind stunnel, which ends TLS and hands the bytes on to its unix socket."""
    if shutil.which("stunnel") is None or shutil.which("openssl") is None:
        raise SystemTrouble("stunnel is not there: apt-get install stunnel4")
    behind, port = bed.service("daemon"), free_port()
    with tempfile.TemporaryDirectory(prefix="gendriverd-bench-") as directory:
        ca, conf = Path(directory) / "ca.pem", Path(directory) / "stunnel.conf"
        for of in (AUTHORITY, OF_LOCALHOST):
            subprocess.run([*CERTIFICATE, *of], check=True, capture_output=True, cwd=directory)
        conf.write_text(STUNNEL.format(port=port, path=behind.unix.removeprefix("unix:"), directory=directory))
        with subprocess.Popen(["stunnel", str(conf)], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as front:
            try:
                await_port(port)
                pids = (*behind.pids, front.pid)
                yield Service(pids=pids, host=behind.host, tls=f"tls://localhost:{port}", ca=str(ca))
            finally:
                front.terminate()
                front.wait(10)


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
