# SPDX-License-Identifier: MIT
"""Reports: a file for each host that died, which says how, where, and which request did it; for the person on duty.

JSON, mode 0600, bounded in number and size. The bytes of a request are only in it where the configuration says so: they
may hold secrets. Addresses are kept with the file they lie in, and looked up when somebody reads the report.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import re
import signal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from gendriverd.aftermath import Guilt
from gendriverd.launch import Exit, Host
from gendriverd.recorder import Death, Record, Request, State
from gendriverd.statistics import Command, Statistics, Timing

MAPS_MAX = 4096  # lines that are read,
MAPS_BYTES = 1 << 20  # of so many bytes: a driver may give its files long names
MODULES_MAX = 256
LINES_MAX = 50  # of the host's last words
HASHED_MAX = 256 << 20  # bytes of a driver: a larger one is not hashed
_ID = re.compile(r"[A-Za-z0-9_-]{1,100}-\d{8}T\d{6}-\d{1,9}")
_MAP = re.compile(r"([0-9a-f]+)-([0-9a-f]+) r-xp ([0-9a-f]+) \S+ \d+ +(/.*)")

Report = dict[str, Any]


def modules(maps: int) -> list[tuple[int, int, int, str]]:
    """The code a process has mapped now, of its /proc/PID/maps: begin, end, offset in the file, file."""
    with contextlib.suppress(OSError), open(maps, "rb", closefd=False) as file:
        lines = file.read(MAPS_BYTES).decode("utf-8", "replace").split("\n")[:-1]  # the last is empty, or cut
        found = [match for line in lines[:MAPS_MAX] if (match := _MAP.match(line))]
        return [(int(m[1], 16), int(m[2], 16), int(m[3], 16), m[4]) for m in found[:MODULES_MAX]]
    return []


def make(
    statistics: Statistics,
    *,
    when: datetime,
    now: int,
    instance: str,
    generation: int,
    driver: str,
    loaded: str,
    names: Mapping[str, int],
    host: Host,
    end: Exit,
    reason: str,
    record: Record,
    quarantined: bool,
    loop_busy: float | None,
    guilt: Guilt | None,
    peers: Mapping[int, str],
    mapped: Sequence[tuple[int, int, int, str]],
    lines: Iterable[Mapping[str, Any]],
    full: bool,
) -> Report:
    """What is known of a death, as plain values. `when` and `now` (ns of CLOCK_MONOTONIC) are the time it was."""
    death = record.death
    running = [request for request in record.requests if request.state is State.RUNNING or request.abandoned]
    report: Report = {
        "id": f"{instance}-{when:%Y%m%dT%H%M%S}-{generation}",
        "time": when.isoformat(timespec="milliseconds"),
        "instance": instance,
        "generation": generation,
        "driver": driver,
        "loaded": loaded,
        "driver_sha256": _sha256(Path(loaded)),
        "pid": host.pid,
        "reason": reason,
        "exit_code": end.code,
        "signal": end.signal,
        "core": _core(host.pid, end) if end.core else None,
        "culprit": None if guilt is None else _request(guilt.request, names, peers, now),
        "culprit_unknown": None if guilt is not None else _why_unknown(death, end),
        "running": [_request(request, names, peers, now) for request in running],
        "queued": sum(request.state is State.QUEUED for request in record.requests),
        "loop_busy_ms": _ms(loop_busy),
        "commands": commands(statistics, names),
        "usage": _usage(host),
        "log": list(lines)[-LINES_MAX:],
    }
    if guilt is not None:
        report["culprit"] |= {"outcome": guilt.reason, "quarantined": quarantined}
        report["culprit"] |= _params(guilt.request, death, full=full)
    if death is not None:
        report["fault"] = {
            "address": hex(death.address),
            "si_code": death.code,
            "thread": death.thread,
            "trace": [_place(address, mapped) for address in (death.pc, *death.trace)],
        }
    return report


def write(directory: Path, report: Report, most: int) -> Path:
    """Into the directory, which is made; the oldest beyond `most` go. Raises OSError."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = directory / f"{report['id']}.json"
    hidden = path.with_suffix(".new")
    fd = os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        file.write(json.dumps(report, default=str) + "\n")
    hidden.rename(path)
    files = [*_files(directory)]
    if len(files) > most:
        for old in sorted(files, key=_age)[:-most]:
            old.unlink(missing_ok=True)
    return path


