# SPDX-License-Identifier: MIT
"""The protocol without I/O: bytes in, events out; what a lost connection means; what is never sent."""

from __future__ import annotations

import contextlib
import dataclasses
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fake_service import WELCOME
from gendriverd import etf
from gendriverd.client import ClientError, Failed, protocol, retryable
from gendriverd.client.commands import command_number
from gendriverd.client.outcomes import NOT_RUN, REASONS
from gendriverd.client.protocol import (
    Answered,
    Event,
    Goodbye,
    Greeted,
    Part,
    Ponged,
    ProtocolError,
    Receiver,
    RefusedBy,
    Welcome,
    unanswered,
)
from gendriverd.etf import Atom, EtfError, Limits

GREETING = etf.frame((Atom("gen_driver"), 1, {Atom("server"): b"fake"}))
WELCOMED = etf.frame((Atom("welcome"), 1, WELCOME))
ANSWERS = [
    (Atom("reply"), 0, Atom("ok")),
    (Atom("failed"), 1, Atom("crashed")),
    (Atom("note"), b"x"),
    (Atom("part"), 0, b"x"),
    (Atom("pong"), 2),
    (Atom("reply"), 3, list(range(1000))),
    (Atom("goodbye"), Atom("host_died")),
]
EVENTS: list[Event] = [
    Answered(0, "ok", None),
    Answered(1, None, "crashed"),
    Part(0, b"x", None),
    Ponged(2),
    Answered(3, list(range(1000)), None),
    Goodbye("host_died"),
]


def welcomed() -> Receiver:
    receiver = Receiver()
    assert [type(event) for event in receiver.receive(GREETING + WELCOMED)] == [Greeted, Welcome]
    return receiver


def about() -> Welcome:
    event = list(Receiver().receive(GREETING + WELCOMED))[1]
    assert isinstance(event, Welcome)
    return event


@given(st.lists(st.integers(0, 2000)))
def test_frames_are_found_wherever_the_bytes_are_cut(cuts: list[int]) -> None:
    data = GREETING + WELCOMED + b"".join(map(etf.frame, ANSWERS))
    receiver, before = Receiver(), 0
    events: list[Event] = []
    for cut in [*sorted(cuts), len(data)]:
        events += receiver.receive(data[before : max(before, cut)])
        before = max(before, cut)
    assert events[2:] == EVENTS
    assert not receiver.in_frame


def test_events_not_taken_come_the_next_time() -> None:
    receiver = welcomed()
    given_up = receiver.receive(b"".join(map(etf.frame, ANSWERS)))
    assert next(given_up) == EVENTS[0]
    assert list(receiver.receive(b"")) == EVENTS[1:]


def test_the_welcome_tells_limits_and_commands_and_what_it_leaves_out_is_usual() -> None:
    welcome = about()
    assert (welcome.instance, welcome.commands, welcome.in_flight, welcome.frame) == ("fake", {"add": 1}, 4, 1 << 20)
    assert welcome.limits == Limits()
    limits = {Atom("in_flight"): 1, Atom("frame"): 9, Atom("depth"): 5, Atom("terms"): 6, Atom("bignum"): 7}
    told = etf.frame((Atom("welcome"), 1, WELCOME | {Atom("limits"): limits}))
    events = list(Receiver().receive(GREETING + told))
    assert isinstance(events[1], Welcome)
    assert events[1].limits == Limits(depth=5, terms=6, bignum=7)


def test_a_refusal_comes_before_or_after_the_greeting() -> None:
    refused = etf.frame((Atom("refused"), Atom("busy")))
    assert list(Receiver().receive(refused)) == [RefusedBy("busy")]
    assert list(Receiver().receive(GREETING + refused))[1] == RefusedBy("busy")


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (etf.frame((Atom("gen_driver"), 2, {})), "version 2, this client 1"),
        (WELCOMED, "no gendriverd"),
        (GREETING + GREETING, "no gendriverd|version"),
        (GREETING + etf.frame((Atom("welcome"), 1, {})), "a welcome that lacks"),
        (GREETING + etf.frame((Atom("reply"), 0, Atom("ok"))), "no gendriverd"),
        (b"HTTP/1.1 400 Bad Request", "a frame of 1213486160 bytes; at most 65536 are taken"),
        (b"\0\0\0\2\x83\0", "a frame that is no term"),
    ],
)
def test_what_is_no_handshake_is_an_error_that_says_why(said: bytes, why: str) -> None:
    with pytest.raises(ProtocolError, match=why):
        list(Receiver().receive(said))


