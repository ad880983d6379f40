# SPDX-License-Identifier: MIT
"""What TLS is here: 1.3, with this certificate, and with these clients. Used by the front, and by who checks its files.

No session is resumed: each connection proves anew who it is, against the authorities that count now.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any, Literal, NoReturn

Clients = Literal["none", "optional", "required"]  # their certificates
VERIFY: dict[Clients, ssl.VerifyMode] = {
    "none": ssl.CERT_NONE,
    "optional": ssl.CERT_OPTIONAL,
    "required": ssl.CERT_REQUIRED,
}


class EncryptedKeyError(ValueError):
    """There is nobody to ask for its passphrase."""


def make_context(certificate: str, key: str, ca: str | None, clients: Clients) -> ssl.SSLContext:
    """Of files in PEM. Raises ssl.SSLError, OSError, EncryptedKeyError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0
    context.load_cert_chain(certificate, key, password=_ask_nobody)
    context.verify_mode = VERIFY[clients]
    if ca is not None:
        context.load_verify_locations(cafile=ca)
    return context


def names_of(certificate: Mapping[str, Any]) -> list[str]:
    """Of what getpeercert says: CN=.., DNS:.., URI:.."""
    subject = [f"CN={value}" for part in certificate.get("subject", ()) for key, value in part if key == "commonName"]
    others = certificate.get("subjectAltName", ())
    return subject + [f"{kind}:{value}" for kind, value in others if kind in {"DNS", "URI"}]


def of_descriptor(fd: int) -> str:
    """The path of an open file, whatever its name was."""
    return f"/proc/self/fd/{fd}"


def _ask_nobody() -> NoReturn:
    raise EncryptedKeyError
