# SPDX-License-Identifier: MIT
"""TLS 1.3 in front of a daemon's socket, for tests: each direction ends on its own, as it does without TLS.

    python tests/system/tls_front.py CERTIFICATE BACKEND_PORT

Prints the port that it listens on; serves until its standard input ends.
"""

import ssl
import sys

import trio

CHUNK = 65536


async def to_daemon(client: trio.SSLStream[trio.SocketStream], daemon: trio.SocketStream) -> None:
    """Until the client's close_notify, which says that it has nothing more to ask."""
    try:
        while data := await client.receive_some(CHUNK):
            await daemon.send_all(data)
        await daemon.send_eof()
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        await daemon.aclose()


async def to_client(daemon: trio.SocketStream, client: trio.SSLStream[trio.SocketStream]) -> None:
    try:
        while data := await daemon.receive_some(CHUNK):
            await client.send_all(data)
        await client.aclose()
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        await client.transport_stream.aclose()


async def serve(port: int, context: ssl.SSLContext, stream: trio.SocketStream) -> None:
    try:
        client = trio.SSLStream(stream, context, server_side=True, https_compatible=True)
        await client.do_handshake()
        async with await trio.open_tcp_stream("127.0.0.1", port) as daemon, trio.open_nursery() as both:
            both.start_soon(to_daemon, client, daemon)
            both.start_soon(to_client, daemon, client)
    except (OSError, trio.BrokenResourceError):
        await stream.aclose()


async def main(certificate: str, port: int) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(certificate)
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        print(listener.socket.getsockname()[1], flush=True)

        async def handler(stream: trio.SocketStream) -> None:
            await serve(port, context, stream)

        nursery.start_soon(trio.serve_listeners, handler, [listener])
        await trio.to_thread.run_sync(sys.stdin.read)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, sys.argv[1], int(sys.argv[2]))
