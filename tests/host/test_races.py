# SPDX-License-Identifier: MIT
"""Cancel, deadline, credit and worker at once: each call has exactly one final frame, and it says the truth."""

from __future__ import annotations

import random
import struct
from collections import Counter
from pathlib import Path

import pytest

from conftest import HostFactory
from gendriverd.etf import Atom
from host_process import HostProcess, Peer, call
from streams import cancel, credit, parts, stream

RECORD = 1
OK = Atom("ok")
NEVER_RAN = {"expired", "cancelled"}
CALLS, IN_FLIGHT = 6000, 200


def ran(ledger: Path) -> Counter[int]:
    return Counter(number for (number,) in struct.iter_unpack(">q", ledger.read_bytes()))


@pytest.mark.parametrize("threads", [1, 4])
def test_each_call_has_one_outcome_and_a_true_one(host: HostFactory, tmp_path: Path, threads: int) -> None:
    ledger, chance, told = tmp_path / "ledger", random.Random(threads), dict[int, str]()
    process: HostProcess = host("ledger", threads=threads, settings={"ledger": str(ledger)})
    peer = process.connect()

    def hear() -> None:
        tag, number, outcome = peer.receive()
        assert number not in told
        assert tag in ("reply", "failed")
        told[number] = "ok" if (tag, outcome) == ("reply", (OK, number)) else str(outcome)

    for number in range(CALLS):
        options = {Atom("timeout"): chance.choice((0, 1, 2, 60_000))} if chance.random() < 0.7 else {}
        if chance.random() < 0.3:
            options[Atom("key")] = chance.randrange(8)
        frames = [call(number, RECORD, number, options)]
        if chance.random() < 0.5:  # one that was sent just now, or some time ago, or that has its answer
            frames.append((Atom("cancel"), max(0, number - chance.randrange(50))))
        peer.send(*frames)
        while number + 1 - len(told) >= IN_FLIGHT:
            hear()
    while len(told) < CALLS:
        hear()
    books = ran(ledger)
    assert set(told.values()) <= {"ok", *NEVER_RAN}
    assert {number for number, outcome in told.items() if outcome == "ok"} == set(books)
    assert set(books.values()) == {1}
    assert len(set(told.values())) == 3  # each of them came about, or this tests nothing


class Streams:
    """A client of many streams at once, who cancels some and gives credit as it likes."""

    def __init__(self, peer: Peer, chance: random.Random) -> None:
        self.peer = peer
        self._chance = chance
        self._left: dict[int, int] = {}  # credit given and not used
        self._came: dict[int, int] = {}
        self._size: dict[int, int] = {}
        self._next = 0
        self.outcomes = Counter[str]()

    def begin(self) -> None:
        call_id, self._next = self._next, self._next + 1
        self._left[call_id], self._came[call_id] = self._chance.randrange(1, 5), 0
        self._size[call_id] = self._chance.randrange(12)
        frames = [stream(call_id, self._left[call_id], parts(self._size[call_id]))]
        if self._chance.random() < 0.2:
            frames.append(cancel(call_id))
        self.peer.send(*frames)

    def hear(self) -> None:
        tag, call_id, term = self.peer.receive()
        if tag == "part":
            assert term == self._came[call_id]
            self._came[call_id] += 1
            self._left[call_id] -= 1
            assert self._left[call_id] >= 0
        if tag == "part" and (self._left[call_id] == 0 or self._chance.random() < 0.3):
            self._answer(call_id)
        elif tag != "part":
            assert tag in ("reply", "failed")
            assert tag == "failed" or self._came[call_id] == self._size[call_id]
            del self._left[call_id], self._came[call_id]
            self.outcomes[str(term)] += 1

    def _answer(self, call_id: int) -> None:
        if self._chance.random() < 0.1:
            self.peer.send(cancel(call_id))
        more = self._chance.randrange(1, 5)
        self._left[call_id] += more
        self.peer.send(credit(call_id, more))

    def __len__(self) -> int:
        return len(self._left)


def hear(clients: list[Streams], most: int) -> None:
    """Until none has more streams than that."""
    while any(len(streams) > most for streams in clients):
        for streams in clients:
            if streams.peer.has_more():
                streams.hear()


@pytest.mark.parametrize("threads", [2, 8])
def test_each_stream_has_one_outcome_and_a_reply_means_that_no_part_is_missing(host: HostFactory, threads: int) -> None:
    chance, outcomes = random.Random(threads), Counter[str]()
    process = host("streams", threads=threads)
    for _ in range(4):
        clients = [Streams(process.connect(tcp=True), chance) for _ in range(4)]
        for _ in range(30):
            for streams in clients:
                streams.begin()
            hear(clients, 6)
        clients[0].peer.reset()  # with streams that wait
        clients[1].peer.close()
        hear(clients[2:], 0)
        outcomes += sum((streams.outcomes for streams in clients), Counter())
        clients[2].peer.close()
    assert set(outcomes) == {"ok", "interrupted", "cancelled"}
    assert process.stop() == 0
