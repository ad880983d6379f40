# SPDX-License-Identifier: MIT
"""Calling drivers from Python: `open_client` for trio, `connect` for plain blocking code.

    async with gendriverd.client.open_client("tcp://127.0.0.1:9900", "sum") as client:
        assert await client.call("sum", [1, 2, 3, 4]) == (Atom("ok"), 10.0)

    async with client.stream("rows", window=16) as rows:  # of a driver that sends parts
        async for row in rows:
            ...

Terms are Python values by the table in `gendriverd.etf`. What the driver answers is the return value, its `{error,
Atom}` too; the service's own word is `Failed`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gendriverd.client.outcomes import (
    AuthFailed,
    CallTimeout,
    ClientError,
    Failed,
    FailedReason,
    Refused,
    UnknownCommand,
    Unreachable,
    retryable,
)
from gendriverd.client.sync import Client as SyncClient
from gendriverd.client.sync import connect
from gendriverd.client.sync_stream import Stream
from gendriverd.etf import Atom, BitString, ImproperList, Opaque, Term

if TYPE_CHECKING:
    from gendriverd.client.multiplexed import Client, open_client
    from gendriverd.client.parts import Parts

__all__ = [
    "Atom",
    "AuthFailed",
    "BitString",
    "CallTimeout",
    "Client",
    "ClientError",
    "Failed",
    "FailedReason",
    "ImproperList",
    "Opaque",
    "Parts",
    "Refused",
    "Stream",
    "SyncClient",
    "Term",
    "UnknownCommand",
    "Unreachable",
    "connect",
    "open_client",
    "retryable",
]


def __getattr__(name: str) -> Any:
    """trio is only imported by those who use it."""
    if name == "Parts":
        from gendriverd.client.parts import Parts

        return Parts
    if name in ("Client", "open_client"):
        from gendriverd.client import multiplexed

        return getattr(multiplexed, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
