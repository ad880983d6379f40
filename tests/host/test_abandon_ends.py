# SPDX-License-Identifier: MIT
"""Threads that were written off when their host ends: more than may be, a stop, a crash; and what its record says."""

from __future__ import annotations

import os
import resource
import signal
from pathlib import Path

import pytest

from abandoned import (
    BLOCK,
    BLOCK_SEGV,
    HANG,
    KEY,
    OK,
    RELEASE,
    REPLY,
    SLEEP_UNTIL_CANCELLED,
    WAITING,
    Abandoning,
    logged,
    record,
    release,
    timeout,
)
from gendriverd import etf
from gendriverd.aftermath import culprit, last_words
from gendriverd.etf import Atom
from gendriverd.launch import Exit
from gendriverd.recorder import Record, Request, State
from host_process import call, cast


@pytest.mark.parametrize("most", [0, 1, 3])
def test_one_more_than_may_be_written_off_takes_the_host_down(abandoning: Abandoning, most: int) -> None:
    process = abandoning(max_abandoned=most)
    peer = process.connect()
    for i in range(most):
        peer.send(call(i, HANG))
        assert peer.receive() == timeout(i)
    peer.send(call(most, HANG))
    assert peer.receive() is None
    assert process.wait() == -signal.SIGABRT
    dead = record(process)
    assert dead.death is not None
    assert dead.death.hang
    assert dead.death.request is not None
    assert dead.death.request.id == most
    assert told(dead) == [(most, "timeout")]


def test_a_thread_that_came_back_may_be_followed_by_another(abandoning: Abandoning) -> None:
    process = abandoning(max_abandoned=1)
    peer = process.connect()
    for i in range(3):
        peer.send(call(i, BLOCK))
        assert peer.receive() == timeout(i)
        release(peer)
        logged(process, "worker_back")


@pytest.mark.skipif("GENDRIVERD_SANITIZER" in os.environ, reason="a sanitizer needs address space without end")
def test_without_memory_for_another_thread_the_host_goes_down(abandoning: Abandoning) -> None:
    process = abandoning(threads=1)
    peer = process.connect()
    peer.send(call(1, HANG))
    mapped = int(Path(f"/proc/{process.process.pid}/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.prlimit(process.process.pid, resource.RLIMIT_AS, (mapped, mapped))
    assert peer.receive() is None
    assert process.wait() == -signal.SIGABRT
    assert told(record(process)) == [(1, "timeout")]


@pytest.mark.parametrize("message", ["stop", "drain"])
def test_a_host_leaves_in_order_without_those_that_do_not_come_back(abandoning: Abandoning, message: str) -> None:
    process = abandoning()
    peer = process.connect()
    peer.send(call(1, HANG), cast(HANG))
    assert peer.receive() == timeout(1)
    assert [logged(process, "worker_abandoned")["abandoned"] for _ in range(2)] == [1, 2]
    process.tell(Atom(message), 10_000_000)  # it does not wait for its limit
    peer.close()
    logged(process, "workers_left_behind")
    assert process.wait() == 0


def test_a_request_that_hangs_while_the_host_stops_is_written_off(abandoning: Abandoning) -> None:
    process = abandoning()
    peer = process.connect()
    peer.send(call(1, HANG), call(2, WAITING, 1))
    assert peer.receive() == (REPLY, 2, OK)
    process.tell(Atom("stop"), 10_000_000)
    assert peer.receive_all() == [timeout(1), (Atom("goodbye"), Atom("stopping"))]
    peer.close()
    assert process.wait() == 0


def told(dead: Record) -> list[tuple[int, str]]:
    """What the daemon would say of these calls on the first connection."""
    data = last_words(dead.requests, culprit(dead.death, Exit(None, "SIGABRT")), dead.connections[1].sent)
    frames = []
    while data:
        length = int.from_bytes(data[:4], "big")
        frames.append(etf.decode(data[4 : 4 + length]))
        data = data[4 + length :]
    return [(frame[1], str(frame[2])) for frame in frames[:-1]]


def only(requests: list[Request], command: int) -> Request:
    (found,) = [each for each in requests if each.command == command]
    return found


def test_the_slot_is_kept_until_the_thread_is_back(abandoning: Abandoning) -> None:
    process = abandoning()
    peer = process.connect()
    peer.send(call(1, BLOCK, 0, {KEY: 1}))
    assert peer.receive() == timeout(1)
    logged(process, "worker_abandoned")
    written_off = only(record(process).requests, BLOCK)
    assert (written_off.state, written_off.seat, written_off.id) == (State.DONE, 1, 1)
    assert (written_off.abandoned, written_off.told) == (True, True)
    assert told(record(process)) == []
    release(peer)
    logged(process, "worker_back")
    assert [each for each in record(process).requests if each.command == BLOCK] == []


def test_a_fault_after_the_timeout_names_its_request_and_tells_its_caller_nothing_again(
    abandoning: Abandoning,
) -> None:
    process = abandoning()
    peer, other = process.connect(), process.connect()
    peer.send(call(1, BLOCK_SEGV, b"this one", {KEY: 1}))
    assert peer.receive() == timeout(1)
    peer.send(call(1, SLEEP_UNTIL_CANCELLED, 0, {KEY: 0}), call(2, WAITING, 2, {KEY: 1}))
    assert peer.receive() == (REPLY, 2, OK)
    other.send(call(9, RELEASE))
    assert process.wait() == -signal.SIGSEGV
    dead = record(process)
    assert dead.death is not None
    assert (dead.death.hang, dead.death.signal) == (False, signal.SIGSEGV)
    assert dead.death.request == only(dead.requests, BLOCK_SEGV)
    assert dead.death.params == etf.encode(b"this one")[1:]
    assert told(dead)[:1] == [(1, "interrupted")]  # the one that has its id now
