# SPDX-License-Identifier: MIT
"""The watchdog is fed when all parts of the daemon have gone round, and only then."""

from __future__ import annotations

import errno
import itertools
import socket
from pathlib import Path

import pytest
import structlog
import trio
import trio.testing

from gendriverd.listener import open_unix
from gendriverd.liveness import Liveness
from gendriverd.log import get_log
from gendriverd.quantities import Address
from gendriverd.sources import Peer

ALLOWED = 30.0  # seconds


class Watchdog:
    """What systemd hears, and when."""

    def __init__(self) -> None:
        self.fed: list[float] = []

    def alive(self) -> None:
        self.fed.append(trio.current_time())


@pytest.fixture
def liveness() -> Liveness:
    return Liveness(ALLOWED, get_log())


async def test_parts_that_go_round_feed_it_at_least_twice_in_the_time_allowed(
    liveness: Liveness, autojump_clock: trio.testing.MockClock
) -> None:
    watchdog, never = Watchdog(), trio.Event()
    parts = [liveness.part("a"), liveness.part("b")]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(liveness.watch, watchdog.alive)
        for part in parts:
            nursery.start_soon(part.wait, never)
        await trio.sleep(20 * ALLOWED)
        nursery.cancel_scope.cancel()
    times = [0.0, *watchdog.fed, 20 * ALLOWED]
    assert max(b - a for a, b in itertools.pairwise(times)) <= ALLOWED / 2


async def test_one_stuck_part_is_enough_and_it_is_named(
    liveness: Liveness, autojump_clock: trio.testing.MockClock
) -> None:
    watchdog, never, stuck_from = Watchdog(), trio.Event(), trio.Event()
    sound, stuck = liveness.part("sound"), liveness.part("stuck")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(liveness.watch, watchdog.alive)
        nursery.start_soon(sound.wait, never)
        nursery.start_soon(stuck.wait, stuck_from)
        await trio.sleep(ALLOWED)
        assert watchdog.fed
        stuck_from.set()
        last = trio.current_time()
        with structlog.testing.capture_logs() as lines:
            await trio.sleep(20 * ALLOWED)
        assert not [when for when in watchdog.fed if when > last + ALLOWED / 4]
        assert [(line["event"], line["parts"]) for line in lines] == [("parts_stuck", ["stuck"])]
        stuck.beat()
        await trio.testing.wait_all_tasks_blocked()
        assert watchdog.fed[-1] == trio.current_time(), "it went on after all"
        nursery.cancel_scope.cancel()


async def test_while_the_daemon_drains_the_loop_is_enough(
    liveness: Liveness, autojump_clock: trio.testing.MockClock
) -> None:
    watchdog = Watchdog()
    liveness.part("stuck")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(liveness.watch, watchdog.alive)
        await trio.sleep(10 * ALLOWED)
        assert watchdog.fed == []
        liveness.release()
        await trio.sleep(ALLOWED)
        assert len(watchdog.fed) >= 2
        nursery.cancel_scope.cancel()


async def test_nobody_asks_and_nobody_wakes(autojump_clock: trio.testing.MockClock) -> None:
    liveness, watchdog, event = Liveness(None, get_log()), Watchdog(), trio.Event()
    part = liveness.part("a")
    await liveness.watch(watchdog.alive)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(part.wait, event)
        await trio.testing.wait_all_tasks_blocked()
        assert trio.current_time() + trio.lowlevel.current_statistics().seconds_to_next_deadline == float("inf")
        event.set()
    assert watchdog.fed == []


@pytest.mark.parametrize("trouble", ["stuck", "broken"])
async def test_an_accept_task_feeds_it_with_and_without_clients_until_it_is_in_trouble(
    tmp_path: Path,
    liveness: Liveness,
    autojump_clock: trio.testing.MockClock,
    monkeypatch: pytest.MonkeyPatch,
    trouble: str,
) -> None:
    watchdog, served, freed = Watchdog(), trio.Event(), trio.Event()
    listener = open_unix(Address("", 0, str(tmp_path / "s")), 0o600)

    async def serve(client: trio.socket.SocketType, _peer: Peer) -> None:
        client.close()
        served.set()

    async def stuck() -> None:
        with trio.CancelScope(shield=True):
            await freed.wait()
        await trio.sleep_forever()

    async def broken() -> None:
        await trio.sleep(1)
        raise OSError(errno.EINVAL, "not listening any more")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(listener.accept_forever, serve, nursery, get_log(), liveness.part("accept"))
        nursery.start_soon(liveness.watch, watchdog.alive)
        await trio.sleep(10 * ALLOWED)
        assert len(watchdog.fed) >= 20
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(tmp_path / "s"))
            await served.wait()
        monkeypatch.setattr(listener._socket, "accept", {"stuck": stuck, "broken": broken}[trouble])
        last = trio.current_time()
        await trio.sleep(10 * ALLOWED)
        assert not [when for when in watchdog.fed if when > last + ALLOWED]
        nursery.cancel_scope.cancel()
        freed.set()
    listener.close()
