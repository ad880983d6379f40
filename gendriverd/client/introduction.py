# SPDX-License-Identifier: MIT
"""What a client says of itself in the handshake, and with a key the proofs both ways. No I/O.

A daemon that asks for less than this client came to prove is not believed: whoever stands in between could have it say
so.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Mapping
from typing import Any

from gendriverd import auth, etf
from gendriverd.auth import Key
from gendriverd.client.outcomes import AuthFailed
from gendriverd.etf import Atom, Term

VERSION = 1


def hello(instance: str, about: dict[Term, Term]) -> bytes:
    return etf.frame((Atom("hello"), VERSION, instance.encode(), about))


class Introduction:
    """Of one connection. Frames are whole, with their lengths."""

    def __init__(self, instance: str, key: Key | None) -> None:
        self._instance = instance
        self._key = key
        self._said: tuple[bytes, bytes, bytes] | None = None  # greeting, hello, our proof
        self._welcome = b""

    @property
    def awaits_proof(self) -> bool:
        """A welcome alone is no proof."""
        return self._key is not None

    def greeted(self, greeting: bytes, about: Mapping[Any, Any]) -> bytes:
        """What to answer a greeting: hello, and with a key the proof behind it. Raises AuthFailed."""
        wanted = about.get(Atom("auth"), Atom("none"))
        if wanted not in (Atom("none"), Atom("hmac")):
            raise AuthFailed(self._instance, "unknown_method")
        if self._key is None:
            if wanted != Atom("none"):
                raise AuthFailed(self._instance, "key_needed")
            return hello(self._instance, {})
        if wanted != Atom("hmac"):
            raise AuthFailed(self._instance, "not_offered")
        return self._prove(self._key, greeting)

    def _prove(self, key: Key, greeting: bytes) -> bytes:
        said = hello(self._instance, {Atom("key"): key.name.encode(), Atom("nonce"): os.urandom(auth.NONCE)})
        proof = auth.proof_frame(auth.client_mac(key.secret, greeting, said))
        self._said = greeting, said, proof
        return said + proof

    def welcomed(self, welcome: bytes) -> None:
        self._welcome = welcome

    def proved(self, frame: bytes) -> None:
        """The daemon's proof. Raises AuthFailed when it is none, or not of this welcome."""
        if self._key is not None and self._said is not None and self._welcome:
            mac = auth.server_mac(self._key.secret, *self._said, self._welcome)
            if hmac.compare_digest(mac, auth.parse_proof(frame[4:])):
                return
        raise AuthFailed(self._instance, "bad_proof")
