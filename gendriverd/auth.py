# SPDX-License-Identifier: MIT
"""Proofs that both ends of a handshake know one key: HMAC-SHA-256 over its frames (docs/protocol.md). No I/O.

Each end's proof covers the other's fresh nonce, and begins with a label of its own: neither an old one nor the other
end's can stand for it. A key that nobody knows costs the same work as a wrong one, so that time tells nothing.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Iterable
from dataclasses import dataclass, field

from gendriverd import etf
from gendriverd.errors import HandshakeRefused
from gendriverd.etf import Atom, EtfError

CLIENT = b"gendriverd 1 client\0"
SERVER = b"gendriverd 1 server\0"
NONCE = 32  # bytes
SECRET_MIN, SECRET_MAX = 32, 1024
NAME_MAX = 64  # bytes
PROOF_MAX = 64  # bytes of a proof, without its length
LIMITS = etf.Limits(depth=2, terms=8, bignum=8)


@dataclass(frozen=True, slots=True)
class Key:
    """What both ends share. ValueError: it is no key; the secret is never shown."""

    name: str
    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if not 0 < len(self.name.encode()) <= NAME_MAX:
            raise ValueError(f"a key's name is a text of 1 to {NAME_MAX} bytes")
        if not SECRET_MIN <= len(self.secret) <= SECRET_MAX:
            raise ValueError(f"a key is {SECRET_MIN} to {SECRET_MAX} bytes")


def client_mac(secret: bytes, greeting: bytes, hello: bytes) -> bytes:
    """Frames with their lengths, here and below: so no byte can pass from one to the next."""
    return hmac.digest(secret, CLIENT + greeting + hello, "sha256")


def server_mac(secret: bytes, greeting: bytes, hello: bytes, proof: bytes, welcome: bytes) -> bytes:
    return hmac.digest(secret, SERVER + greeting + hello + proof + welcome, "sha256")


def proof_frame(mac: bytes) -> bytes:
    return etf.frame((Atom("proof"), mac))


def parse_proof(data: bytes) -> bytes:
    """The code in a frame, given without its length; empty, which no proof is, when it is none."""
    try:
        term = etf.decode(data, LIMITS)
    except EtfError:
        return b""
    match term:
        case (Atom() as tag, bytes() as mac) if tag == Atom("proof"):
            return mac
    return b""


@dataclass(frozen=True, slots=True)
class Admitted:
    """A client that has proved its key, and what is said next."""

    key: Key
    greeting: bytes
    hello: bytes
    proof: bytes

    def answer(self, welcome: bytes) -> bytes:
        """The welcome, and our proof behind it."""
        mac = server_mac(self.key.secret, self.greeting, self.hello, self.proof, welcome)
        return welcome + proof_frame(mac)


@dataclass(frozen=True, slots=True)
class Grant:
    """A key, and the instances that it opens; None: all."""

    key: Key
    instances: frozenset[str] | None = None

    def opens(self, instance: str) -> bool:
        return self.instances is None or instance in self.instances


class Keyring:
    """The keys that a daemon takes."""

    def __init__(self, grants: Iterable[Grant]) -> None:
        self._grants = {grant.key.name: grant for grant in grants}
        self._nobodys = Grant(Key("nobody", os.urandom(SECRET_MIN)), frozenset())

    def knows(self, name: str) -> bool:
        return name in self._grants

    def admit(self, name: str, instance: str, greeting: bytes, hello: bytes, proof: bytes) -> Admitted:
        """Whole frames. Raises HandshakeRefused, the same to the client whatever is wrong."""
        grant = self._grants.get(name, self._nobodys)
        right = hmac.compare_digest(client_mac(grant.key.secret, greeting, hello), parse_proof(proof[4:]))
        if grant is self._nobodys:
            raise HandshakeRefused("auth", "unknown key")
        if not right:
            raise HandshakeRefused("auth", "wrong proof")
        if not grant.opens(instance):
            raise HandshakeRefused("auth", "a key that does not open this instance")
        return Admitted(grant.key, greeting, hello, proof)
