# SPDX-License-Identifier: MIT
"""Ends of connections and of the host: nothing accepted is lost, nor a last word."""

from __future__ import annotations

from pathlib import Path

from conftest import Gate, HostFactory
from gendriverd.etf import Atom
from host_process import call, cast

OK = Atom("ok")
WAIT, NOTE, NOTES, SEAT, UNTIL_CANCELLED = range(1, 6)


def test_half_close_still_gets_every_answer(gated: HostFactory, gate: Gate) -> None:
    peer = gated().connect(tcp=True)
    peer.send(call(1, WAIT), call(2, SEAT))
    peer.done_sending()
    gate.open()
    assert peer.receive_all() == [(Atom("reply"), 1, OK), (Atom("reply"), 2, 0)]


def test_casts_of_a_client_that_left_still_run(gated: HostFactory, gate: Gate) -> None:
    process = gated()
    peer, other = process.connect(), process.connect()
    other.send(call(1, WAIT))
    peer.send(cast(NOTE, 1), cast(NOTE, 2))
    peer.close()
    process.hear("closed")
    gate.open()
    assert other.receive() == (Atom("reply"), 1, OK)
    while (notes := other.call(2, NOTES)) != [1, 2]:  # it has its turn between them
        assert notes in ([], [1])


def test_stop_ends_with_0_and_destroys_threads_then_driver(gated: HostFactory, tmp_path: Path) -> None:
    process = gated(threads=3, short=0, settings={"marks": str(tmp_path / "marks")})
    peer = process.connect()
    for i in range(6):
        assert isinstance(peer.call(i, SEAT), int)
    process.tell(Atom("stop"), 20_000)
    assert peer.receive_all() == [(Atom("goodbye"), Atom("stopping"))]
    peer.close()
    assert process.wait() == 0
    assert (tmp_path / "marks").read_text() == "tttd"


def test_thread_destroy_runs_only_where_a_request_ran(gated: HostFactory, tmp_path: Path) -> None:
    process = gated(threads=3, settings={"marks": str(tmp_path / "marks")})
    peer = process.connect()
    assert peer.call(1, SEAT) in (0, 1, 2)
    peer.close()
    assert process.stop() == 0
    assert (tmp_path / "marks").read_text() == "td"


def test_stop_answers_what_has_not_begun_and_waits_for_what_runs(gated: HostFactory, gate: Gate) -> None:
    process = gated()
    peer = process.connect(tcp=True)
    peer.send(call(1, WAIT), call(2, NOTE, 1))
    gate.reached()
    process.tell(Atom("stop"), 20_000)
    assert peer.receive() == (Atom("failed"), 2, Atom("draining"))
    gate.open()
    assert peer.receive_all() == [(Atom("reply"), 1, OK), (Atom("goodbye"), Atom("stopping"))]
    peer.close()
    assert process.wait() == 0


def test_past_the_stop_limit_running_calls_are_interrupted(gated: HostFactory, gate: Gate) -> None:
    process = gated()
    peer = process.connect()
    peer.send(call(1, WAIT))
    gate.reached()
    process.tell(Atom("stop"), 50)
    assert peer.receive_all() == [
        (Atom("failed"), 1, Atom("interrupted")),
        (Atom("goodbye"), Atom("stopping")),
    ]
    assert process.wait() == 0


def test_drain_executes_all_up_to_the_half_close(gated: HostFactory, gate: Gate) -> None:
    process = gated()
    peer = process.connect(tcp=True)
    peer.send(call(1, WAIT))
    process.tell(Atom("drain"), 20_000)
    assert peer.receive() == (Atom("goodbye"), Atom("draining"))
    peer.send(call(2, SEAT))
    peer.done_sending()
    gate.open()
    assert peer.receive_all() == [(Atom("reply"), 1, OK), (Atom("reply"), 2, 0)]
    assert process.hear("drained") == (Atom("drained"),)
    assert process.wait() == 0


def test_drain_of_an_idle_host_ends_at_once(gated: HostFactory) -> None:
    process = gated()
    process.tell(Atom("drain"), 20_000)
    assert process.wait() == 0


def test_past_the_drain_limit_calls_not_begun_get_draining(gated: HostFactory, gate: Gate) -> None:
    process = gated()
    peer = process.connect()
    peer.send(call(1, WAIT), call(2, NOTE, 1))
    gate.reached()
    process.tell(Atom("drain"), 300)
    assert peer.receive() == (Atom("goodbye"), Atom("draining"))
    assert peer.receive() == (Atom("failed"), 2, Atom("draining"))
    gate.open()
    assert peer.receive_all() == [(Atom("reply"), 1, OK), (Atom("goodbye"), Atom("stopping"))]
    peer.close()
    assert process.wait() == 0


def test_a_stopping_host_adopts_no_more(gated: HostFactory, gate: Gate) -> None:
    process = gated()
    peer = process.connect()
    peer.send(call(1, WAIT))
    gate.reached()
    process.tell(Atom("stop"), 20_000)
    assert process.refusal() == "stopping"
    gate.open()
    assert peer.receive() == (Atom("reply"), 1, OK)
    peer.close()
    assert process.wait() == 0


def test_the_daemons_end_ends_the_host_even_inside_a_driver(gated: HostFactory) -> None:
    process = gated()
    peer = process.connect()
    peer.send(call(1, UNTIL_CANCELLED), (Atom("ping"), 1))
    assert peer.receive() == (Atom("pong"), 1)
    process.control.close()
    assert process.process.wait(30) == 1


def test_a_client_that_does_not_read_is_ended_and_hurts_nobody(host: HostFactory) -> None:
    process = host("echo", unsent_bytes=100_000, unsent_ms=300)
    deaf, other = process.connect(), process.connect()
    deaf.sock.settimeout(0.2)
    try:
        for i in range(10_000):
            deaf.send(call(i, 1, b"x" * 10_000))
    except OSError:
        pass  # full, or ended already
    assert other.call(1, 1, 1) == (OK, 1)
    assert process.hear("closed")[2] == "unread"


def test_a_slow_reader_gets_everything(host: HostFactory) -> None:
    import threading

    process = host("echo", unsent_bytes=50_000)
    peer = process.connect()

    def send_all() -> None:
        for i in range(2000):
            peer.send(call(i, 1, b"x" * 5_000))

    sender = threading.Thread(target=send_all)
    sender.start()
    got = {peer.receive()[1] for _ in range(2000)}
    sender.join()
    assert got == set(range(2000))


def test_more_connections_than_allowed_are_refused(host: HostFactory) -> None:
    process = host("echo", connections=2)
    peers = [process.connect(), process.connect()]
    assert process.refusal() == "too_many"
    peers[0].close()
    process.hear("closed")
    assert process.connect().call(1, 1, 1) == (OK, 1)
    assert peers[1].call(1, 1, 2) == (OK, 2)


def test_a_message_without_its_descriptor_is_refused(host: HostFactory) -> None:
    process = host("echo")
    process.tell(Atom("conn"), 9, b"peer", b"welcome", Atom("all"))
    assert process.hear("refused") == (Atom("refused"), 9, Atom("no_descriptor"))


def test_closed_says_what_went_over_the_connection(host: HostFactory) -> None:
    process = host("echo")
    peer = process.connect()
    peer.send(cast(1, 1))
    peer.call(1, 1, b"abc")
    peer.close()
    _, _, reason, counts = process.hear("closed")
    assert reason == "peer_closed"
    assert (counts[Atom("calls")], counts[Atom("casts")]) == (1, 1)
    assert counts[Atom("bytes_in")] > 0
    assert counts[Atom("bytes_out")] > 0
