# SPDX-License-Identifier: MIT
"""The recorder as the host writes it, read by the daemon's reader: the two know one layout, and it tells the truth."""

from __future__ import annotations

import os
import socket
import struct
import time

import pytest

from conftest import Gate, HostFactory
from gendriverd import etf
from gendriverd.aftermath import has_left
from gendriverd.etf import Atom
from gendriverd.recorder import CONN, HEADER, SLOT, Recorder, Request, State, Untrusted
from host_process import DEADLINE, HostProcess, call, cast

WAIT, NOTE = 1, 2
USED = 352  # where in the head it is said how many slots were ever in use


def read(process: HostProcess) -> list[Request]:
    assert process.recorder is not None
    return sorted(process.recorder.read().requests, key=lambda request: request.number)


def test_what_waits_and_runs_is_told_and_what_is_answered_is_not(gated: HostFactory, gate: Gate) -> None:
    process = gated(recorded=True)
    peer = process.connect()
    peer.send(call(7, WAIT, [1, 2], {Atom("timeout"): 60_000}), call(2**31 - 1, NOTE, b"x" * 400), cast(NOTE, 300))
    gate.reached()
    running, queued, third = read(process)
    assert (running.state, running.seat, running.call, running.id, running.command) == (State.RUNNING, 0, True, 7, WAIT)
    assert running.params == etf.encode([1, 2])[1:]
    assert running.deadline - running.queued_at == 60_000 * 10**6
    assert 0 < running.queued_at <= running.started_at < running.deadline
    assert (queued.state, queued.id, queued.command, queued.started_at) == (State.QUEUED, 2**31 - 1, NOTE, 0)
    assert (queued.params_len, queued.params) == (len(etf.encode(b"x" * 400)) - 1, None)
    assert (third.call, third.command, third.params) == (False, NOTE, etf.encode(300)[1:])
    assert {request.conn for request in (running, queued, third)} == {1}
    gate.open()
    assert peer.receive()[1] == 7
    assert peer.receive()[1] == 2**31 - 1
    assert peer.call(3, NOTE, 1) == Atom("ok")  # one worker: the cast is done
    peer.send((Atom("ping"), 1))
    assert peer.receive() == (Atom("pong"), 1)
    assert process.recorder is not None
    record = process.recorder.read()
    assert [each for each in record.requests if not has_left(each, record.connections[1].sent)] == []


def test_the_output_of_a_connection_is_counted(host: HostFactory) -> None:
    process = host("echo", recorded=True)
    peer = process.connect()
    sent = len(etf.frame((Atom("welcome"), 1, {})))
    for number in range(10):
        assert peer.call(number, 1, b"x" * 3000 * number)[0] == Atom("ok")
        sent += len(etf.frame((Atom("reply"), number, (Atom("ok"), b"x" * 3000 * number))))
    assert process.recorder is not None
    output = process.recorder.read().connections[1]  # the kernel wrote it down before we could have it all
    assert (output.sent, output.whole, output.behind) == (sent, True, False)
    peer.close()
    process.hear("closed")
    assert process.recorder.read().connections == {}


def cut_at(frames: bytes) -> int:
    """Bytes of the last frame, if it is not there in whole."""
    while len(frames) >= 4 and len(frames) - 4 >= int.from_bytes(frames[:4], "big"):
        frames = frames[4 + int.from_bytes(frames[:4], "big") :]
    return len(frames)


@pytest.mark.parametrize("tcp", [False, True])
def test_the_output_is_counted_truly_whenever_the_host_is_killed(host: HostFactory, tcp: bool) -> None:
    """It is killed while it sends: between the send and the next store of its thread there is no telling otherwise."""
    for size in [20] * 30 + [9_000] * 10:
        process = host("echo", recorded=True)
        peer = process.connect(tcp=tcp, kept=True)
        peer.send(*(call(number, 1, b"x" * size) for number in range(200)))
        heard = len(etf.frame((Atom("welcome"), 1, {}))) + len(peer.sock.recv(1))
        process.process.kill()
        process.process.wait()
        process.kept[-1].shutdown(socket.SHUT_WR)
        rest = b""
        while data := peer.sock.recv(1 << 20):
            rest += data
        assert process.recorder is not None
        output = process.recorder.read().connections[1]
        assert output.sent == heard + len(rest)
        assert not output.whole or cut_at(b"\0" + rest) == 0


def test_a_client_that_does_not_read_holds_no_slots(host: HostFactory) -> None:
    process = host("echo", recorded=True, queue=4, threads=1, unsent_bytes=1 << 20)
    deaf, peer = process.connect(), process.connect()
    deaf.send(*(call(number, 1, b"x" * 100_000) for number in range(8)))
    for number in range(400):  # many more than there are slots
        deaf.send(call(100 + number, 1, number))
        assert peer.call(number, 1, number) == (Atom("ok"), number)
    assert process.recorder is not None
    until = time.monotonic() + DEADLINE
    while [each for each in process.recorder.read().requests if each.conn == 1]:  # the last one's turn comes
        assert time.monotonic() < until
    assert process.recorder.read().connections[1].behind
    assert len({deaf.receive()[1] for _ in range(408)}) == 408
    deaf.send((Atom("ping"), 1))
    assert deaf.receive() == (Atom("pong"), 1)
    output = process.recorder.read().connections[1]
    assert (output.whole, output.behind) == (True, False)


@pytest.mark.parametrize(
    "at", [0, 8, 20, 24, USED, USED + 5, HEADER + 64 * CONN + 48, HEADER + 64 * CONN + 3 * SLOT + 50]
)
def test_overwritten_it_is_worth_nothing(gated: HostFactory, gate: Gate, at: int) -> None:
    process = gated(recorded=True, connections=64)
    process.connect().send(call(1, WAIT))
    gate.reached()
    assert process.recorder is not None
    assert len(process.recorder.read().requests) == 1
    os.pwrite(process.recorder.fd, b"\xa5\x5a\xa5", at)
    with pytest.raises(Untrusted, match="overwritten"):
        process.recorder.read()
    gate.open()


def test_a_call_whose_number_was_overwritten_is_not_believed(gated: HostFactory, gate: Gate) -> None:
    process = gated(recorded=True, connections=64)
    process.connect().send(call(1, WAIT))
    gate.reached()
    assert process.recorder is not None
    at = next(
        at
        for at in range(HEADER + 64 * CONN, process.recorder.size, SLOT)
        if struct.unpack("<QQ", os.pread(process.recorder.fd, 16, at)) == (1, 1)
    )
    os.pwrite(process.recorder.fd, struct.pack("<I", 2), at + 52)
    with pytest.raises(Untrusted, match="overwritten"):
        process.recorder.read()
    gate.open()


def test_its_size_is_sealed() -> None:
    recorder = Recorder(10, 1, 10)
    for size in (0, recorder.size - 1, recorder.size + 1):
        with pytest.raises(PermissionError):
            os.ftruncate(recorder.fd, size)
    assert recorder.read().requests == []
    recorder.close()


def test_one_of_another_size_is_refused(start_host: HostFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gendriverd.recorder.SPARE", 7)
    process = start_host("echo", recorded=True)
    assert b"recorder" in process.hear("refuse")[1]
    assert process.wait() == 100
