# SPDX-License-Identifier: MIT
"""Every system that is compared: how it is opened, and which workloads mean something for it.

A new one is one more line in SYSTEMS. One whose callers do not live in the VM says `open` itself, with something that
has the methods of `Opened`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from gendriverd.etf import Atom
from services import Bed, Service
from vm import SystemTrouble, Vm
from workers import workers

CALLERS = (1, 16, 128, 1024)
BYTES = (64, 1024, 16384, 262144, 1048576, 4194304, 16777216, 67108864)
MICROSECONDS = (10, 100, 1000)
TRANSFER = 256 * 1024 * 1024
LARGE = 1024 * 1024
LATENCY = {"latency": (1,)}
CALLS = {"calls": CALLERS}
CASTS = {"casts": (1,)}
PAYLOAD = {"payload": BYTES}
CPU = {"cpu": MICROSECONDS}
MIXED = {"mixed sizes": (0, LARGE), "mixed times": (90,)}
BLOCKING = {"mixed times": (90,)}
IDLE = {"idle connections": (0, 1000, 10000)}

Workloads = Mapping[str, tuple[int, ...]]
Result = dict[str, float]


class Opened(Protocol):
    """A system that is there, and has proved that it answers right."""

    pids: tuple[int, ...]  # processes that serve, and the callers' own: whose CPU time a request costs
    service: Service

    def check(self) -> None: ...
    def run(self, workload: str, x: int, warm: int, window: int) -> Result: ...
    def close(self) -> None: ...


@dataclass(frozen=True)
class System:
    """A row of the tables."""

    name: str
    workloads: Workloads
    module: str = ""  # of bench/erlang
    service: str = ""
    args: Callable[[Bed, Service], dict[str, object]] = lambda _bed, _service: {}
    words: tuple[str, ...] = ("sum", "echo", "spin")  # what it must do right
    callers: int = 0  # how many the VM starts, where that is not x
    also: Mapping[str, Mapping[str, object]] = field(default_factory=dict)  # further clients of it, by workload
    open: Callable[[System, Bed, Vm], Opened] | None = None
    required: bool = True  # in CI: what needs only C and Erlang

    def opened(self, bed: Bed, vm: Vm) -> Opened:
        return self.open(self, bed, vm) if self.open else VmClients(self, bed, vm)


class VmClients:
    """A system whose callers live in the VM, and the client they share."""

    def __init__(self, system: System, bed: Bed, vm: Vm) -> None:
        self.system, self.vm = system, vm
        self.service = bed.service(system.service) if system.service else Service()
        args = system.args(bed, self.service)
        self._names = {"": system.name, **{key: f"{system.name}/{key}" for key in system.also}}
        pids: list[int] = []
        for key, name in self._names.items():
            pids += self._open(name, {**args, **system.also.get(key, {})})
        self.pids = (int(vm.about["pid"]), *self.service.pids, *pids)

    def _open(self, name: str, args: dict[str, object]) -> list[int]:
        terms: dict[object, object] = {Atom(key): value for key, value in args.items()}
        answer = self.vm.ask((Atom("open"), name.encode(), Atom(self.system.module), terms))
        return [int(pid) for pid in answer["pids"]]

    def check(self) -> None:
        for name in self._names.values():
            self.vm.ask((Atom("check"), name.encode(), [Atom(word) for word in self.system.words]))

    def run(self, workload: str, x: int, warm: int, window: int) -> Result:
        name = self._names.get(workload, self.system.name).encode()
        names = [name, self._names["elsewhere"].encode()] if workload in {"mixed times", "parts"} else [name]
        kind, given = of_vm(workload, x)
        if self.system.callers and kind == "calls":
            given = self.system.callers
        return numbers(self.vm.ask((Atom("run"), Atom(kind), names, given, warm, window, self.pids)))

    def close(self) -> None:
        for name in self._names.values():
            self.vm.ask((Atom("close"), name.encode()))


def of_vm(workload: str, x: int) -> tuple[str, object]:
    """What bench_main calls it."""
    if workload == "keyed":
        return "calls", x
    if workload == "idle connections":
        return "latency", 1
    if workload == "mixed times":
        return "mixed_times", (1, 300_000, x)
    return workload.replace(" ", "_"), x


def numbers(answer: dict[str, Any]) -> Result:
    return {key: float(value) for key, value in answer.items()}


def ours(kind: str, way: str, **more: object) -> Callable[[Bed, Service], dict[str, object]]:
    """The arguments of bench_gd: which function is called, over which socket."""
    return lambda _bed, service: {"kind": Atom(kind), "connect": getattr(service, way).encode(), **more}


def over_tls(_bed: Bed, service: Service) -> dict[str, object]:
    """The same, with a peer that proves who it is."""
    return {"kind": Atom("call"), "connect": service.tls.encode(), "ca": service.ca.encode()}


def program(name: str) -> Callable[[Bed, Service], dict[str, object]]:
    """Those of a port or NIF: what was built."""

    def args(bed: Bed, _service: Service) -> dict[str, object]:
        path = bed.built / name
        if not path.with_name(f"{name}.so" if name == "nif" else name).exists():
            raise SystemTrouble(f"{name} could not be built: see above")
        return {"path": str(path).encode()}

    return args


def node(_bed: Bed, service: Service) -> dict[str, object]:
    return {"node": Atom(service.name), "cookie": Atom("bench")}


ELSEWHERE: dict[str, Mapping[str, object]] = {"elsewhere": {}}
KEYED: dict[str, Mapping[str, object]] = {"keyed": {"kind": Atom("keyed")}}
OWN = {"calls": (1, 16, 128)}  # a connection for each caller
PLAIN = {**LATENCY, **CALLS, **CASTS}
FULL = {**PLAIN, **PAYLOAD, **CPU, **MIXED}

SYSTEMS = (
    System("gendriverd tcp plain", PLAIN, "bench_gd", "daemon", ours("plain", "tcp")),
    System(
        "gendriverd tcp",
        {**FULL, **IDLE, "keyed": (128,), "parts": (0, TRANSFER)},
        "bench_gd",
        "daemon",
        ours("call", "tcp"),
        also={**ELSEWHERE, **KEYED},
    ),
    System("gendriverd unix plain", PLAIN, "bench_gd", "daemon", ours("plain", "unix")),
    System("gendriverd unix", {**PLAIN, **PAYLOAD}, "bench_gd", "daemon", ours("call", "unix")),
    System("gendriverd pool 2", {**CALLS, **CPU}, "bench_gd", "daemon", ours("pool", "tcp", size=2)),
    System("gendriverd conn unix", {**LATENCY, **OWN}, "bench_gd", "daemon", ours("conn", "unix")),
    System("gendriverd conn tcp", {**LATENCY, **OWN, **PAYLOAD}, "bench_gd", "daemon", ours("conn", "tcp")),
    System("gendriverd batch 128", {"calls": (128,)}, "bench_gd", "daemon", ours("batch", "tcp"), ("sum",), 1),
    System("gendriverd tls", {**LATENCY, **CALLS}, "bench_gd", "tls", over_tls),
    System("raw tcp", {**FULL, **IDLE}, "bench_gd", "echo", ours("call", "tcp"), also=ELSEWHERE),
    System("raw tcp plain", PLAIN, "bench_gd", "echo", ours("plain", "tcp")),
    System("raw unix", {**PLAIN, **PAYLOAD}, "bench_gd", "echo", ours("call", "unix")),
    System("raw conn unix", {**LATENCY, **OWN}, "bench_gd", "echo", ours("conn", "unix")),
    System("raw conn tcp", {**LATENCY, **OWN, **PAYLOAD}, "bench_gd", "echo", ours("conn", "tcp")),
    System("C node", FULL, "bench_cnode", "cnode", node, also=ELSEWHERE),
    System("port serial", {**PLAIN, **PAYLOAD, **CPU}, "bench_port_serial", args=program("port")),
    System("port mux", FULL, "bench_port_mux", args=program("port"), also=ELSEWHERE),
    System("port best", FULL, "bench_port_drain", args=program("port"), also=ELSEWHERE),
    System(
        "dirty NIF", {**LATENCY, **CALLS, **PAYLOAD, **CPU, **MIXED}, "bench_nif", args=program("nif"), also=ELSEWHERE
    ),
    System("gen_server", {**LATENCY, **CALLS}, "bench_mem", words=("sum", "echo")),
    System("naive trio", {**LATENCY, **CALLS}, "bench_gd", "naive", ours("call", "tcp"), ("sum", "echo")),
    System("gRPC Python", {**LATENCY, **OWN}, service="grpcio", open=workers("grpc", "tcp"), required=False),
    System("Python client", {**LATENCY, **OWN}, service="daemon", open=workers("trio", "tcp")),
    System("Python client unix", {**LATENCY, **OWN}, service="daemon", open=workers("trio", "unix")),
    System("grpcio client", {"calls": (128,)}, service="grpcio", open=workers("grpc", "tcp"), required=False),
)
