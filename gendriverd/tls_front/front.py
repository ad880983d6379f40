# SPDX-License-Identifier: MIT
"""The front's life: accept, shake hands, hand over, relay; what the daemon says in between; leave when it is told.

A client that stalls in its handshake has its time; where too many do, one of those makes room who have most there.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import sys
from collections import Counter
from select import EPOLLIN
from typing import Any

from gendriverd import passing
from gendriverd.etf import Atom
from gendriverd.sources import GONE, of_address
from gendriverd.tls_front.confine import Confined
from gendriverd.tls_front.loop import Deadlines, Loop
from gendriverd.tls_front.mouth import Mouth
from gendriverd.tls_front.relay import Relay
from gendriverd.tls_front.settings import Settings, read_settings

SHARE = 8  # the last eighth of `connections` is for sources that have less than an eighth
AT_ONCE = 32  # clients accepted between two looks at those that are there
LINGER = 2.0  # seconds for a client's end after our last word, and for all of them when the daemon is gone
UNREAD = 30.0  # seconds for a client to take what its host had said when it closed the socket
PAUSE = 0.1  # seconds without accepting when there is no descriptor left, or when it cannot be done


class Front:
    """An Owner of relays."""

    def __init__(
        self, loop: Loop, channel: socket.socket, listeners: list[socket.socket], settings: Settings, most: int
    ) -> None:
        """`most`: so many clients there are descriptors for."""
        self._loop = loop
        self._mouth = Mouth(loop, channel, self._hear)
        self._listeners = listeners
        self._settings = settings
        self._most = most
        self._relays: set[Relay] = set()
        self._by_source = Counter[str]()
        self._shaking = Deadlines[Relay](settings.handshake_timeout, self._too_slow)
        self._ending = Deadlines[Relay](UNREAD, Relay.close)
        self._leaving = Deadlines[Relay](LINGER, Relay.close)
        self._pauses = Deadlines[socket.socket](PAUSE, self._listen)
        self._last = Deadlines[Front](LINGER, Front._end)
        for listener in listeners:
            listener.setblocking(False)
            self._listen(listener)

    def ready(self, confined: Confined) -> None:
        held = {Atom("landlock"): confined.landlock, Atom("seccomp"): int(confined.seccomp)}
        self._mouth.say(Atom("ready"), held)

    def expire(self, now: float) -> float | None:
        """See Loop.run."""
        all_of_them: tuple[Deadlines[Any], ...] = (self._shaking, self._ending, self._leaving, self._pauses, self._last)
        waits = [each.expire(now) for each in all_of_them]
        return min((wait for wait in waits if wait is not None), default=None)

    def shaken(self, relay: Relay) -> None:
        self._shaking.stop(relay)
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        except OSError as error:
            self._news(relay.peer, error.strerror or str(error))
            relay.close()
            return
        passing.refuse(ours)
        ours.setblocking(False)
        names = relay.names()
        told = Atom("none") if names is None else [name.encode() for name in names]
        host, port = relay.peer
        self._mouth.say(Atom("client"), host.encode(), port, told, passed=theirs)
        relay.begin(ours)

    def refused(self, relay: Relay, why: str) -> None:
        self._shaking.stop(relay)
        self._leaving.start(relay)
        self._news(relay.peer, why)

    def cut_off(self, relay: Relay, why: str) -> None:
        self._news(relay.peer, why)

    def ending(self, relay: Relay) -> None:
        self._ending.start(relay)

    def leaving(self, relay: Relay) -> None:
        self._leaving.start(relay)

    def gone(self, relay: Relay) -> None:
        self._relays.discard(relay)
        self._by_source[relay.source] -= 1
        if not self._by_source[relay.source]:
            del self._by_source[relay.source]
        self._shaking.stop(relay)
        self._ending.stop(relay)
        self._leaving.stop(relay)
        if len(self._last) and not self._relays:
            self._end()

    def _listen(self, listener: socket.socket) -> None:
        self._loop.add(listener.fileno(), EPOLLIN, lambda _: self._accept(listener))

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(AT_ONCE):
            try:
                client, address = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in GONE:
                    continue
                print(f"cannot accept: {error.strerror}", file=sys.stderr, flush=True)
                self._loop.remove(listener.fileno())
                self._pauses.start(listener)
                return
            self._admit(client, (str(address[0]), int(address[1])))

    def _admit(self, client: socket.socket, peer: tuple[str, int]) -> None:
        source = of_address(*peer).source.name
        if why := self._why_no_room(source):
            client.close()
            self._news(peer, f"connections: {why}")
            return
        if len(self._relays) >= self._connections():
            self._leaving.pop_first().close()
        if len(self._shaking) >= self._settings.handshake_pending:
            self._make_room()
        client.setblocking(False)
        with contextlib.suppress(OSError):  # it may be gone already
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        relay = Relay(self._loop, self, client, peer, source, self._settings.context)
        self._relays.add(relay)
        self._by_source[source] += 1
        self._shaking.start(relay)

    def _connections(self) -> int:
        return min(self._settings.connections, self._most)

    def _why_no_room(self, source: str) -> str | None:
        """Who is leaving has heard all, and makes room; what it yet says is of no use to anybody."""
        most, there = self._connections(), len(self._relays) - len(self._leaving)
        share = most // SHARE
        if there >= most:
            return "there are as many as may be"
        if there >= most - share and self._by_source[source] >= share:
            return "the last are for those who have fewer"
        return None

    def _make_room(self) -> None:
        """Of the source that has most in their handshake, the one that has had most of its time goes."""
        shaking = Counter(relay.source for relay in self._shaking)
        greedy = max(shaking, key=shaking.__getitem__)
        relay = next(each for each in self._shaking if each.source == greedy)
        self._news(relay.peer, "handshake_pending: others came")
        relay.close()

    def _too_slow(self, relay: Relay) -> None:
        self._news(relay.peer, f"no handshake within {self._shaking.seconds:g} s")
        relay.close()

    def _news(self, peer: tuple[str, int], why: str) -> None:
        host, port = peer
        self._mouth.tell(Atom("refused"), host.encode(), port, why[:200].encode())

    def _hear(self, message: tuple[Any, ...] | None, fds: list[int]) -> None:
        match message:
            case (tag, dict() as about) if tag == Atom("renew"):
                self._renew(about, fds)
            case (tag,) if tag == Atom("drain"):
                self._stop_accepting()
            case (tag, int() as number) if tag == Atom("ping"):
                self._mouth.say(Atom("pong"), number)
            case _:
                self._stop_accepting()
                self._last.start(self)
                if not self._relays:
                    self._end()

    def _renew(self, about: dict[Any, Any], fds: list[int]) -> None:
        """For new clients, and who has begun by the old one begins anew. What the daemon could load and we cannot ends
        us: the old one must not go on, as it may have been replaced for a reason.
        """
        try:
            self._settings = read_settings(about, fds)
        except (OSError, ssl.SSLError) as error:
            sys.exit(f"cannot use the new certificate: {error}")
        self._drop_shaking()
        self._shaking.seconds = self._settings.handshake_timeout
        self._mouth.say(Atom("renewed"))

    def _stop_accepting(self) -> None:
        """Those that are in their handshake come to nobody any more."""
        self._drop_shaking()
        for listener in self._listeners:
            self._loop.remove(listener.fileno())
            listener.close()
            self._pauses.stop(listener)
        self._listeners = []

    def _drop_shaking(self) -> None:
        while len(self._shaking):
            self._shaking.pop_first().close()

    def _end(self) -> None:
        self._loop.ended = True
