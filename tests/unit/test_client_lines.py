# SPDX-License-Identifier: MIT
"""What clients may write into the log: a budget a source, and a bounded table of these."""

from __future__ import annotations

from typing import Any

import trio

from gendriverd.client_lines import BURST, PER_SECOND, LinesBySource
from gendriverd.sources import of_address
from tests.unit.test_door import Door, Lines, hello

A, B = (of_address(host, 1).source for host in ("192.0.2.1", "192.0.2.2"))


async def test_one_source_has_a_burst_then_so_many_a_second_and_the_next_line_says_what_is_missing(
    autojump_clock: object,
) -> None:
    table, log = LinesBySource(), Lines()
    said: Any = log
    for number in range(BURST + 50):
        table.of(A, 10).say(said, "client_connected", conn=number)
    assert len(log.said) == BURST
    table.of(B, 10).say(said, "client_connected", conn=1)
    assert log.said[-1] == {"event": "client_connected", "level": "info", "conn": 1}
    await trio.sleep(1)
    for number in range(50):
        table.of(A, 10).say(said, "client_closed", conn=number)
    later = log.said[BURST + 1 :]
    assert len(later) == PER_SECOND
    assert later[0] == {"event": "client_closed", "level": "info", "conn": 0, "not_logged": 50}
    assert "not_logged" not in later[1]


async def test_long_lines_cost_more() -> None:
    log: Any = Lines()
    lines = LinesBySource().of(A, 10)
    for _ in range(BURST):
        lines.say(log, "tls_client", certificate=["x" * 255] * 8)
    assert len(log.said) < BURST / 2


async def test_what_one_source_writes_into_the_log_is_bounded_and_another_is_still_seen(autojump_clock: object) -> None:
    door = Door(auth="hmac", handshake_per_source=256)
    names = ("anna.example", *(f"DNS:{number}.example" for number in range(31)))
    for _ in range(BURST):
        await door.hear(hello(), certified=names)
    said = [line["event"] for line in door.played.lines.said]
    assert {event: said.count(event) for event in said} == {
        "tls_client": BURST // 2,
        "client_authenticated": BURST // 2,
    }
    assert {len(line.get("certificate", names[:8])) for line in door.played.lines.said} == {8}
    await door.hear(hello(), of_address("192.0.2.2", 1), certified=names)
    assert len(door.played.lines.said) == BURST + 2


async def test_a_certificate_is_not_logged_before_its_client_may_begin() -> None:
    door = Door(auth="hmac", penalty_after=1)
    for _ in range(3):
        await door.hear(hello(), certified=("carl.example",))
    assert [line["event"] for line in door.played.lines.said].count("tls_client") == 1


async def test_no_more_sources_are_remembered_than_may_be() -> None:
    table = LinesBySource()
    first = table.of(A, 100)
    for number in range(200):
        table.of(of_address(f"10.0.0.{number}", 1).source, 100)
        assert table.of(A, 100) is first  # it is heard of
    assert len(table._sources) == 100
