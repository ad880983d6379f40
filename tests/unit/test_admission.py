# SPDX-License-Identifier: MIT
"""Who may begin a handshake, with a clock and a chance of the test's: bounds, early drop, penalties."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from gendriverd.admission import Admission, Bounds, Penalty, Verdict
from gendriverd.schema import DaemonConfig
from gendriverd.sources import Source, of_address, of_nobody, of_user

IN, BUSY, PENALISED = Verdict.COME_IN, Verdict.BUSY, Verdict.PENALISED


def at(host: str) -> Source:
    return of_address(host, 1).source


A, B = at("192.0.2.1"), at("192.0.2.2")


def never() -> float:
    """By chance nobody is dropped."""
    return 0.999999


def admission(chance: Callable[[], float] = never, **settings: object) -> Admission:
    return Admission(Bounds.of(DaemonConfig.model_validate(settings)), chance)


def fill(door: Admission, sources: int, each: int = 1) -> None:
    for number in range(sources):
        for _ in range(each):
            assert door.enter(at(f"10.0.{number // 256}.{number % 256}"), 0) is IN


# --- sources -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("127.0.0.1", "127.0.0.0/8"),
        ("127.9.8.7", "127.0.0.0/8"),
        ("2001:db8:0:1::1", "2001:db8:0:1::/64"),
        ("2001:db8:0:1:ffff:ffff:ffff:ffff", "2001:db8:0:1::/64"),
        ("2001:db8:0:2::1", "2001:db8:0:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
        ("64:ff9b::192.0.2.1", "64:ff9b::c000:201"),
        ("64:ff9b::127.0.0.1", "64:ff9b::7f00:1"),
        ("64:ff9b:0:0:0:1::", "64:ff9b::/64"),
    ],
)
def test_a_source_is_an_address_a_network_or_this_machine(host: str, name: str) -> None:
    assert at(host).name == name


def test_behind_a_unix_socket_it_is_the_user() -> None:
    peer = of_user(4711, 1000)
    assert (peer.name, peer.source.name, peer.user) == ("unix:pid=4711,uid=1000", "uid=1000", 1000)
    assert of_nobody().user == -1
    assert of_address("::1", 80).name == "tcp://[::1]:80"


# --- bounds ------------------------------------------------------------------


def test_no_more_than_the_bound_are_under_way_whatever_chance_says() -> None:
    door = admission(handshake_pending=100)
    fill(door, 100)
    assert door.enter(A, 0) is BUSY
    door.leave(at("10.0.0.7"))
    assert door.enter(A, 0) is IN
    assert door.enter(B, 0) is BUSY


def test_one_source_has_its_share_and_others_still_come_in() -> None:
    door = admission()
    for _ in range(16):
        assert door.enter(A, 0) is IN
    assert door.enter(A, 0) is BUSY
    assert door.enter(B, 0) is IN
    door.leave(A)
    assert door.enter(A, 0) is IN
    assert door.enter(A, 0) is BUSY


def test_a_whole_64_of_ipv6_has_one_share() -> None:
    door = admission()
    verdicts = [door.enter(at(f"2001:db8::{number:x}"), 0) for number in range(100)]
    assert verdicts.count(IN) == 16
    assert door.enter(at("2001:db8:0:1::1"), 0) is IN


def test_this_machine_may_have_all_that_is_below_the_early_drop_and_leaves_room_for_others() -> None:
    door = admission()
    verdicts = [door.enter(at(f"127.0.0.{1 + number % 250}"), 0) for number in range(300)]
    assert verdicts.count(IN) == 128
    assert door.enter(A, 0) is IN
    assert door.enter(of_user(1, 1000).source, 0) is IN


def test_below_the_share_nobody_is_dropped_and_above_it_the_more_the_fuller() -> None:
    """Of many rooms that fill: how many refuse the next one, by how full they are."""
    chance = random.Random(1).random

    def refused(full: int) -> float:
        times = 2000
        door = admission(chance)
        count = 0
        door.under_way.taken = full
        for _ in range(times):
            if door.enter(A, 0) is BUSY:
                count += 1
            else:
                door.leave(A)
        return count / times

    assert [refused(full) for full in (0, 64, 128)] == [0, 0, 0]
    assert refused(160) == pytest.approx(0.25, abs=0.05)
    assert refused(192) == pytest.approx(0.5, abs=0.05)
    assert refused(224) == pytest.approx(0.75, abs=0.05)
    assert refused(256) == 1


def test_early_drop_can_be_put_off_to_the_bound() -> None:
    door = admission(lambda: 0.0, handshake_pending=20, handshake_drop_from=1)
    fill(door, 20)
    assert door.enter(A, 0) is BUSY


def test_one_at_a_time_is_a_bound_too() -> None:
    door = admission(handshake_pending=1)
    assert door.enter(A, 0) is IN
    assert door.enter(B, 0) is BUSY
    door.leave(A)
    assert door.enter(of_user(1, 2).source, 0) is IN


# --- penalties ---------------------------------------------------------------


def fail(door: Admission, source: Source, now: float, times: int = 1) -> list[Penalty]:
    """Handshakes one after the other that come to nothing; the penalties."""
    found = []
    for _ in range(times):
        assert door.enter(source, now) is IN
        door.leave(source)
        found.append(door.failed(source, now))
    return [each for each in found if each is not None]


def test_after_some_failures_a_source_is_closed_out_for_a_time_that_doubles_up_to_a_bound() -> None:
    door = admission(penalty_after=3, penalty_first=2, penalty_max=30)
    assert fail(door, A, 0, 2) == []
    now, seconds = 0.0, []
    for failures in range(3, 10):
        (penalty,) = fail(door, A, now)
        assert (penalty.source, penalty.failures) == ("192.0.2.1", failures)
        seconds.append(penalty.seconds)
        assert door.enter(A, now) is PENALISED
        assert door.enter(A, now + penalty.seconds - 0.001) is PENALISED
        assert door.enter(B, now) is IN
        door.leave(B)
        now += penalty.seconds
        assert door.enter(A, now) is IN
        door.leave(A)
    assert seconds == [2, 4, 8, 16, 30, 30, 30]


def test_the_next_penalty_says_how_many_were_closed_out_before() -> None:
    door = admission(penalty_after=1, penalty_first=1)
    assert fail(door, A, 0)[0].closed == 0
    assert [door.enter(A, 0.5) for _ in range(7)] == [PENALISED] * 7
    assert fail(door, A, 1)[0].closed == 7
    assert fail(door, A, 3)[0].closed == 0


def test_those_under_way_when_a_penalty_comes_bring_no_other() -> None:
    door = admission(penalty_after=1, penalty_first=1)
    for _ in range(16):
        assert door.enter(A, 0) is IN
    penalties = []
    for _ in range(16):
        door.leave(A)
        penalties.append(door.failed(A, 0))
    assert [each.seconds for each in penalties if each is not None] == [1]


def test_honest_clients_may_come_back_all_at_once() -> None:
    door = admission()
    for number in range(100_000):
        assert door.enter(A, number / 1000) is IN
        door.leave(A)
        door.succeeded(A)


def test_a_success_pays_the_debt() -> None:
    door = admission(penalty_after=3)
    fail(door, A, 0, 2)
    door.succeeded(A)
    assert fail(door, A, 0, 2) == []
    assert len(fail(door, A, 0)) == 1


def test_a_debt_is_forgotten_in_time() -> None:
    door = admission(penalty_after=3, penalty_max=60)
    fail(door, A, 0, 2)
    assert fail(door, A, 61, 2) == []
    assert len(fail(door, A, 62)) == 1


@pytest.mark.parametrize("source", [at("127.0.0.1"), at("::1"), of_user(1, 1000).source, of_nobody().source])
def test_this_machine_is_penalised_only_when_it_is_asked_for(source: Source) -> None:
    assert fail(admission(), source, 0, 1000) == []
    assert len(fail(admission(penalty_exempt=[]), source, 0, 10)) == 1


def test_networks_may_be_exempt_and_a_reload_counts_at_once() -> None:
    door = admission(penalty_exempt=["192.0.2.0/31", "2001:db8::/32"])
    assert fail(door, A, 0, 100) == fail(door, at("2001:db8::1"), 0, 100) == []
    assert len(fail(door, B, 0, 10)) == 1
    door.bounds = Bounds.of(DaemonConfig(penalty_exempt=("192.0.2.2",)))
    assert door.enter(B, 0) is IN
    assert len(fail(door, A, 0, 10)) == 1


def test_no_penalties_are_asked_for_by_0() -> None:
    assert fail(admission(penalty_after=0), A, 0, 1000) == []


def test_memory_is_bounded_and_the_source_heard_of_longest_ago_is_forgotten() -> None:
    door = admission(penalty_after=1, penalty_sources=100, penalty_first=600)
    for number in range(100):
        fail(door, at(f"10.1.0.{number}"), 0)
    assert door.enter(at("10.1.0.0"), 1) is PENALISED  # it is heard of, so it stays
    for number in range(50):
        fail(door, at(f"10.2.0.{number}"), 1)
    assert len(door._debts) == 100
    assert door.enter(at("10.1.0.0"), 2) is PENALISED
    assert door.enter(at("10.1.0.1"), 2) is IN


def test_nothing_is_kept_of_those_who_have_left() -> None:
    door = admission()
    for number in range(10_000):
        source = at(f"10.{number // 65536}.{number // 256 % 256}.{number % 256}")
        assert door.enter(source, 0) is IN
        door.leave(source)
        assert door.failed(source, 0) is None
    assert not door.under_way._by_source
    assert door.under_way.taken == 0
    assert len(door._debts) == 4096
