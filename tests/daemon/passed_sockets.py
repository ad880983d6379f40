# SPDX-License-Identifier: MIT
"""What tests of passed descriptors pass, and whether the kernel refuses it."""

from __future__ import annotations

import array
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress

import pytest

from gendriverd import passing


def kernel_refuses() -> bool:
    with socket.socket(socket.AF_UNIX) as own:
        return passing.refuse(own)


needs_refusal = pytest.mark.skipif(not kernel_refuses(), reason="the kernel can refuse them from Linux 6.16 on")
needs_no_refusal = pytest.mark.skipif(kernel_refuses(), reason="the kernel refuses them")


def rights(fd: int) -> list[tuple[int, int, array.array[int]]]:
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))]


@pytest.fixture
def lingering() -> Iterator[socket.socket]:
    """Whoever closes it last waits for an hour."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as sock:
        sock.setblocking(False)
        with suppress(BlockingIOError):
            while sock.send(bytes(1 << 20)):
                pass
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 3600))
        yield sock
