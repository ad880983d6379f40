# SPDX-License-Identifier: MIT
"""What tests of TLS stand on: a daemon's certificates, and a client that says and hears single things."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from typing import Any, Self

from certificates import Authority, Certificate
from gendriverd import etf
from gendriverd.client.tls import TlsSocket
from gendriverd.etf import Atom, Term
from running_daemon import RunningDaemon

HOSTS = ("localhost", "127.0.0.1")
SECONDS = 30.0


class House:
    """An authority, and the certificate that it has given to the daemon."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(exist_ok=True)
        self.authority = Authority(directory)
        self.own = self.authority.issue("localhost", hosts=HOSTS)

    def settings(self, **more: object) -> dict[str, object]:
        """Of [tls]."""
        return {"certificate": str(self.own.certificate), "key": str(self.own.key), **more}

    def asking(self, clients: str = "required", **more: object) -> dict[str, object]:
        """The same with certificates of clients."""
        return self.settings(clients=clients, client_ca=str(self.authority.file), **more)

    def trust(self, who: Certificate | None = None) -> ssl.SSLContext:
        """A client's context; `who` it is."""
        context = ssl.create_default_context(cafile=self.authority.file)
        if who is not None:
            context.load_cert_chain(who.certificate, who.key)
        return context


def dial(url: str) -> socket.socket:
    """A connection, and no word on it yet."""
    host, port = url.partition("://")[2].rsplit(":", 1)
    return socket.create_connection((host, int(port)), SECONDS)


class Peer:
    """A client with its handshake of TLS done; each direction ends on its own."""

    def __init__(self, url: str, context: ssl.SSLContext) -> None:
        self.tcp = dial(url)
        try:
            self.tls = TlsSocket(self.tcp, context, "localhost")
        except BaseException:
            self.tcp.close()
            raise
        self._read = bytearray()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.tcp.close()

    def say(self, *frames: bytes) -> None:
        self.tls.sendall(b"".join(frames))

    def say_all(self) -> None:
        """close_notify: nothing more is asked."""
        self.tls.shutdown(socket.SHUT_WR)

    def last(self, *frames: bytes) -> bytes:
        """These and close_notify, as they are to be sent: by another thread, while this one hears."""
        return self.tls._tunnel.encrypt(b"".join(frames)) + self.tls._tunnel.close()

    def hear(self) -> Any:
        """The next frame's term; None: close_notify. An end without it raises ssl.SSLError."""
        while len(self._read) < 4 or len(self._read) < 4 + int.from_bytes(self._read[:4], "big"):
            data = self.tls.recv(1 << 18)
            if not data:
                assert not self._read
                return None
            self._read += data
        end = 4 + int.from_bytes(self._read[:4], "big")
        term = etf.decode(bytes(self._read[4:end]))
        del self._read[:end]
        return term

    def welcomed(self, instance: str) -> Peer:
        """After the handshake with the daemon."""
        assert self.hear()[0] == Atom("gen_driver")
        self.say(etf.frame((Atom("hello"), 1, instance.encode(), {})))
        assert self.hear()[0] == Atom("welcome")
        return self


def call(number: int, command: int, params: Term) -> bytes:
    return etf.frame((Atom("call"), number, command, params))


def front_of(running: RunningDaemon, since: int = 0) -> int:
    """The process, when it is ready."""
    return int(running.wait_event("tls_ready", since=since)["pid"])


def echoes(running: RunningDaemon, house: House) -> bool:
    """Somebody new is served."""
    with Peer(running.tls_url, house.trust()).welcomed("echo") as peer:
        peer.say(call(1, 1, b"hi"))
        return bool(peer.hear() == (Atom("reply"), 1, (Atom("ok"), b"hi")))
