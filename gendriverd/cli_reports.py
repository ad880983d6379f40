# SPDX-License-Identifier: MIT
"""`gendriverd reports`: the deaths of hosts, listed, and one of them for a person to read."""

from __future__ import annotations

import base64
import hashlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from gendriverd import erlterm, etf
from gendriverd.log import clean_text
from gendriverd.reports import Report, find, stored
from gendriverd.symbols import Symbols

TERM_SHOWN = 2000  # characters of the params


def list_reports(directory: Path) -> int:
    """One line each, oldest first."""
    reports = stored(directory)
    for report in reports:
        print(clean_text(_line(report)))
    if not reports:
        print(f"no reports in {directory}", file=sys.stderr)
    return 0


def show_report(directory: Path, wanted: str) -> int:
    """Exit code 1 when there is none, or more than one that begins so."""
    report = find(directory, wanted)
    if report is None:
        known = "; gendriverd reports lists them" if stored(directory) else ""
        print(f"gendriverd reports: no report {wanted!r} in {directory}{known}", file=sys.stderr)
        return 1
    for line in _told(report):
        print(clean_text(line).replace("\\t", "    "))
    return 0


def _line(report: Report) -> str:
    culprit = report.get("culprit")
    did = f"{_command(culprit)}, {culprit.get('outcome')}" if culprit else "not known which request"
    return f"{report.get('id')}  {report.get('reason')}  {did}"


def _command(request: dict[str, Any]) -> str:
    name = request.get("name")
    return f"{request.get('kind')} of command {request.get('command')}" + (f" ({name})" if name else "")


def _told(report: Report) -> Iterator[str]:
    yield f"report {report.get('id')}"
    yield f"{report.get('time')}: instance {report.get('instance')}, generation {report.get('generation')}"
    yield f"how: {report.get('reason')}"
    yield f"driver: {report.get('driver')}{_changed(report)}"
    if report.get("core"):
        yield f"core: {report.get('core')}"
    culprit = report.get("culprit")
    if culprit is None:
        yield f"request: not known: {report.get('culprit_unknown')}"
    else:
        yield f"request: {_command(culprit)}, told {culprit.get('outcome')}"
        yield from _about(culprit)
        yield f"  params: {_params(culprit)}"
        if culprit.get("quarantined"):
            yield "  this request is refused from now on (quarantine)"
    fault = report.get("fault")
    if fault is not None:
        yield f"fault: address {fault.get('address')}, si_code {fault.get('si_code')}, thread {fault.get('thread')}"
        yield from _trace(fault.get("trace", []), report)
    others = [each for each in report.get("running", []) if culprit is None or each["number"] != culprit["number"]]
    yield f"others: {len(others)} running, {report.get('queued')} waiting"
    for each in others:
        where = f"worker {each.get('worker')}{' (abandoned)' if each.get('abandoned') else ''}"
        yield f"  {_command(each)}, {where}, for {each.get('running_ms')} ms, {each.get('peer')}"
    if report.get("loop_busy_ms") is not None:
        yield f"its loop: at work without a pause for {report['loop_busy_ms']} ms when it was put down"
    yield from command_lines(report.get("commands") or [])
    usage = report.get("usage")
    if usage:
        seconds = f"{usage['user_s']:.3f} s user, {usage['system_s']:.3f} s system"
        yield f"used: {seconds}, {usage['max_rss_kib']} KiB at most"
    yield "its last lines:"
    for line in report.get("log", []):
        yield "  " + " ".join(f"{key}={value}" for key, value in line.items())


def command_lines(commands: list[dict[str, Any]]) -> Iterator[str]:
    """For people: what had run, and what it cost."""
    if not commands:
        return
    heads = ("calls", "casts", "failed", "by loop", "overtaken", "waited: p50", "p99", "max", "ran: p50", "p99", "max")
    yield "what had run, by command; times in ms:"
    yield _row("command", heads)
    for each in commands:
        name = "(others)" if each.get("number") is None else each.get("name") or str(each["number"])
        times = [each[part].get(share) for part in ("queued_ms", "running_ms") for share in ("p50", "p99", "max")]
        counts = [each.get(count) for count in ("calls", "casts", "failed", "by_loop", "taken_over")]
        yield _row(name, [*counts, *times])


def _row(name: str, cells: Sequence[object]) -> str:
    return f"  {name:20}" + "".join(f" {'-' if cell is None else cell:>11}" for cell in cells)


def _about(request: dict[str, Any]) -> Iterator[str]:
    abandoned = " (abandoned)" if request.get("abandoned") else ""
    yield f"  id {request.get('id')}, worker {request.get('worker')}{abandoned}, {request.get('peer')}"
    yield f"  waited {request.get('queued_ms')} ms, ran {request.get('running_ms')} ms"


def _params(request: dict[str, Any]) -> str:
    about = f"{request.get('params_bytes')} bytes, sha256 {request.get('params_sha256')}"
    if not request.get("params"):
        return about
    try:
        term = erlterm.format(etf.decode(b"\x83" + base64.b64decode(request["params"])))
    except (etf.EtfError, ValueError):
        return about
    return f"{about}\n    {term if len(term) <= TERM_SHOWN else term[:TERM_SHOWN] + '...'}"


def _trace(places: list[dict[str, Any]], report: Report) -> Iterator[str]:
    known: dict[str, Symbols] = {}
    for place in places:
        file = place.get("file")
        if file is None:
            yield f"  {place.get('address')}"
            continue
        symbols = known.setdefault(file, Symbols(Path(file)))
        told = report.get("driver") if file == report.get("loaded") else file
        yield f"  {symbols.name(int(place['offset'], 16)) or '?'}  {told} at {place['offset']}"


def _changed(report: Report) -> str:
    """The names below are those of the file that was loaded: the snapshot, or what is there now."""
    try:
        with Path(str(report.get("loaded"))).open("rb") as file:
            now = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return " (is not there any more)"
    return "" if now == report.get("driver_sha256") else " (has changed since: names in the trace may be wrong)"
