# SPDX-License-Identifier: MIT
"""What configuration values look like to people: "200ms", "64MiB", "tcp://127.0.0.1:9900"; read strictly, no I/O."""

from __future__ import annotations

import re
from datetime import date, time
from typing import NamedTuple, TypeAlias
from urllib.parse import urlsplit

SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
BYTES = {"B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
COMMANDS_MAX = 256  # of one key on one instance: a host has room for so many
COMMAND_MAX = 2**30 - 1
LONGEST = 7 * 24 * 3600.0  # the control channel counts in milliseconds of 32 bits
SIZE_MAX = 1_000_000 << 30  # bytes


Permitted: TypeAlias = tuple[str | int, ...] | dict[str, tuple[str | int, ...] | None]


class Address(NamedTuple):
    """Where to listen: `path` for a unix socket, `host` and `port` for TCP."""

    host: str
    port: int
    path: str

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"tcp://[{self.host}]:{self.port}" if ":" in self.host else f"tcp://{self.host}:{self.port}"


def seconds(value: object) -> float:
    """A duration: a number of seconds, or a number with us, ms, s, m or h."""
    if isinstance(value, str):
        match = re.fullmatch(r"(\d{1,18}(?:\.\d{1,18})?)\s*(us|ms|s|m|h)", value.strip())
        found = float(match[1]) * SECONDS[match[2]] if match else None
    else:
        number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LONGEST
        found = float(value) if number and isinstance(value, int | float) else None
    if found is None or not 0 <= found <= LONGEST:
        raise ValueError(f'must be a duration such as "200ms", "5s" or "2m", at most 7 days, not {value!r}')
    return found


def size(value: object) -> int:
    """A number of bytes: an integer, or a number with B, kB, KiB, MB, MiB, GB or GiB."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= SIZE_MAX:
        return value
    match = re.fullmatch(r"(\d{1,12}(?:\.\d{1,12})?)\s*([A-Za-z]+)", value.strip()) if isinstance(value, str) else None
    if match is None or match[2] not in BYTES:
        raise ValueError(f'must be a number of bytes such as 4096 or "64MiB", at most 1000000 GiB, not {value!r:.60}')
    found = int(float(match[1]) * BYTES[match[2]])
    if found > SIZE_MAX:
        raise ValueError(f"must be at most 1000000 GiB, not {value!r}")
    return found


def mode(value: object) -> int:
    """Permissions of a socket file: "0660", or 0o660 (a plain decimal number is nearly always a mistake)."""
    if isinstance(value, str) and re.fullmatch(r"0?[0-7]{3}", value):
        return int(value, 8)
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= 0o777 and value not in {660, 600, 666}:
        return value
    raise ValueError(f'must be permissions such as "0660", not {value!r}')


def address(text: object) -> Address:
    """tcp://HOST:PORT, tcp://[IPv6]:PORT or unix:/PATH."""
    if isinstance(text, str):
        if text.startswith("unix:"):
            path = re.sub(r"^unix:(//(?=/))?", "", text)
            if path.startswith("/") and "\0" not in path and len(path.encode()) < 108:
                return Address("", 0, path)
        elif text.startswith("tcp://"):
            found = _tcp(text)
            if found is not None:
                return found
    raise ValueError(f"must be an address such as 'tcp://127.0.0.1:9900' or 'unix:/run/x.sock', not {text!r}")


def _tcp(text: str) -> Address | None:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return None
    if not parts.hostname or port is None or parts.path or parts.query or parts.username:
        return None
    return Address(parts.hostname, port, "")


def user(value: object) -> object:
    """A user's number may come as a number."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def one_or_more(value: object) -> object:
    """A text alone is a list of one."""
    return [value] if isinstance(value, str) else value


def commands(value: object) -> Permitted:
    """Names and numbers for every instance; or a table with those, or "all", of each."""
    if not isinstance(value, dict):
        return _commands(value)
    return {str(instance): None if each == "all" else _commands(each) for instance, each in value.items()}


def _commands(value: object) -> tuple[str | int, ...]:
    if isinstance(value, list) and len(value) <= COMMANDS_MAX and all(map(_is_command, value)):
        return tuple(value)
    raise ValueError(
        f'must be a list of at most {COMMANDS_MAX} commands, names or numbers, such as ["sum", 3], or a table with such'
        f' a list, or "all", for each instance, not {value!r:.80}'
    )


def _is_command(value: object) -> bool:
    if isinstance(value, str):
        return 0 < len(value.encode("utf-8", "surrogatepass")) <= 255
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= COMMAND_MAX


def flatten(settings: object) -> dict[str, str]:
    """A driver's settings as the host hands them to it: "table.key", "array.0", and text for every value."""
    if not isinstance(settings, dict):
        raise ValueError(f"must be a table, not {settings!r}")  # noqa: TRY004 (pydantic collects ValueErrors)
    flat: dict[str, str] = {}
    _flatten("", settings, flat)
    return flat


def _flatten(prefix: str, value: object, flat: dict[str, str]) -> None:
    if isinstance(value, dict | list):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in pairs:
            _flatten(f"{prefix}.{key}" if prefix else str(key), inner, flat)
        return
    if prefix in flat:
        raise ValueError(f"say {prefix!r} twice: once as a quoted key, once as a table")
    flat[prefix] = _scalar(prefix, value)


def _scalar(key: str, value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, date | time):
        return value.isoformat()
    text = value if isinstance(value, str) else str(value)
    if "\0" in text or "\0" in key:
        raise ValueError(f"{key!r} holds a NUL character, which C text cannot")
    return text
