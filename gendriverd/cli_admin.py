# SPDX-License-Identifier: MIT
"""`gendriverd reload` and `gendriverd status`: ask the daemon on its admin socket, and print what it answers."""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from gendriverd.admin import ANSWER_MAX
from gendriverd.cli_reports import command_lines
from gendriverd.errors import ConfigError, ExitCode, GendriverdError
from gendriverd.log import clean_text

FAILED = frozenset({"kept", "failed"})
COLUMNS = ("INSTANCE", "STATE", "GENERATION", "PID", "READY FOR", "CLIENTS", "DEATHS", "LAST EXIT")
UNITS = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))

Answer = dict[str, Any]


class Unanswered(GendriverdError):
    """The daemon did not answer on its socket."""

    def __init__(self, sentence: str, exit_code: ExitCode = ExitCode.UNAVAILABLE) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code


class Unwilling(GendriverdError):
    """It answered that it will not."""


def run_reload(path: str, instance: str | None, timeout: float) -> int:
    """One line an instance; 0, 1 when any failed, 78 when the configuration is wrong and nothing has changed."""
    answer = ask(path, {"do": "reload", "instance": instance}, timeout)
    if "problems" in answer:
        raise ConfigError([clean_text(problem) for problem in answer["problems"]], ExitCode(answer["exit_code"]))
    for key in answer["needs_restart"]:
        print(clean_text(f"gendriverd: [daemon] {key} changed: takes effect at the next start"), file=sys.stderr)
    for name, outcome in answer["instances"].items():
        print(clean_text(f"{name}: {_said(outcome)}"))
    failed = any(outcome["what"] in FAILED for outcome in answer["instances"].values())
    return ExitCode.FAILED if failed else ExitCode.OK


def run_status(path: str, instance: str | None, timeout: float, *, as_json: bool) -> int:
    """0 when every instance, or this one, runs, 3 when no daemon answers, 77 when that cannot be known, else 1."""
    try:
        answer = ask(path, {"do": "status", "instance": instance}, timeout)
    except Unanswered as error:
        if error.exit_code is ExitCode.NO_PERMISSION:
            raise
        print(f"gendriverd: {error}", file=sys.stderr)
        return ExitCode.NOT_RUNNING
    if as_json:
        print(json.dumps(answer, indent=2))
    else:
        for line in _told(answer):
            print(clean_text(line))
    running = all(each["state"] == "running" for each in answer["instances"].values())
    return ExitCode.OK if running else ExitCode.FAILED


def ask(path: str, question: dict[str, object], timeout: float) -> Answer:
    """Raises Unanswered, Unwilling."""
    where = "--admin or [daemon] admin in --config say where it is"
    if not path:
        raise Unanswered(f"[daemon] admin is empty: this daemon has no admin socket; {where}")
    try:
        line = _exchange(path, json.dumps(question).encode() + b"\n", timeout)
        answer = dict(json.loads(line))
    except PermissionError as error:
        sentence = f"{path}: {error.strerror}: only root and the daemon's user may ask it"
        raise Unanswered(sentence, ExitCode.NO_PERMISSION) from error
    except TimeoutError:
        raise Unanswered(f"{path}: no answer within {timeout:g} s; what was asked for may still be done") from None
    except OSError as error:
        raise Unanswered(f"{path}: no daemon answers: {error.strerror or error}; {where}") from error
    except (ValueError, TypeError):
        raise Unanswered(f"{path}: the daemon left without an answer") from None
    if "error" in answer:
        raise Unwilling(clean_text(answer["error"]))
    return answer


def _exchange(path: str, question: bytes, timeout: float) -> bytes:
    """The answer's line, or what came of it. Raises OSError."""
    end, heard = time.monotonic() + timeout, b""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as daemon:
        daemon.settimeout(max(timeout, 0.001))
        daemon.connect(path)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # refused: its sentence is there
            daemon.sendall(question)
        while not heard.endswith(b"\n") and len(heard) <= ANSWER_MAX:
            daemon.settimeout(max(end - time.monotonic(), 0.001))
            chunk = daemon.recv(65536)
            if not chunk:
                break
            heard += chunk
    return heard


def _said(outcome: dict[str, Any]) -> str:
    said = {
        "started": f"started (generation {outcome['generation']})",
        "reloaded": f"reloaded (generation {outcome['generation']})",
        "kept": f"kept the old one: {outcome['reason']}",
        "failed": f"failed: {outcome['reason']}",
    }
    return said.get(outcome["what"], str(outcome["what"]))


def _told(answer: Answer) -> Iterator[str]:
    daemon = answer["daemon"]
    yield f"gendriverd {daemon['version']}, pid {daemon['pid']}, up {_duration(daemon['uptime'])}"
    if tls := answer.get("tls"):
        yield _told_of_tls(tls)
    rows = [COLUMNS, *(_row(name, each) for name, each in answer["instances"].items())]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
    for each in answer["instances"].values():
        yield from command_lines(each.get("commands") or [])


def _told_of_tls(tls: dict[str, Any]) -> str:
    pid = "" if tls["pid"] is None else f", pid {tls['pid']}"
    whose = ", ".join(tls["certificate"]) or "without names"
    return (
        f"TLS {tls['state']}{pid}, {tls['handed_over']} clients handed over; certificate {whose}, until {tls['until']}"
    )


def _row(name: str, about: dict[str, Any]) -> Sequence[str]:
    hosts = about["hosts"]
    ready = [_duration(host["ready_for"]) for host in hosts if host["ready_for"] is not None]
    last = about["last_exit"] if about["state"] == "running" else about["trouble"]
    return (
        name,
        about["state"],
        str(about["generation"]),
        ",".join(str(host["pid"]) for host in hosts) or "-",
        ",".join(ready) or "-",
        str(sum(host["connections"] for host in hosts)),
        str(about["deaths"]),
        last or "-",
    )


def _duration(seconds: float) -> str:
    """Its two largest units: 3h12m."""
    left, parts = int(seconds), list[str]()
    for length, unit in UNITS:
        if left >= length or parts:
            parts.append(f"{left // length}{unit}")
            left %= length
    return "".join(parts[:2]) or "0s"
