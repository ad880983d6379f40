# SPDX-License-Identifier: MIT
"""The instance's table, and the backoff between its starts: both pure."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gendriverd.backoff import Backoff
from gendriverd.states import HOPELESS, NEXT, Event, State


def walk(*events: Event) -> State:
    state = State.STOPPED
    for event in events:
        state = NEXT[state, event]
    return state


def test_an_instance_runs_when_its_host_says_so() -> None:
    assert walk(Event.START) is State.STARTING
    assert walk(Event.START, Event.READY) is State.RUNNING


@pytest.mark.parametrize("life", [(), (Event.READY,)])
def test_a_dead_host_is_started_again_after_a_while(life: tuple[Event, ...]) -> None:
    assert walk(Event.START, *life, Event.EXITED) is State.BACKOFF
    assert walk(Event.START, *life, Event.EXITED, Event.TIMER) is State.STARTING


def test_a_refusal_is_final() -> None:
    assert walk(Event.START, Event.REFUSED) is State.FATAL
    assert [event for (state, event) in NEXT if state is State.FATAL] == [Event.STOP]


def test_every_state_can_be_stopped() -> None:
    for state in State:
        assert NEXT[state, Event.STOP] in HOPELESS


def test_the_first_restart_is_at_once_and_then_the_delay_doubles() -> None:
    backoff = Backoff(first=0.1, max=30.0, jitter=0.0)
    assert [backoff.delay(n, 0.5) for n in (1, 2, 3, 4)] == [0.0, 0.1, 0.2, 0.4]
    assert backoff.delay(1000, 0.5) == 30.0


def test_a_healthy_life_is_forgiven() -> None:
    backoff = Backoff(healthy_after=60.0)
    assert backoff.failures(7, lived=59.9) == 8
    assert backoff.failures(7, lived=60.0) == 1
    assert Backoff(healthy_after=0.0).failures(7, lived=0.0) == 8  # it was never ready


@given(st.integers(2, 10_000), st.floats(0, 1, exclude_max=True))
def test_jitter_stays_in_its_share_and_below_the_maximum(failures: int, chance: float) -> None:
    backoff = Backoff()
    plain = Backoff(jitter=0.0).delay(failures, chance)
    assert 0.8 * plain <= backoff.delay(failures, chance) <= min(backoff.max, 1.2 * plain) + 1e-9
