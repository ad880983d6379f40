# SPDX-License-Identifier: MIT
"""TLS over a trio stream, each direction with an end of its own; trio.SSLStream knows no half-close."""

from __future__ import annotations

import ssl

import trio

from gendriverd.client.tls import READ_SIZE, Tunnel


class TlsStream(trio.abc.HalfCloseableStream):
    """One task sends, one receives. BrokenResourceError: the connection is gone, or was cut off."""

    def __init__(self, stream: trio.SocketStream, tunnel: Tunnel) -> None:
        self._stream = stream
        self._tunnel = tunnel
        self._plain = b""

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        while not (self._plain or self._tunnel.ended):
            data = await self._stream.receive_some(READ_SIZE)
            try:
                self._plain = self._tunnel.decrypt(bytes(data))
            except ssl.SSLError as error:
                raise trio.BrokenResourceError(error.reason or str(error)) from error
        await trio.lowlevel.checkpoint_if_cancelled()
        size = max_bytes or READ_SIZE
        taken, self._plain = self._plain[:size], self._plain[size:]
        return taken

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(self._tunnel.encrypt(bytes(data)))

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        await self._stream.send_all(self._tunnel.close())
        await self._stream.send_eof()

    async def aclose(self) -> None:
        await self._stream.aclose()


async def open_tls(stream: trio.SocketStream, context: ssl.SSLContext, host: str) -> TlsStream:
    """Shake hands. Raises OSError, trio.BrokenResourceError."""
    tunnel = Tunnel(context, host)
    data = b""
    while True:
        await stream.send_all(tunnel.shake(data))
        if tunnel.shaken:
            return TlsStream(stream, tunnel)
        if not (data := bytes(await stream.receive_some(READ_SIZE))):
            raise ConnectionResetError("the connection ended in the handshake of TLS")
