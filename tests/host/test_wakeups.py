# SPDX-License-Identifier: MIT
"""The host notices what nobody tells it: a peer that vanished, a client that does not read, room that became free."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from conftest import Gate, HostFactory
from gendriverd import etf
from gendriverd.etf import Atom
from host_process import HostProcess, Peer, call, cast, resident

WAIT, NOTE, NOTES, UNTIL_CANCELLED, SAY_ERROR = 1, 2, 3, 5, 9
OK = Atom("ok")


def begin(process: HostProcess, peer: Peer, *requests: object) -> None:
    """Send, and wait until the loop has taken it all."""
    peer.send(*requests, (Atom("ping"), 1))
    assert peer.receive() == (Atom("pong"), 1)


def test_a_reset_behind_a_bad_frame_ends_the_call_that_still_runs(gated: HostFactory) -> None:
    process = gated()
    peer = process.connect(tcp=True)
    begin(process, peer, call(1, UNTIL_CANCELLED))
    peer.sock.sendall(b"\0\0\0\1x")
    control(process)
    peer.reset()
    assert process.hear("closed")[2] == "bad_term"
    assert process.connect().call(1, NOTES) == []  # the worker is free


def test_a_reset_while_stopping_ends_the_call_that_still_runs(gated: HostFactory) -> None:
    process = gated()
    peer = process.connect(tcp=True)
    begin(process, peer, call(1, UNTIL_CANCELLED))
    process.tell(Atom("stop"), 60_000)
    control(process)
    peer.reset()
    assert process.wait() == 0


def test_a_reset_of_a_client_whose_cast_waits_for_room_is_noticed(gated: HostFactory) -> None:
    process = gated(queue=1)
    peer = process.connect(tcp=True)
    begin(process, peer, call(1, UNTIL_CANCELLED))
    peer.send(*(cast(NOTE, number) for number in range(60)))  # more than there is room for
    control(process)
    peer.reset()
    process.hear("closed")
    assert process.connect().call(1, NOTES, None, {Atom("timeout"): 30_000}) != (Atom("failed"), Atom("expired"))


def test_a_unix_client_that_is_gone_cancels_its_calls(gated: HostFactory) -> None:
    process = gated()
    peer = process.connect()
    begin(process, peer, call(1, UNTIL_CANCELLED))
    peer.close()
    assert process.hear("closed")[2] == "peer_gone"


def test_casts_of_a_unix_client_that_is_gone_still_run(gated: HostFactory, gate: Gate) -> None:
    process = gated(queue=2)
    peer, other = process.connect(), process.connect()
    begin(process, other, call(1, WAIT))
    peer.send(*(cast(NOTE, number) for number in range(200)))
    peer.close()
    gate.open()
    assert other.receive() == (Atom("reply"), 1, OK)
    process.hear("closed")
    while (notes := when_there_is_room(other, NOTES)) != list(range(200)):  # it has its turn between them
        assert notes == list(range(len(notes)))


def test_an_unread_client_is_left_although_nobody_else_is_there(host: HostFactory) -> None:
    process = host("echo", unsent_ms=300, threads=1)
    process.connect(tcp=True).send(call(1, 1, b"x" * (12 << 20)))
    assert process.hear("closed")[2] == "unread"


def test_room_made_by_the_clock_is_found_by_a_cast_that_waits(gated: HostFactory, gate: Gate) -> None:
    process = gated(queue=10)
    peer, filling = process.connect(), process.connect()
    begin(process, filling, call(0, WAIT))
    timeout = {Atom("timeout"): 300}
    filling.send(*(call(number, NOTE, number, timeout) for number in range(1, 100)))
    peer.send(cast(NOTE, 7), (Atom("ping"), 5))
    assert {filling.receive()[2] for _ in range(99)} == {Atom("overloaded"), Atom("expired")}
    assert peer.receive() == (Atom("pong"), 5)  # the worker is still at the gate
    gate.open()


def test_the_bytes_of_casts_are_bounded(gated: HostFactory, gate: Gate) -> None:
    process = gated(in_flight_bytes=4 << 20)
    peer = process.connect()
    begin(process, peer, call(0, WAIT))
    before = resident(process.process.pid)
    peer.sock.setblocking(False)
    frame, sent = etf.frame(cast(NOTE, b"x" * (1 << 20))), 0
    try:
        while sent < 64 << 20:
            sent += peer.sock.send(frame[sent % len(frame) :])
    except BlockingIOError:
        pass
    assert sent < 16 << 20
    assert resident(process.process.pid) - before < 16 << 20
    peer.sock.settimeout(30)
    gate.open()
    assert peer.receive() == (Atom("reply"), 0, OK)
    peer.sock.sendall(frame[sent % len(frame) :])
    assert peer.call(1, NOTES) == []  # no cast held a number, and each was run


def test_a_cast_larger_than_all_that_may_be_in_flight_goes_alone(gated: HostFactory) -> None:
    process = gated(in_flight_bytes=1000)
    peer = process.connect()
    peer.send(*(cast(NOTE, b"x" * 5000) for _ in range(5)))
    assert when_there_is_room(peer, NOTES) == []


def test_a_call_that_cannot_be_does_not_answer_for_one_that_runs(gated: HostFactory, gate: Gate) -> None:
    process = gated()
    peer = process.connect()
    begin(process, peer, call(5, WAIT))
    peer.send(call(5, -1))
    control(process)
    gate.open()
    assert peer.receive_all() == [(Atom("reply"), 5, OK), (Atom("goodbye"), Atom("duplicate_id"))]


def test_urgent_data_stalls_nothing(host: HostFactory) -> None:
    process = host("echo", threads=1)
    peer = process.connect(tcp=True)
    ping = etf.frame((Atom("ping"), 1))
    for _ in range(20):
        peer.sock.sendall(ping)
        peer.sock.send(b"!", socket.MSG_OOB)
        peer.sock.sendall(ping + ping)
        assert [peer.receive() for _ in range(3)] == [(Atom("pong"), 1)] * 3


def test_many_options_are_a_bad_request(host: HostFactory) -> None:
    peer = host("echo").connect()
    assert peer.call(1, 1, 1, dict.fromkeys(range(64), 0)) == (OK, 1)
    assert peer.call(2, 1, 1, dict.fromkeys(range(65), 0)) == (Atom("failed"), Atom("bad_request"))


def test_a_driver_with_more_names_than_fit_is_refused(start_host: HostFactory, tmp_path: Path) -> None:
    names = "".join(f'{{"command_with_a_long_name_{number}",{number}}},' for number in range(2000))
    source = tmp_path / "names.c"
    source.write_text(
        '#include "gen_driver.h"\n'
        "static void dispatch(gd_req_t *q, gd_res_t *r, void *d, void *t) { (void)q, (void)r, (void)d, (void)t; }\n"
        f"static const gd_command commands[] = {{ {names} {{NULL, 0}} }};\n"
        "GD_DRIVER(.dispatch = dispatch, .commands = commands)\n"
    )
    include = Path(__file__).resolve().parent.parent.parent / "gendriverd/include"
    library = tmp_path / "names.so"
    subprocess.run(["cc", "-shared", "-fPIC", f"-I{include}", "-o", library, source], check=True)
    process = start_host(library)
    assert b"names" in process.hear("refuse")[1]
    assert process.wait() == 100


@pytest.mark.parametrize("name", ["x" * 62 + "é", "x" * 63 + "é", "é" * 60])
def test_an_error_is_cut_between_two_characters(gated: HostFactory, name: str) -> None:
    tag, cut = gated().connect().call(1, SAY_ERROR, name)
    assert tag == Atom("error")
    assert cut == Atom(name.encode()[:63].decode(errors="ignore"))


def when_there_is_room(peer: Peer, command: int) -> Any:
    while (answer := peer.call(1, command)) == (Atom("failed"), Atom("overloaded")):
        pass
    return answer


def control(process: HostProcess) -> None:
    """Wait until the loop has come round: it has seen what was there before."""
    for number in range(2):
        process.tell(Atom("ping"), number)
        process.hear("pong")
