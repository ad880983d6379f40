# SPDX-License-Identifier: MIT
"""The log: one line an event on standard error, JSON or console, made so that a log call can never raise.

Values come from anywhere (a driver's text, a client's instance name), so a sanitising processor stands first: what
leaves it is plain, bounded, and holds no control character that could forge a line or drive a terminal.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import sys
import threading
from collections.abc import Mapping, MutableMapping
from typing import Any, TextIO, TypeAlias

import structlog
from structlog.typing import FilteringBoundLogger

Log: TypeAlias = FilteringBoundLogger

# In the journal, by the method that was called: syslog's numbers, which systemd takes from a line's beginning.
PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "exception": 3, "critical": 2}
LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
RESERVED = frozenset(
    {
        "self",
        "method_name",
        "event",
        "instance",
        "generation",
        "level",
        "timestamp",
        "exc_info",
        "exception",
        "stack",
        "stack_info",
        "source",
    }
)
QUEUE_MAX = 10_000  # lines that wait to be written
LINE_UNIT = 1024  # characters that a line of a budget has for nothing: each more begun costs as much as a line
LAST_LINES = 1.0  # seconds for them at the end
TEXT_MAX = 4096  # characters of one value
ITEMS_MAX = 64  # of one list or map
DEPTH_MAX = 4
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def configure(level: str, log_format: str, stream: TextIO | None = None, writer: Writer | None = None) -> None:
    """For the whole process. `auto` is console on a terminal, else JSON. With a writer, no log call waits, and lines
    that go to the journal have a priority there.
    """
    out = stream or sys.stderr
    terminal = out.isatty()
    colours = terminal and "NO_COLOR" not in os.environ
    console = log_format == "console" or (log_format == "auto" and terminal)
    if writer is not None:
        writer.console = console
    plain = structlog.dev.plain_traceback  # another, where it is installed, would show what variables hold
    render: Any = structlog.processors.JSONRenderer()
    if console:
        render = structlog.dev.ConsoleRenderer(colors=colours, exception_formatter=plain)
    last: list[Any] = [prioritize] if writer is not None and writer.journal else []
    structlog.configure(
        processors=[
            sanitize,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *([] if console else [structlog.processors.format_exc_info]),
            render,
            *last,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=lambda *_: writer or Lines(out),
        cache_logger_on_first_use=False,
    )


def get_log() -> Log:
    log: Log = structlog.get_logger()
    return log


class Lines:
    """Writes a line; a log that cannot be written is no reason to stop serving."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def msg(self, line: str) -> None:
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except (OSError, ValueError):  # the reader is gone, or the stream is closed
            pass

    debug = info = warning = warn = error = exception = critical = msg


class Writer:
    """Lines to a descriptor, by a thread of its own: a pipe that nobody reads holds up nobody. What does not fit into
    the queue is dropped, and counted in the next line that does.
    """

    def __init__(self, descriptor: int = 2) -> None:
        self.console = False
        self.journal = is_journal(descriptor)
        self._descriptor = descriptor
        self._lines: queue.Queue[str | None] = queue.Queue(QUEUE_MAX)
        self._dropped = 0
        self._thread = threading.Thread(target=self._write, name="log", daemon=True)
        self._thread.start()

    def msg(self, line: str) -> None:
        try:
            if self._dropped:
                self._lines.put_nowait(self._notice())
                self._dropped = 0
            self._lines.put_nowait(line)
        except queue.Full:
            self._dropped += 1

    debug = info = warning = warn = error = exception = critical = msg

    def _notice(self) -> str:
        about = {"lines": self._dropped, "reason": "nobody read the log", "event": "log_dropped", "level": "warning"}
        return str(about) if self.console else json.dumps(about)

    def close(self) -> None:
        """What is queued goes out, if it is read within LAST_LINES."""
        with contextlib.suppress(queue.Full):
            self._lines.put(None, timeout=LAST_LINES)
        self._thread.join(LAST_LINES)

    def _write(self) -> None:
        while (line := self._lines.get()) is not None:
            rest = memoryview(line.encode("utf-8", "backslashreplace") + b"\n")
            with contextlib.suppress(OSError):  # the reader is gone
                while rest:
                    rest = rest[os.write(self._descriptor, rest) :]


def is_journal(descriptor: int) -> bool:
    """systemd tells device and inode of the stream that it made for the journal."""
    try:
        found = os.fstat(descriptor)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def prioritize(_logger: object, method: str, line: str) -> str:
    """The last processor: sd-daemon(3)'s prefix, which the journal takes off."""
    return f"<{PRIORITIES.get(method, 6)}>{line}"


def sanitize(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The first processor. `exc_info` is left to the one that knows it."""
    return {
        clean_text(str(key)): value if key == "exc_info" else clean(value, DEPTH_MAX) for key, value in event.items()
    }


def clean(value: object, depth: int = DEPTH_MAX) -> Any:
    """Something any renderer takes: text, numbers, lists and maps of them, bounded."""
    if isinstance(value, bool | float | None):
        return value
    if isinstance(value, int):
        return int(value) if value.bit_length() <= 64 else f"an integer of {value.bit_length()} bits"
    if depth > 0 and isinstance(value, Mapping):
        return {clean_text(_text(key)): clean(value[key], depth - 1) for key in list(value)[:ITEMS_MAX]}
    if depth > 0 and isinstance(value, list | tuple | set | frozenset):
        return [clean(item, depth - 1) for item in list(value)[:ITEMS_MAX]]
    return clean_text(_text(value))


def clean_text(text: str) -> str:
    """Bounded, control characters and lone surrogates spelled out."""
    cut = text if len(text) <= TEXT_MAX else f"{text[:TEXT_MAX]}... ({len(text)} characters)"
    return _CONTROL.sub(_spelled, cut)


def _spelled(match: re.Match[str]) -> str:
    code = ord(match[0])
    return {9: "\\t", 10: "\\n", 13: "\\r"}.get(code) or (f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}")


def _text(value: object) -> str:
    if isinstance(value, bytes | bytearray):
        return bytes(value)[:TEXT_MAX].decode("utf-8", "backslashreplace")
    try:
        return str(value)
    except Exception as error:  # noqa: BLE001 (a __str__ of anybody)
        return f"<{type(value).__name__}: str() raised {type(error).__name__}>"


class LineBudget:
    """A token bucket: how many lines a host may log. Pure; the caller says what time it is."""

    def __init__(self, *, burst: int = 1000, per_second: float = 200.0) -> None:
        self._burst = float(burst)
        self._rate = per_second
        self._tokens = float(burst)
        self._at: float | None = None
        self._dropped = 0

    def allows(self, now: float, lines: int = 1, size: int = 0) -> bool:
        """True: log so many lines, of `size` characters. False: drop them; they are counted."""
        elapsed = 0.0 if self._at is None else max(0.0, now - self._at)
        self._at = now
        self._tokens = min(self._burst, self._tokens + elapsed * self._rate)
        if self._tokens < 1:
            self._dropped += lines
            return False
        self._tokens -= lines
        self.spend(size)
        return True

    def spend(self, size: int) -> None:
        """The line that was allowed has so many characters."""
        self._tokens -= size // LINE_UNIT

    def drop(self, lines: int) -> None:
        """Count lines that were never asked about."""
        self._dropped += lines

    def take_dropped(self) -> int:
        """How many lines were dropped since this was last asked."""
        dropped, self._dropped = self._dropped, 0
        return dropped