def test_a_frame_beyond_the_limit_is_refused_by_its_first_four_bytes() -> None:
    receiver = Receiver(100_000)
    list(receiver.receive(GREETING + WELCOMED))
    assert list(receiver.receive(struct.pack(">I", 100_000))) == []
    receiver = Receiver(100_000)
    list(receiver.receive(GREETING + WELCOMED))
    with pytest.raises(ProtocolError, match=r"a frame of 100001 bytes; at most 100000 are taken \(max_frame\)"):
        list(receiver.receive(struct.pack(">I", 100_001)))


@pytest.mark.parametrize("bytes_", [0, -1, 1 << 32])
def test_a_limit_that_is_none_is_an_error(bytes_: int) -> None:
    with pytest.raises(ValueError, match=f"max_frame is 1 to 4294967295 bytes, not {bytes_}"):
        Receiver(bytes_)


def test_who_is_not_told_takes_what_the_erlang_client_takes() -> None:
    source = Path(__file__).resolve().parents[2] / "erlang/gen_driver_tcp/src/gen_driver_options.erl"
    assert "max_frame => 65 bsl 20," in source.read_text()
    assert protocol.MAX_FRAME == 65 << 20


def test_an_answer_has_a_term_for_each_eighth_byte_of_the_limit_and_no_more() -> None:
    """A list of empty lists takes Python more than a hundred times its bytes."""
    receiver = Receiver(16_384)
    list(receiver.receive(GREETING + WELCOMED))
    few: list[object] = [[] for _ in range(2_000)]
    many = [*few, *few]
    frames = etf.frame((Atom("reply"), 0, few)) + etf.frame((Atom("reply"), 0, many))
    assert list(receiver.receive(frames)) == [
        Answered(0, few, None),
        Answered(0, None, "undecodable"),
    ]


@pytest.mark.parametrize("term", [Atom("reply"), (Atom("reply"), 0), (Atom("pong"), b"0"), [], (Atom("hello"), 1)])
def test_a_frame_of_no_known_kind_is_an_error(term: object) -> None:
    with pytest.raises(ProtocolError, match="no known kind"):
        list(welcomed().receive(etf.frame(term)))


@pytest.mark.parametrize("call_id", [0, 255, 256, (1 << 31) - 1])
def test_a_reply_that_cannot_be_decoded_is_that_calls_outcome(call_id: int) -> None:
    head = etf.encode((Atom("reply"), call_id, []))[:-1]
    body = head + b"o\0\1\0\0\0" + bytes(1 << 16)  # an integer of 64 KiB
    assert list(welcomed().receive(struct.pack(">I", len(body)) + body)) == [Answered(call_id, None, "undecodable")]


@pytest.mark.parametrize("call_id", [0, 255, 256, 2**31 - 1])
def test_a_part_that_cannot_be_decoded_is_that_calls_trouble(call_id: int) -> None:
    body = etf.encode((Atom("part"), call_id, []))[:-1] + b"o\0\1\0\0\0" + bytes(1 << 16)
    assert list(welcomed().receive(struct.pack(">I", len(body)) + body)) == [Part(call_id, None, "undecodable")]


def test_a_note_that_cannot_be_decoded_is_nobodys() -> None:
    body = etf.encode((Atom("note"), []))[:-1] + b"o\0\1\0\0\0" + bytes(1 << 16)
    assert list(welcomed().receive(struct.pack(">I", len(body)) + body)) == []


def test_a_reply_may_be_as_deep_as_a_request() -> None:
    body = b"\x83h\3w\5replya\0" + b"l\0\0\0\1" * 257 + b"j" * 258
    (event,) = welcomed().receive(struct.pack(">I", len(body)) + body)
    assert isinstance(event, Answered)
    depth, term = 0, event.term
    while term:
        depth, (term,) = depth + 1, term
    assert (event.failed, depth) == (None, 257)


def test_a_word_of_tomorrow_may_mean_that_it_ran() -> None:
    (event,) = welcomed().receive(etf.frame((Atom("failed"), 1, Atom("eaten"))))
    assert event == Answered(1, None, "interrupted")
    assert not retryable("interrupted")


@given(st.binary(max_size=300), st.booleans())
def test_no_bytes_raise_anything_but_a_protocol_error(data: bytes, framed: bool) -> None:
    for receiver in (Receiver(), welcomed()):
        with contextlib.suppress(ProtocolError):
            list(receiver.receive(struct.pack(">I", len(data) + 1) + b"\x83" + data if framed else data))


