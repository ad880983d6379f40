# SPDX-License-Identifier: MIT
"""One client: its handshake, then its bytes to the host and the host's to it, each direction until its own end.

Nothing is read from a side while what it said before waits for the other, so no more than CHUNK lies here a direction.
The client's close_notify shuts down the host's receiving side; the end of what the host says becomes close_notify. An
end of TCP without one is a connection that was cut off: the host sees its socket closed.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from select import EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT
from typing import Any, Protocol

from gendriverd.tls_context import names_of
from gendriverd.tls_front.loop import Loop
from gendriverd.tls_front.records import Records
from gendriverd.tls_front.side import Side

CHUNK = 65536  # bytes read at once, and held at most a direction
NAMES_MAX = 32  # of a certificate
NAME_MAX = 255  # bytes


class Owner(Protocol):
    """What a relay tells the front."""

    def shaken(self, relay: Relay) -> None:
        """Its handshake is over: relay.begin(socket), or relay.close()."""

    def refused(self, relay: Relay, why: str) -> None:
        """Its handshake has failed."""

    def cut_off(self, relay: Relay, why: str) -> None:
        """It is closed for this."""

    def ending(self, relay: Relay) -> None:
        """Its host has closed the socket: what it had said last is taken by the client in time, or not at all."""

    def leaving(self, relay: Relay) -> None:
        """Nobody takes what the client yet says: it is read away, for a while."""

    def gone(self, relay: Relay) -> None:
        """Its sockets are closed."""


class Relay:
    __slots__ = (
        "_client", "_closed", "_host", "_host_deaf", "_host_silent", "_incoming", "_loop", "_outgoing", "_owner",
        "_records", "_said_all", "_shaking", "_tls", "_told_end", "peer", "source",
    )  # fmt: skip

    def __init__(
        self,
        loop: Loop,
        owner: Owner,
        client: socket.socket,
        peer: tuple[str, int],
        source: str,
        context: ssl.SSLContext,
    ) -> None:
        self.peer = peer
        self.source = source
        self._loop = loop
        self._owner = owner
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._records = Records()
        self._client = Side(loop, client, self._on_client)
        self._host: Side | None = None
        self._shaking = True
        self._said_all = False  # the client: its close_notify came
        self._host_silent = False  # says nothing more
        self._host_deaf = False  # takes nothing more
        self._told_end = False  # the client: close_notify
        self._closed = False

    def names(self) -> list[str] | None:
        """Of the client's certificate, which was verified: CN=.., DNS:.., URI:..; None: it has shown none."""
        try:
            found: Any = self._tls.getpeercert()
        except (ValueError, ssl.SSLError):  # an authority signs what it likes
            return []
        if not found:
            return None
        return [name for name in names_of(found) if name.isprintable() and len(name.encode()) <= NAME_MAX][:NAMES_MAX]

    def begin(self, host: socket.socket) -> None:
        """Relay to this end of a socketpair, which is the relay's from now on."""
        self._host = Side(self._loop, host, self._on_host)

    def close(self) -> None:
        """Both sides, whatever is under way."""
        if not self._closed:
            self._closed = True
            self._client.close()
            if self._host is not None:
                self._host.close()
            self._owner.gone(self)

    def _on_client(self, client: Side, events: int) -> None:
        try:
            if events & EPOLLERR:
                raise ConnectionResetError
            if events & EPOLLOUT:
                client.flush()
            if events & (EPOLLIN | EPOLLHUP):
                self._read_client()
            self._settle()
        except BlockingIOError:
            pass
        except OSError:
            self.close()

    def _on_host(self, host: Side, events: int) -> None:
        try:
            if events & EPOLLOUT:
                self._tell_host(b"")
            if events & EPOLLIN:
                self._read_host(host)
            if host.hung_up:
                self._deafen()
                self._owner.ending(self)
            self._settle()
        except BlockingIOError:
            pass
        except OSError:
            self.close()

    def _read_client(self) -> None:
        """What nobody takes is not even decrypted: so it cannot be told from an end that was cut off."""
        data = self._client.sock.recv(CHUNK)
        if data:
            self._take(memoryview(data))
        elif self._said_all or self._told_end or self._host_deaf:
            self._said_all = True
        else:
            raise ConnectionResetError

    def _take(self, said: memoryview) -> None:
        """To OpenSSL, so little at once that whoever says much that brings nothing is closed before it costs much."""
        pieces: list[bytes] = []
        while said and not (self._host_deaf or self._said_all or self._closed):
            size, ended = self._records.cut(said)
            self._incoming.write(said[:size])
            said = said[size:]
            shaking = self._shaking
            if shaking:
                self._shake()
            found = [] if self._host is None else self._decrypt()
            if not self._records.count(len(found) if shaking else ended, found):
                self._owner.cut_off(self, "too many records that bring nothing, as changes of keys")
                self.close()
                return
            pieces += found
        self._tell_host(b"".join(pieces))

    def _shake(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._client.send(self._outgoing.read())
            return
        except (ssl.SSLError, ValueError) as error:
            self._refuse(_why(error))
            return
        self._shaking = False
        self._client.send(self._outgoing.read())
        self._owner.shaken(self)

    def _refuse(self, why: str) -> None:
        """The alert that says so is on its way."""
        self._shaking = False
        self._host_silent = self._host_deaf = True
        self._owner.refused(self, why)
        self._client.send(self._outgoing.read())

    def _decrypt(self) -> list[bytes]:
        """All that has come in whole records, a piece each: what is left over would spoil unwrap."""
        pieces: list[bytes] = []
        try:
            while self._incoming.pending or self._tls.pending():
                if not (piece := self._tls.read(CHUNK)):
                    self._said_all = True
                    break
                pieces.append(piece)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self._said_all = True
        if self._outgoing.pending:
            self._client.send(self._outgoing.read())
        return pieces

    def _tell_host(self, data: bytes) -> None:
        """And the end, if the client has said all."""
        if self._host is None or self._host_deaf:
            return
        try:
            self._host.send(data)
            if self._said_all:
                self._host.end()
        except OSError:
            self._deafen()

    def _deafen(self) -> None:
        self._host_deaf = True
        if self._host is not None:
            self._host.waiting = b""

    def _read_host(self, host: Side) -> None:
        try:
            data = host.sock.recv(CHUNK)
        except ConnectionResetError:  # it has left without having read all; what it had said came before
            data = b""
            self._deafen()
        if not data:
            self._host_silent = True
            return
        view = memoryview(data)
        while view:
            view = view[self._tls.write(view) :]
        self._client.send(self._outgoing.read())

    def _settle(self) -> None:
        """Say the end where all is said; close where both are over; else be told of what can go on. Raises OSError."""
        if self._closed:
            return
        if self._host_silent and not self._client.waiting and not self._told_end:
            self._tell_end()
        if self._told_end and self._host_deaf:
            self._owner.leaving(self)
        if self._client.ended and self._said_all and (self._host_deaf or (self._host is not None and self._host.ended)):
            self.close()
        else:
            self._watch()

    def _tell_end(self) -> None:
        self._told_end = True
        with contextlib.suppress(ssl.SSLError):  # it would wait for the client's; or the handshake has failed
            self._tls.unwrap()
        self._client.send(self._outgoing.read())
        self._client.end()

    def _watch(self) -> None:
        free = self._host is None or not self._host.waiting
        room = len(self._client.waiting) < 2 * CHUNK  # beyond CHUNK: answers of TLS itself
        self._client.watch(reads=free and room and not self._said_all)
        if self._host is not None:
            self._host.watch(reads=not (self._host_silent or self._client.waiting))


def _why(error: Exception) -> str:
    """In OpenSSL's few words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate: {error.verify_message}"
    return str(getattr(error, "reason", None) or error).replace("_", " ").lower()
