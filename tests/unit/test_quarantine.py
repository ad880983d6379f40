# SPDX-License-Identifier: MIT
"""Which deaths count, when they are enough, and for how long."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

import pytest

from gendriverd.aftermath import Guilt
from gendriverd.quarantine import COUNTED_MAX, REFUSED_MAX, Fingerprint, Quarantine, fingerprint
from gendriverd.recorder import Death, Record, Request, State


def request(state: State, *, number: int = 1) -> Request:
    return Request(state, 0, number, 1, 1, 5, True, 1, 2, 0, 1, b"j", 0)


KILLER = replace(request(State.RUNNING), params=b"xy", params_len=2)


def known(number: int) -> Fingerprint:
    return Fingerprint(1, 4, number.to_bytes(32, "big"))


def died(killer: Request, *others: Request, kept: bytes | None = None, hang: bool = False) -> Fingerprint | None:
    death = Death(hang, 11, None, 1, 0, 0, 1, (), killer, len(kept or b""), kept)
    return fingerprint(Record({}, [killer, *others], death), Guilt(killer, "timeout" if hang else "crashed"))


def test_a_request_is_known_by_command_and_params() -> None:
    assert died(KILLER) == Fingerprint(5, 2, sha256(b"xy").digest())
    assert died(KILLER, hang=True) == died(KILLER)
    large = replace(KILLER, params=None, params_len=3)
    assert died(large, kept=b"abc") == Fingerprint(5, 3, sha256(b"abc").digest())


@pytest.mark.parametrize(
    ("killer", "others"),
    [
        (KILLER, [request(State.RUNNING, number=2)]),  # it was not alone
        (KILLER, [replace(request(State.DONE, number=2), abandoned=True)]),  # nor here: that one runs yet
        (replace(KILLER, params=b"j", params_len=1), []),  # [], which stands for no params
        (replace(KILLER, params=None, params_len=2 << 20), []),  # too long to be kept
    ],
)
def test_other_deaths_do_not_count(killer: Request, others: list[Request]) -> None:
    assert died(killer, *others) is None
    assert fingerprint(Record({}, [killer], None), None) is None


def test_what_waited_or_was_answered_does_not_matter() -> None:
    assert died(KILLER, request(State.QUEUED, number=2), request(State.DONE, number=3)) is not None


def test_so_many_deaths_within_the_time_and_it_is_refused_for_as_long() -> None:
    quarantine = Quarantine(3, 100.0)
    assert [quarantine.died(known(1), now) for now in (0.0, 50.0)] == [None, None]
    assert quarantine.died(known(2), 60.0) is None
    assert quarantine.died(known(1), 120.0) is None  # the first is too long ago
    entry = quarantine.died(known(1), 140.0)
    assert entry is not None
    assert (entry.fingerprint, entry.deaths, entry.until) == (known(1), 3, 240.0)
    assert quarantine.entries(239.9) == [entry]
    assert quarantine.entries(240.0) == []
    assert quarantine.died(known(1), 241.0) is None  # it begins anew


def test_none_is_refused_without_a_number() -> None:
    quarantine = Quarantine(0, 100.0)
    assert all(quarantine.died(known(1), now) is None for now in range(10))
    assert quarantine.entries(10) == []


def test_what_is_counted_and_refused_is_bounded() -> None:
    quarantine = Quarantine(2, 1e9)
    for number in range(COUNTED_MAX + 1):
        assert quarantine.died(known(number), number) is None
    assert quarantine.died(known(1), 5000) is not None
    assert quarantine.died(known(0), 5000) is None  # it was forgotten
    quarantine = Quarantine(1, 100.0)
    for number in range(REFUSED_MAX + 1):
        assert quarantine.died(known(number), number) is not None
    assert {entry.fingerprint for entry in quarantine.entries(65)} == {known(number) for number in range(1, 65)}


def test_it_goes_on_after_a_reload() -> None:
    old = Quarantine(2, 100.0)
    old.died(known(1), 1.0)
    old.died(known(1), 2.0)
    old.died(known(2), 3.0)
    new = Quarantine(2, 50.0)
    new.succeed(old, 4.0)
    assert [entry.fingerprint for entry in new.entries(4.0)] == [known(1)]
    assert new.died(known(2), 5.0) is not None
    lifted = Quarantine(0, 100.0)
    lifted.succeed(old, 4.0)
    assert lifted.entries(4.0) == []