def test_the_closed_set_is_docs_protocols() -> None:
    never = {
        "overloaded",
        "expired",
        "cancelled",
        "draining",
        "unavailable",
        "not_run",
        "bad_request",
        "quarantined",
        "forbidden",
    }
    maybe = {"crashed", "interrupted", "timeout", "bad_reply", "undecodable", "disconnected"}
    assert never == NOT_RUN
    assert never | maybe == set(REASONS)
    assert all(retryable(reason) for reason in never)
    assert not any(retryable(reason) for reason in maybe)


@pytest.mark.parametrize(
    ("goodbye", "handed", "outcome"),
    [
        (None, True, "disconnected"),
        (None, False, "unavailable"),
        ("host_died", True, "not_run"),
        ("host_died", False, "not_run"),
        ("stopping", True, "draining"),
        ("bad_term", True, "not_run"),
        ("duplicate_id", True, "not_run"),
        ("slow_frame", True, "not_run"),
        ("draining", True, "disconnected"),
        ("draining", False, "unavailable"),
        ("unread", True, "disconnected"),  # replies were thrown away: it may have run
        ("of_tomorrow", True, "disconnected"),
        ("of_tomorrow", False, "unavailable"),
    ],
)
def test_only_a_goodbye_that_proves_it_says_that_a_call_never_began(
    goodbye: str | None, handed: bool, outcome: str
) -> None:
    assert unanswered(goodbye, handed=handed) == outcome


def test_requests_are_docs_protocols_terms() -> None:
    opts = protocol.options(1.5, 7, b"t")
    assert opts == {Atom("timeout"): 1500, Atom("key"): 7, Atom("trace"): b"t"}
    for frame, term in (
        (protocol.call(3, 1, [1], {}), (Atom("call"), 3, 1, [1])),
        (protocol.call(3, 1, [1], opts), (Atom("call"), 3, 1, [1], opts)),
        (protocol.cast(1, [], {}), (Atom("cast"), 1, [])),
        (protocol.cast(1, [], opts), (Atom("cast"), 1, [], opts)),
        (protocol.cancel(3), (Atom("cancel"), 3)),
        (protocol.ping(3), (Atom("ping"), 3)),
    ):
        assert frame[:4] == struct.pack(">I", len(frame) - 4)
        assert etf.decode(frame[4:]) == term


def test_a_time_that_has_passed_is_sent_as_zero_and_a_long_one_as_the_longest() -> None:
    assert protocol.options(-1.0, None, None) == {Atom("timeout"): 0}
    assert protocol.options(1e12, None, None) == {Atom("timeout"): 0xFFFFFFFF}


@pytest.mark.parametrize("number", [-1, 1 << 32])
def test_a_key_out_of_range_is_a_bad_request_and_not_another_key(number: int) -> None:
    with pytest.raises(Failed, match="bad_request"):
        protocol.options(None, number, None)


@pytest.mark.parametrize("number", [-1, 1 << 30, 1 << 70])
def test_a_command_out_of_range_is_a_bad_request(number: int) -> None:
    assert command_number((1 << 30) - 1, about()) == (1 << 30) - 1
    with pytest.raises(Failed, match="bad_request"):
        command_number(number, about())


def test_what_would_cost_everybody_the_connection_is_not_sent() -> None:
    welcome = dataclasses.replace(about(), frame=20_000, limits=Limits(depth=10, terms=100, bignum=30))

    def call(params: object) -> bytes:
        return protocol.call(0, 1, params, {})

    deep: list[object] = [1 << 10]
    for _ in range(8):
        deep = [deep]
    for fits in (deep, [1 << 40] * 90, 1 << 239, bytes(19_000)):
        assert protocol.fitting(call(fits), welcome) == call(fits)
    for params, reason in (
        ([deep], "too_deep"),
        ([1 << 40] * 100, "too_many_terms"),
        ([[]] * 100, "too_many_terms"),
        (1 << 240, "bignum_too_large"),
    ):
        with pytest.raises(EtfError) as refused:
            protocol.fitting(call(params), welcome)
        assert refused.value.reason == reason
    with pytest.raises(ClientError, match="a request of 20018 bytes; the daemon takes 20000"):
        protocol.fitting(call(bytes(20_000)), welcome)
