# SPDX-License-Identifier: MIT
"""What the front may say, as types: docs/front-channel.md. It reads what strangers send, so it is not believed.

No I/O.
"""

from __future__ import annotations

import ipaddress
from typing import NamedTuple, TypeAlias

from gendriverd.errors import BadMessage
from gendriverd.etf import Atom, Term
from gendriverd.quantities import Address

NAMES_MAX = 32  # of one certificate
NAME_MAX = 255  # bytes
WHY_MAX = 200


class FrontReady(NamedTuple):
    """What it says that it is held by: a version, or 0."""

    landlock: int
    seccomp: int


class FrontClient(NamedTuple):
    """`names`: of its certificate, which was verified; None: it has shown none."""

    address: Address
    names: tuple[str, ...] | None


class FrontRefused(NamedTuple):
    address: Address
    why: str


class FrontRenewed(NamedTuple):
    """All that it says from now on is by what it was given last."""


class FrontPong(NamedTuple):
    number: int


FrontMessage: TypeAlias = FrontReady | FrontClient | FrontRefused | FrontRenewed | FrontPong


def parse_front(term: Term) -> FrontMessage:
    """The message a term is, or BadMessage."""
    match term:
        case (Atom() as tag, dict() as about) if tag == Atom("ready"):
            return FrontReady(*(_version(about.get(Atom(key))) for key in FrontReady._fields))
        case (Atom() as tag, bytes() as host, int() as port, names) if tag == Atom("client"):
            return FrontClient(_address(host, port), _names(names))
        case (Atom() as tag, bytes() as host, int() as port, bytes() as why) if tag == Atom("refused"):
            return FrontRefused(_address(host, port), why[:WHY_MAX].decode("utf-8", "backslashreplace"))
        case (Atom() as tag,) if tag == Atom("renewed"):
            return FrontRenewed()
        case (Atom() as tag, int() as number) if tag == Atom("pong") and not isinstance(number, bool):
            return FrontPong(number)
    raise BadMessage("no message of a front")


def _version(number: Term) -> int:
    if not isinstance(number, int) or not 0 <= number < 2**16:
        raise BadMessage("ready without what holds it")
    return int(number)


def _address(host: bytes, port: int) -> Address:
    try:
        text = host.decode("ascii")
        ipaddress.ip_address(text)
    except ValueError:
        raise BadMessage("a client without an IP address") from None
    if isinstance(port, bool) or not 0 <= port < 2**16:
        raise BadMessage(f"port {port}")
    return Address(text, port, "")


def _names(names: Term) -> tuple[str, ...] | None:
    if isinstance(names, Atom) and names == Atom("none"):
        return None
    if not isinstance(names, list) or len(names) > NAMES_MAX:
        raise BadMessage(f"names that are no list of at most {NAMES_MAX}")
    return tuple(map(_name, names))


def _name(name: Term) -> str:
    if not isinstance(name, bytes) or len(name) > NAME_MAX:
        raise BadMessage(f"a name that is no text of at most {NAME_MAX} bytes")
    try:
        text = name.decode()
    except UnicodeDecodeError:
        raise BadMessage("a name that is no UTF-8") from None
    if not text.isprintable():
        raise BadMessage("a name with what cannot be printed")
    return text
