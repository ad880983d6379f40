# SPDX-License-Identifier: MIT
"""What a client is told, at each step at which its host may have died; the steps are the host's (host/conn_send.c)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gendriverd import etf
from gendriverd.aftermath import Guilt, culprit, ends_whole, last_words
from gendriverd.etf import Atom
from gendriverd.launch import Exit
from gendriverd.recorder import Death, Request, Sent, State

BEFORE = 1000  # bytes that had left before
REPLY = 40  # bytes


def request(state: State, id_: int = 1, number: int = 1, *, call: bool = True, end_at: int = 0) -> Request:
    return Request(state, 0, number, 1, id_, 5, call, 1, 2, 0, 1, b"j", end_at)


def told(calls: list[Request], sent: int, guilt: Guilt | None = None) -> list[tuple[int, str]]:
    """(id, reason) of each `failed`, in order; a goodbye is the end."""
    data, frames = last_words(calls, guilt, sent), []
    while data:
        length = int.from_bytes(data[:4], "big")
        frames.append(etf.decode(data[4 : 4 + length]))
        data = data[4 + length :]
    assert frames.pop() == (Atom("goodbye"), Atom("host_died"))
    return [(frame[1], str(frame[2])) for frame in frames if isinstance(frame, tuple)]


def heard(calls: list[Request], output: Sent) -> list[tuple[int, str]] | None:
    """None: not a word."""
    return told(calls, output.sent) if ends_whole(output) else None


IDLE = Sent(BEFORE, True, False)
SENT = Sent(BEFORE + REPLY, True, False)
CUT = Sent(BEFORE + 7, False, False)
ANSWERED = request(State.DONE, end_at=BEFORE + REPLY)


@pytest.mark.parametrize(
    ("calls", "output", "what"),
    [
        ([request(State.QUEUED)], IDLE, []),
        ([request(State.RUNNING)], IDLE, [(1, "interrupted")]),
        ([ANSWERED], IDLE, [(1, "interrupted")]),  # appended, not sent
        ([ANSWERED], CUT, None),  # in the middle of it
        ([ANSWERED], SENT, []),  # the kernel has it, the slot is not yet free
        ([], SENT, []),
        ([request(State.RUNNING)], Sent(BEFORE, True, True), None),  # a client behind
    ],
)
def test_each_step_of_a_reply_is_told_apart(
    calls: list[Request], output: Sent, what: list[tuple[int, str]] | None
) -> None:
    assert heard(calls, output) == what


def test_an_id_in_use_again_is_told_of_its_newer_request() -> None:
    older = request(State.DONE, number=1, end_at=BEFORE)
    assert told([request(State.QUEUED, number=2), older], BEFORE) == []
    assert told([older, request(State.RUNNING, number=2)], BEFORE) == [(1, "interrupted")]


WRITTEN_OFF = replace(ANSWERED, abandoned=True)  # its caller is told `timeout`


@pytest.mark.parametrize(
    ("calls", "sent", "what"),
    [
        ([replace(WRITTEN_OFF, state=State.RUNNING)], BEFORE, [(1, "timeout")]),  # decided, and not yet said
        ([WRITTEN_OFF], BEFORE, [(1, "timeout")]),  # said, and not sent
        ([WRITTEN_OFF], BEFORE + REPLY, []),
        ([replace(WRITTEN_OFF, told=True)], BEFORE + REPLY + 2**31, []),  # however long its thread hangs on
        ([WRITTEN_OFF, request(State.RUNNING, number=2)], BEFORE + REPLY, [(1, "interrupted")]),
        ([WRITTEN_OFF, request(State.QUEUED, number=2)], BEFORE + REPLY, []),
    ],
)
def test_a_caller_whose_thread_was_written_off_is_told_timeout_once(
    calls: list[Request], sent: int, what: list[tuple[int, str]]
) -> None:
    assert told(calls, sent) == what


def test_a_written_off_thread_that_kills_the_host_crashes_no_call_again() -> None:
    killer = replace(WRITTEN_OFF, told=True)
    guilt = culprit(Death(False, 11, None, 1, 0, 0, 1, (), killer, 0), Exit(None, "SIGSEGV"))
    assert guilt == Guilt(killer, "timeout")
    assert told([killer, request(State.RUNNING, number=2)], BEFORE + REPLY, guilt) == [(1, "interrupted")]


def test_output_is_counted_beyond_32_bits() -> None:
    sent = 2**33 + 5
    assert told([request(State.DONE, end_at=5)], sent) == []
    assert told([request(State.DONE, end_at=6)], sent) == [(1, "interrupted")]
    assert told([request(State.DONE, end_at=2**32 - 1)], 2**32 + 10) == []


def test_casts_are_told_to_nobody_and_the_culprit_by_name() -> None:
    killer = request(State.RUNNING, 3, 9)
    calls = [request(State.RUNNING, 7, 8, call=False), killer, request(State.RUNNING, 4, 10)]
    assert told(calls, BEFORE, Guilt(killer, "crashed")) == [(3, "crashed"), (4, "interrupted")]


@pytest.mark.parametrize(
    ("signal", "exit_status", "end", "known"),
    [
        (11, None, Exit(None, "SIGSEGV"), True),
        (11, None, Exit(None, "SIGABRT"), True),  # a sanitizer's way
        (11, None, Exit(None, "SIGKILL"), False),
        (None, 3, Exit(3, None), True),
        (None, 259, Exit(3, None), True),
        (None, 3, Exit(4, None), False),
        (None, 3, Exit(None, "SIGKILL"), False),
    ],
)
def test_the_word_of_a_dying_thread_must_fit_the_death(
    signal: int | None, exit_status: int | None, end: Exit, known: bool
) -> None:
    killer = request(State.RUNNING)
    death = Death(False, signal, exit_status, 1, 0, 0, 1, (), killer, 0)
    assert culprit(death, end) == (Guilt(killer, "crashed") if known else None)
