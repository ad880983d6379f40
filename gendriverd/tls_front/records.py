# SPDX-License-Identifier: MIT
"""Where the records of TLS end in what a client says, so that those can be counted that bring nothing.

Each costs as much as one that brings something, and one that changes a key (KeyUpdate, RFC 8446) many times as much; no
client needs many, and OpenSSL takes any number of them in one go.
"""

from __future__ import annotations

HEADER = 5  # bytes: type, version, and in two of them the length of what follows
AT_ONCE = 64  # records that are given to OpenSSL before those that brought nothing are counted
IDLE_MAX = 64  # of these a connection may have, and one more for each IDLE_PER bytes of data
IDLE_PER = 65536


class Records:
    __slots__ = ("_header", "_left", "data", "idle")

    def __init__(self) -> None:
        self.idle = 0  # records that brought nothing
        self.data = 0  # bytes
        self._header = b""  # as far as it has come
        self._left = 0  # bytes of the one that has begun, behind its header

    def cut(self, said: memoryview) -> tuple[int, int]:
        """Of what comes next: how many bytes to take at once, and how many records end in these."""
        size = len(said)
        if size > HEADER and not (self._left or self._header) and size == HEADER + int.from_bytes(said[3:5], "big"):
            return size, 1  # as most are
        place = ended = 0
        while place < size and ended < AT_ONCE:
            if not self._left:
                place += self._begin(said[place : place + HEADER - len(self._header)])
            step = min(self._left, size - place)
            self._left -= step
            place += step
            ended += not (self._left or self._header)
        return place, ended

    def _begin(self, said: memoryview) -> int:
        self._header += said
        if len(self._header) == HEADER:
            self._left = int.from_bytes(self._header[3:], "big")
            self._header = b""
        return len(said)

    def count(self, ended: int, pieces: list[bytes]) -> bool:
        """So many records have ended, and brought these. False: too many of this connection's have brought nothing."""
        self.idle += ended - len(pieces)
        self.data += sum(map(len, pieces))
        return self.idle <= IDLE_MAX + self.data // IDLE_PER
