# SPDX-License-Identifier: MIT
"""What the daemon tells the front: docs/front-channel.md, as types. The front believes the daemon."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from typing import Any

from gendriverd.etf import Atom
from gendriverd.tls_context import make_context, of_descriptor


@dataclass(frozen=True)
class Settings:
    """`context` is for new clients; times in seconds."""

    context: ssl.SSLContext
    handshake_timeout: float
    handshake_pending: int
    connections: int


def read_settings(about: dict[Any, Any], files: list[int]) -> Settings:
    """`files`: certificate, key and, if there is one, the clients' authorities; closed here. Raises OSError."""
    try:
        certificate, key, *ca = map(of_descriptor, files)
        context = make_context(certificate, key, ca[0] if ca else None, str(about[Atom("clients")]))  # type: ignore[arg-type]
    finally:
        for fd in files:
            os.close(fd)
    return Settings(
        context,
        about[Atom("handshake_ms")] / 1000,
        about[Atom("handshake_pending")],
        about[Atom("connections")],
    )