def _age(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:  # another report's writer has just removed it
        return 0.0


def stored(directory: Path) -> list[Report]:
    """All that can be read, oldest first."""
    found = []
    for file in _files(directory):
        with contextlib.suppress(OSError, ValueError):
            found.append(json.loads(file.read_text(encoding="utf-8")))
    return sorted(found, key=lambda report: str(report.get("time")))


def find(directory: Path, wanted: str) -> Report | None:
    """By its id, or what it begins with if no other does; `last` is the newest."""
    reports = stored(directory)
    if wanted == "last":
        return reports[-1] if reports else None
    close = [report for report in reports if str(report.get("id")).startswith(wanted)]
    exact = [report for report in close if report.get("id") == wanted]
    return (exact or close)[0] if exact or len(close) == 1 else None


def _files(directory: Path) -> Iterator[Path]:
    with contextlib.suppress(OSError):
        yield from (file for file in directory.iterdir() if file.suffix == ".json" and _ID.fullmatch(file.stem))


def _request(request: Request, names: Mapping[str, int], peers: Mapping[int, str], now: int) -> dict[str, Any]:
    started = request.started_at or now
    return {
        "command": request.command,
        "name": _name(request.command, names),
        "kind": "call" if request.call else "cast",
        "id": request.id if request.call else None,
        "number": request.number,
        "worker": request.seat,
        "connection": request.conn,
        "peer": peers.get(request.conn),
        "queued_ms": round(max(0, started - request.queued_at) / 1e6, 3),
        "running_ms": round(max(0, now - started) / 1e6, 3),
        "params_bytes": request.params_len,
        "abandoned": request.abandoned,
        "parts": request.parts,
    }


def _name(command: int | None, names: Mapping[str, int]) -> str | None:
    return next((name for name, number in names.items() if number == command), None)


def commands(statistics: Statistics, names: Mapping[str, int]) -> list[dict[str, Any]]:
    """What has run, as plain values; milliseconds."""
    return [_command(each, names) for each in statistics.commands.values()]


def _command(command: Command, names: Mapping[str, int]) -> dict[str, Any]:
    return {
        "name": _name(command.number, names),
        "number": command.number,
        "calls": command.calls,
        "casts": command.casts,
        "failed": command.failed,
        "by_loop": command.by_loop,
        "taken_over": command.taken_over,
        "queued_ms": _quantiles(command.waited),
        "running_ms": _quantiles(command.ran),
    }


def _quantiles(timing: Timing) -> dict[str, float | None]:
    return {"p50": _ms(timing.quantile(0.5)), "p99": _ms(timing.quantile(0.99)), "max": _ms(timing.most)}


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1e3, 4)


def _params(request: Request, death: Death | None, *, full: bool) -> dict[str, Any]:
    params = request.params if death is None or death.params is None else death.params
    if params is None:
        return {"params_sha256": None, "params": None}
    text = base64.b64encode(params).decode() if full else None
    return {"params_sha256": hashlib.sha256(params).hexdigest(), "params": text}


def _why_unknown(death: Death | None, end: Exit) -> str:
    if death is None:
        how = "it was killed" if end.signal == "SIGKILL" else "it ended without a word of its own"
        return f"{how}: no thread of it could say what it was running"
    return "the thread that died was running no request: one of the driver's own, or of the host"


def _place(address: int, mapped: Sequence[tuple[int, int, int, str]]) -> dict[str, Any]:
    for begin, end, offset, file in mapped:
        if begin <= address < end:
            return {"address": hex(address), "file": file, "offset": hex(address - begin + offset)}
    return {"address": hex(address)}


def _usage(host: Host) -> dict[str, float] | None:
    usage = host.usage
    if usage is None:
        return None
    return {"user_s": usage.ru_utime, "system_s": usage.ru_stime, "max_rss_kib": usage.ru_maxrss}


def _core(pid: int, end: Exit) -> str:
    """Where its core file is, as far as core(5) tells; what we cannot know of the name is a `*`."""
    pattern = Path("/proc/sys/kernel/core_pattern").read_text(encoding="utf-8", errors="replace").strip()
    if pattern.startswith("|"):
        program = pattern[1:].split()[0]
        return f"coredumpctl info {pid}" if program.endswith("systemd-coredump") else f"given to {program}"
    known = {"p": str(pid), "P": str(pid), "u": str(os.getuid()), "g": str(os.getgid()), "%": "%"}
    known["s"] = str(getattr(signal, end.signal or "", "*"))
    name = re.sub("%(.)", lambda match: known.get(match[1], "*"), pattern)
    if "%p" not in pattern and Path("/proc/sys/kernel/core_uses_pid").read_text().strip() != "0":
        name += f".{pid}"
    return str(Path.cwd() / name)


def _sha256(file: Path) -> str | None:
    try:
        if file.stat().st_size > HASHED_MAX:
            return None
        with file.open("rb") as data:
            return hashlib.file_digest(data, "sha256").hexdigest()
    except OSError:
        return None
