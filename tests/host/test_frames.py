# SPDX-License-Identifier: MIT
"""A bad frame costs its sender that connection, with the reason's name; nobody else notices."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest

from conftest import Gate, HostFactory
from gendriverd import etf
from gendriverd.etf import Atom
from host_process import Peer, call, resident

OK = Atom("ok")
WAIT = 1


def framed(body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + body


def call_with(params: bytes) -> bytes:
    """A frame {call, 1, 1, Params} with these bytes as Params."""
    return framed(b"\x83h\x04w\x04calla\x01a\x01" + params)


NESTED = b"l\x00\x00\x00\x01" * 200 + b"j" + b"j" * 200
COMPRESSED = b"\x83P" + struct.pack(">I", 100) + zlib.compress(b"m" + struct.pack(">I", 95) + bytes(95))
TRUNCATED = call_with(b"m\xff\xff\xff\xffabc")

BAD: dict[str, tuple[bytes, str]] = {
    "no version byte": (framed(b"h\x00"), "bad_term"),
    "empty frame": (framed(b""), "bad_term"),
    "unknown tag": (call_with(b"\x01"), "bad_term"),
    "lie in a length": (TRUNCATED, "bad_term"),
    "lie in a count": (call_with(b"i\xff\xff\xff\xff"), "bad_term"),
    "compressed": (framed(COMPRESSED), "compressed"),
    "compressed inside": (call_with(COMPRESSED[1:]), "compressed"),
    "trailing bytes": (framed(etf.encode(call(1, 1, 1)) + b"j"), "trailing_bytes"),
    "too deep": (call_with(NESTED), "too_deep"),
    "bignum too large": (call_with(b"o" + struct.pack(">I", 4097) + b"\x00" + b"\x01" * 4097), "bignum_too_large"),
    "NaN": (call_with(b"F\x7f\xf8" + bytes(6)), "bad_term"),
    "not a tuple": (framed(etf.encode(Atom("call"))), "bad_envelope"),
    "unknown message": (framed(etf.encode((Atom("frobnicate"), 1))), "bad_envelope"),
    "id out of range": (framed(etf.encode((Atom("call"), 1 << 31, 1))), "bad_envelope"),
    "negative id": (framed(etf.encode((Atom("ping"), -1))), "bad_envelope"),
    "too large": (struct.pack(">I", (1 << 20) + 1), "frame_too_large"),
    "far too large": (b"\xff\xff\xff\xff", "frame_too_large"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_frame_ends_its_connection_with_the_reason(host: HostFactory, name: str) -> None:
    data, reason = BAD[name]
    process = host("echo", frame=1 << 20)
    other, peer = process.connect(), process.connect(tcp=True)
    peer.sock.sendall(data)
    assert peer.receive() == (Atom("goodbye"), Atom(reason))
    assert peer.receive() is None
    assert other.call(1, 1, b"still there") == (OK, b"still there")
    peer.close()
    assert process.hear("closed")[2] == reason


def test_too_many_terms_end_the_connection(host: HostFactory) -> None:
    peer = host("echo", terms=1000).connect()
    peer.send(call(1, 1, [1000] * 1001))
    assert peer.receive() == (Atom("goodbye"), Atom("too_many_terms"))


def test_a_duplicate_id_ends_the_connection_after_the_first_is_answered(gated: HostFactory, gate: Gate) -> None:
    peer = gated().connect()
    peer.send(call(1, WAIT), call(1, WAIT))
    gate.open()
    assert peer.receive_all() == [(Atom("reply"), 1, OK), (Atom("goodbye"), Atom("duplicate_id"))]


def test_what_was_accepted_before_a_bad_frame_is_answered_first(host: HostFactory) -> None:
    peer = host("echo").connect(tcp=True)
    good = b"".join(etf.frame(call(i, 1, i)) for i in range(100))
    peer.sock.sendall(good + framed(b"\x83\x00") + etf.frame(call(100, 1, 1)))
    frames = peer.receive_all()
    assert {frame[1] for frame in frames[:-1]} == set(range(100))
    assert frames[-1] == (Atom("goodbye"), Atom("bad_term"))


def test_the_goodbye_survives_unread_requests_behind_the_bad_frame(host: HostFactory) -> None:
    process = host("echo")
    for _ in range(50):
        peer = process.connect(tcp=True)
        peer.sock.sendall(framed(b"\x83\x00") + etf.frame(call(1, 1, b"x" * 200_000)))
        assert peer.receive() == (Atom("goodbye"), Atom("bad_term"))
        peer.close()


def test_a_large_frame_that_is_bad_at_its_end_is_refused(host: HostFactory) -> None:
    process = host("echo")
    other, peer = process.connect(), process.connect()
    body = etf.encode(call(1, 1, [[i] for i in range(100_000)]))
    peer.sock.sendall(framed(body[:-1] + b"\x00"))
    assert other.call(1, 1, 1) == (OK, 1)
    assert peer.receive() == (Atom("goodbye"), Atom("bad_term"))


def test_a_frame_cut_off_by_the_end_of_file_is_dropped(host: HostFactory) -> None:
    process = host("echo")
    peer = process.connect()
    peer.sock.sendall(etf.frame(call(1, 1, b"abc"))[:-1])
    peer.done_sending()
    assert peer.receive() is None
    assert process.hear("closed")[2] == "peer_closed"


def test_an_announced_frame_costs_no_memory_before_it_comes(host: HostFactory) -> None:
    process = host("echo")
    before = resident(process.process.pid)
    peers = [process.connect() for _ in range(50)]
    for peer in peers:
        peer.sock.sendall(struct.pack(">I", 16 << 20) + b"\x83")
    assert process.connect().call(1, 1, 1) == (OK, 1)
    assert resident(process.process.pid) - before < 50 << 20


def test_a_thousand_bad_connections_leak_nothing(host: HostFactory) -> None:
    process = host("echo", connections=8)
    provoke(process.connect(tcp=True))
    process.hear("closed")
    fds = descriptors(process.process.pid)
    for _ in range(1000):
        provoke(process.connect(tcp=True))
        process.hear("closed")
    assert descriptors(process.process.pid) == fds


def provoke(peer: Peer) -> None:
    peer.sock.sendall(TRUNCATED)
    assert peer.receive() == (Atom("goodbye"), Atom("bad_term"))
    peer.close()


def descriptors(pid: int) -> list[str]:
    return sorted(entry.name for entry in Path(f"/proc/{pid}/fd").iterdir())
