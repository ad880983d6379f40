# SPDX-License-Identifier: MIT
"""Where a connection comes from: for the log, and as far as somebody can be held to account for it. No I/O.

An IPv4 address is one source; of IPv6 a whole /64, as whoever has one address there has them all; but behind NAT64 each
stands for an IPv4 address, and is one. All of IPv4's loopback is one: a process may choose among its addresses. Behind
a unix socket it is the user.
"""

from __future__ import annotations

import errno
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import NamedTuple

from gendriverd.quantities import Address

LOOPBACK = "127.0.0.0/8"
NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052
# What accept says of a client that is gone already; others may be waiting behind it. See accept(2).
GONE = frozenset(
    {
        errno.ECONNABORTED, errno.EPROTO, errno.ENETDOWN, errno.ENOPROTOOPT, errno.EHOSTDOWN, errno.ENONET,
        errno.EHOSTUNREACH, errno.EOPNOTSUPP, errno.ENETUNREACH, errno.EPERM,
    }
)  # fmt: skip


class Source(NamedTuple):
    """`name` is what is counted by; `address` None: a unix socket."""

    name: str
    address: IPv4Address | IPv6Address | None


class Epoch:
    """How long what a front says of its clients counts: until it is given other certificates, or is gone."""

    over = False


class Peer(NamedTuple):
    """Who has connected. `name` is for the log; `user` is the number of who is behind a unix socket; `epoch`: of the
    front that it came by.
    """

    name: str
    source: Source
    user: int | None = None
    epoch: Epoch | None = None


def of_address(host: str, port: int) -> Peer:
    """`host` as getpeername gives it."""
    return Peer(str(Address(host, port, "")), _source(ip_address(host.partition("%")[0])))


def of_user(pid: int, user: int) -> Peer:
    return Peer(f"unix:pid={pid},uid={user}", Source(f"uid={user}", None), user)


def of_nobody() -> Peer:
    """A unix socket whose other end cannot be told: no user has this number."""
    return Peer("unix:", Source("unix", None), -1)


def _source(address: IPv4Address | IPv6Address) -> Source:
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if isinstance(address, IPv4Address):
        return Source(LOOPBACK if address.is_loopback else str(address), address)
    if address in NAT64:  # none of IPv4's networks are meant by it: it has come from outside, whatever is in it
        return Source(str(address), address)
    return Source(str(IPv6Network((int(address) >> 64 << 64, 64))), address)
