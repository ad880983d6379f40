# SPDX-License-Identifier: MIT
"""The clients' sockets that were passed to one host: who has answered for them, and their parting when it is dead.

Of each socket the daemon keeps a descriptor, which it touches again only then.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

import trio

from gendriverd.aftermath import Guilt, by_connection, ends_whole, last_words
from gendriverd.client_lines import ClientLines
from gendriverd.descriptors import check_for_client
from gendriverd.errors import BadMessage
from gendriverd.farewell import AT_ONCE, close, linger
from gendriverd.log import Log
from gendriverd.messages import Closed
from gendriverd.recorder import Record

COUNTS = ("calls", "casts", "bytes_in", "bytes_out")

Background = Callable[..., None]  # (async function, its arguments ..)


class Handover(Enum):
    ADOPTED = "adopted"
    TOO_MANY = "too_many"  # refused: its connections are at their limit
    UNTOUCHED = "untouched"  # refused, or the host is dead: another may have the socket
    SILENT = "silent"  # no answer: the host may yet write to the socket, nobody else must


@dataclass
class Connection:
    """One of them; `ours` is our descriptor."""

    number: int
    peer: str
    lines: ClientLines  # of its source
    ours: socket.socket
    answered: trio.Event = field(default_factory=trio.Event)
    outcome: Handover = Handover.SILENT


class Connections:
    """`background` starts a task that may live longer than the host: it waits for the end of a client."""

    def __init__(self, log: Log, background: Background) -> None:
        self._log = log
        self._background = background
        self._numbers = 0
        self._open: dict[int, Connection] = {}

    def add(self, peer: str, lines: ClientLines, client: int) -> Connection:
        """One that is about to be passed. Raises OSError when there is no descriptor left."""
        ours = socket.socket(fileno=os.dup(client))
        try:
            check_for_client(ours.fileno())
        except OSError:
            ours.close()
            raise
        self._numbers += 1
        connection = Connection(self._numbers, peer, lines, ours)
        self._open[self._numbers] = connection
        return connection

    def withdraw(self, connection: Connection) -> None:
        """It could not be passed."""
        if self._open.pop(connection.number, None) is not None:
            close(connection.ours)

    def __len__(self) -> int:
        return len(self._open)

    def peers(self) -> dict[int, str]:
        return {number: connection.peer for number, connection in self._open.items()}

    def adopted(self, number: int) -> None:
        """Raises BadMessage, as the two below, when that cannot be."""
        connection = self._answer(number, Handover.ADOPTED)
        connection.lines.say(self._log, "client_connected", conn=number, peer=connection.peer)

    def refused(self, number: int, reason: str) -> None:
        self._answer(number, Handover.TOO_MANY if reason == "too_many" else Handover.UNTOUCHED)
        close(self._open.pop(number).ours)

    def closed(self, message: Closed) -> None:
        connection = self._open.get(message.conn)
        if connection is None or connection.outcome is not Handover.ADOPTED:
            raise BadMessage(f"closed: no connection {message.conn}")
        del self._open[message.conn]
        close(connection.ours)
        counts = {key: message.counts.get(key, 0) for key in COUNTS}
        if lost := message.counts.get("notes_lost", 0):  # few drivers send notes
            counts["notes_lost"] = lost
        about = {"conn": message.conn, "peer": connection.peer, "reason": message.reason, **counts}
        connection.lines.say(self._log, "client_closed", **about)

    def part(self, record: Record, guilt: Guilt | None, *, silently: bool, trusted: bool) -> None:
        """The host is dead: each client hears what became of its calls, unless `silently`. Waits for nobody.

        Not `trusted`: what the host said or wrote down does not count, and it may have written to any socket.
        """
        requests = by_connection(record)
        connections, self._open = self._open, {}
        for number, connection in connections.items():
            output = record.connections.get(number)
            if output is None and not connection.answered.is_set():
                connection.outcome = Handover.UNTOUCHED if trusted else Handover.SILENT
                close(connection.ours)
            elif output is None or silently or not trusted or not ends_whole(output):
                self._leave(connection, b"")
            else:
                self._leave(connection, last_words(requests.get(number, ()), guilt, output.sent))
            connection.answered.set()

    def drop(self) -> None:
        """Nobody will hear of them any more."""
        for connection in self._open.values():
            close(connection.ours)
            connection.answered.set()

    def _answer(self, number: int, outcome: Handover) -> Connection:
        connection = self._open.get(number)
        if connection is None or connection.outcome is Handover.ADOPTED:
            raise BadMessage(f"{outcome.value}: connection {number} waits for no answer")
        connection.outcome = outcome
        connection.answered.set()
        return connection

    def _leave(self, connection: Connection, words: bytes) -> None:
        """What does not fit into the socket is cut off: then the client cannot take it for a whole word."""
        connection.outcome = Handover.ADOPTED
        with contextlib.suppress(OSError):
            if words:
                connection.ours.send(words, AT_ONCE)
            connection.ours.shutdown(socket.SHUT_WR)
        self._background(linger, trio.socket.from_stdlib_socket(connection.ours))
