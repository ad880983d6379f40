# SPDX-License-Identifier: MIT
"""Proofs that both ends of a handshake know one key: HMAC-SHA-256 over its frames (docs/protocol.md). No I/O.

Each end's proof covers the other's fresh nonce, and begins with a label of its own: neither an old one nor the other
end's can stand for it. A key that nobody knows costs the same work as a wrong one, so that time tells nothing. What a
key or a certificate opens is a Grant.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from gendriverd import etf
from gendriverd.errors import HandshakeRefused
from gendriverd.etf import Atom, EtfError

CLIENT = b"gendriverd 1 client\0"
SERVER = b"gendriverd 1 server\0"
NONCE = 32  # bytes
SECRET_MIN, SECRET_MAX = 32, 1024
NAME_MAX = 64  # bytes
BLOCK = 64  # bytes, of SHA-256
PROOF_MAX = 64  # bytes of a proof, without its length
LIMITS = etf.Limits(depth=2, terms=8, bignum=8)


@dataclass(frozen=True, slots=True)
class Key:
    """What both ends share. ValueError: it is no key; the secret is never shown."""

    name: str
    secret: bytes = field(repr=False)
    block: bytes = field(
        init=False, repr=False, compare=False
    )  # what HMAC makes of a long one first: so all cost the same

    def __post_init__(self) -> None:
        if not 0 < len(self.name.encode()) <= NAME_MAX:
            raise ValueError(f"a key's name is a text of 1 to {NAME_MAX} bytes")
        if not SECRET_MIN <= len(self.secret) <= SECRET_MAX:
            raise ValueError(f"a key is {SECRET_MIN} to {SECRET_MAX} bytes")
        block = self.secret if len(self.secret) <= BLOCK else hashlib.sha256(self.secret).digest()
        object.__setattr__(self, "block", block)


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


Commands: TypeAlias = frozenset[str | int] | None  # that may be asked for, by name or number; None: all


@dataclass(frozen=True, slots=True)
class Grant:
    """What a name of [keys] opens, and the secrets and certificates that are good for it."""

    name: str
    keys: tuple[Key, ...] = ()  # any of them will do: so secrets are changed
    certificates: frozenset[str] = frozenset()
    commands: Commands = None
    instances: Mapping[str, Commands] | None = None  # these alone, and the commands of each; None: all, with `commands`

    def opens(self, instance: str) -> bool:
        return self.instances is None or instance in self.instances

    def allowed(self, instance: str) -> Commands:
        return self.commands if self.instances is None else self.instances.get(instance, frozenset())


@dataclass(frozen=True)
class Admitted:
    """A client that may have what `grant` opens; it had nothing to prove here."""

    grant: Grant

    def answer(self, welcome: bytes) -> bytes:
        """What is said next."""
        return welcome

    def again(self, ring: Keyring) -> Admitted:  # noqa: ARG002 (as those below)
        """By the keys that are in use now: it may have waited meanwhile. Raises HandshakeRefused."""
        raise HandshakeRefused("auth", "no key, and now one is asked for")


@dataclass(frozen=True)
class Certified(Admitted):
    """One with a verified certificate."""

    names: tuple[str, ...]
    instance: str

    def again(self, ring: Keyring) -> Certified:
        return ring.certify(self.names, self.instance)


@dataclass(frozen=True)
class Proved(Admitted):
    """One that has proved a key."""

    instance: str
    key: Key
    greeting: bytes
    hello: bytes
    proof: bytes

    def answer(self, welcome: bytes) -> bytes:
        """The welcome, and our proof, by the same key, behind it."""
        mac = server_mac(self.key.secret, self.greeting, self.hello, self.proof, welcome)
        return welcome + proof_frame(mac)

    def again(self, ring: Keyring) -> Proved:
        return ring.admit(self.grant.name, self.instance, self.greeting, self.hello, self.proof)


ANYBODY = Admitted(Grant(""))  # where nothing is asked for


class Keyring:
    """The names that a daemon takes. A certificate is of one of them at most."""

    def __init__(self, grants: Iterable[Grant]) -> None:
        self._grants = {grant.name: grant for grant in grants}
        self._certified = {name: grant for grant in self._grants.values() for name in grant.certificates}
        self._nobodys = Key("nobody", os.urandom(SECRET_MIN))
        self._tries = max([1, *(len(grant.keys) for grant in self._grants.values())])

    def knows(self, name: str) -> bool:
        return name in self._grants

    def of_certificate(self, names: Iterable[str]) -> Grant | None:
        """What a verified certificate opens: by the first of its names (subject CN, SAN DNS or URI) that is known."""
        return next((self._certified[name] for name in names if name in self._certified), None)

    def certify(self, names: tuple[str, ...], instance: str) -> Certified:
        """Raises HandshakeRefused."""
        grant = self.of_certificate(names)
        if grant is None:
            raise HandshakeRefused("auth", "a certificate of no key")
        return Certified(_opening(grant, instance), names, instance)

    def admit(self, name: str, instance: str, greeting: bytes, hello: bytes, proof: bytes) -> Proved:
        """Whole frames. Raises HandshakeRefused, the same to the client whatever is wrong."""
        grant = self._grants.get(name)
        key = self._proved(() if grant is None else grant.keys, greeting, hello, parse_proof(proof[4:]))
        if grant is None:
            raise HandshakeRefused("auth", "unknown key")
        if key is None:
            raise HandshakeRefused("auth", "wrong proof")
        return Proved(_opening(grant, instance), instance, key, greeting, hello, proof)

    def _proved(self, keys: tuple[Key, ...], greeting: bytes, hello: bytes, mac: bytes) -> Key | None:
        """The one that `mac` is of. As many codes are made for every name, and all of them whichever is right."""
        right: Key | None = None
        for key in (*keys, *(self._nobodys for _ in range(self._tries - len(keys)))):
            if hmac.compare_digest(client_mac(key.block, greeting, hello), mac) and key is not self._nobodys:
                right = key
        return right


def _opening(grant: Grant, instance: str) -> Grant:
    if not grant.opens(instance):
        raise HandshakeRefused("auth", "a key that does not open this instance")
    return grant
