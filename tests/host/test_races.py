# SPDX-License-Identifier: MIT
"""Cancel, deadline and worker at once: each call has exactly one final frame, and it says the truth about its run."""

from __future__ import annotations

import random
import struct
from collections import Counter
from pathlib import Path

import pytest

from conftest import HostFactory
from gendriverd.etf import Atom
from host_process import HostProcess, call

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
