# SPDX-License-Identifier: MIT
"""TLS for a client: `Tunnel` does no I/O, `TlsSocket` is one over a blocking socket; tls_stream.py is for trio.

Each direction ends on its own, as without TLS: close_notify says that nothing more is asked, and answers still come.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import time

READ_SIZE = 1 << 18
SCHEME = "tls://"


def trust(url: str, context: ssl.SSLContext | None) -> ssl.SSLContext | None:
    """The context for this address: None where it is not one of TLS; the system's authorities where none is given.
    Raises ValueError when one is given for another address.
    """
    if not url.startswith(SCHEME):
        if context is not None:
            raise ValueError(f"tls is for addresses such as 'tls://example.com:9901', not {url!r}")
        return None
    if context is None:
        context = ssl.create_default_context()
        context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


def untunnelled(url: str) -> str:
    """The address below: tcp:// for tls://."""
    return f"tcp://{url.removeprefix(SCHEME)}" if url.startswith(SCHEME) else url


class Tunnel:
    """Bytes of the connection in and out. A method may raise ssl.SSLError, which is an OSError."""

    def __init__(self, context: ssl.SSLContext, host: str) -> None:
        self.shaken = False
        self.ended = False  # the peer has said all
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)

    def shake(self, data: bytes) -> bytes:
        """What came; what is to be sent. Begins with none."""
        self._incoming.write(data)
        try:
            self._tls.do_handshake()
            self.shaken = True
        except ssl.SSLWantReadError:
            pass
        return self._outgoing.read()

    def decrypt(self, data: bytes) -> bytes:
        """All that is whole in it. At the end of TCP (no data) without close_notify: SSLError."""
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()
        pieces = []
        try:
            while not self.ended:
                piece = self._tls.read(READ_SIZE)
                pieces.append(piece)
                self.ended = not piece
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:  # and so have we
            self.ended = True
        return b"".join(pieces)

    def encrypt(self, data: bytes) -> bytes:
        view = memoryview(data)
        while view:
            view = view[self._tls.write(view) :]
        return self._outgoing.read()

    def close(self) -> bytes:
        """close_notify; what the peer says still comes."""
        with contextlib.suppress(ssl.SSLError):  # it would wait for the peer's
            self._tls.unwrap()
        return self._outgoing.read()


class TlsSocket:
    """Of a socket's methods those that a link calls; raises what they raise."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, host: str) -> None:
        """Shakes hands; the timeout is the socket's own, for all of it."""
        self._sock = sock
        self._tunnel = Tunnel(context, host)
        self._plain = b""
        self._shake()

    def _shake(self) -> None:
        data, time_left = b"", _TimeLeft(self._sock)
        while True:
            self._sock.sendall(self._tunnel.shake(data))
            if self._tunnel.shaken:
                return
            time_left.limit()
            if not (data := self._sock.recv(READ_SIZE)):
                raise ConnectionResetError("the connection ended in the handshake of TLS")

    def settimeout(self, seconds: float | None) -> None:
        self._sock.settimeout(seconds)

    def recv(self, size: int) -> bytes:
        """Records with nothing in them for us buy the peer no time."""
        if not (self._plain or self._tunnel.ended):
            time_left = _TimeLeft(self._sock)
            self._plain = self._tunnel.decrypt(self._sock.recv(READ_SIZE))
            while not (self._plain or self._tunnel.ended):
                time_left.limit()
                self._plain = self._tunnel.decrypt(self._sock.recv(READ_SIZE))
        taken, self._plain = self._plain[:size], self._plain[size:]
        return taken

    def sendall(self, data: bytes) -> None:
        self._sock.sendall(self._tunnel.encrypt(data))

    def shutdown(self, how: int) -> None:
        if how == socket.SHUT_WR:
            self._sock.sendall(self._tunnel.close())
        self._sock.shutdown(how)

    def close(self) -> None:
        self._sock.close()


class _TimeLeft:
    """Of a socket's timeout, for several reads together."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._timeout = sock.gettimeout()
        self._began = time.monotonic()

    def limit(self) -> None:
        """Of the next one. Raises TimeoutError, or BlockingIOError for who does not wait."""
        if self._timeout is None:
            return
        left = self._began + self._timeout - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out") if self._timeout else BlockingIOError("nothing has come")
        self._sock.settimeout(left)
