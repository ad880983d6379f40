# SPDX-License-Identifier: MIT
"""The daemon's end of a control channel, without a host."""

from __future__ import annotations

import pytest
import trio

from gendriverd import etf
from gendriverd.channel import make_pair
from gendriverd.errors import BadMessage, HostGone
from gendriverd.etf import Atom
from gendriverd.messages import LOG_HEAD, Drained, LogLine, Pong


async def test_what_a_host_said_is_heard_though_it_left_with_our_messages_unread() -> None:
    ours, theirs = make_pair()
    for message in ((Atom("pong"), 1), (Atom("drained"),)):
        theirs.send(etf.encode(message))
    await ours.send(Atom("ping"), 2)
    theirs.close()
    with trio.fail_after(30):
        assert [await ours.receive(), await ours.receive()] == [Pong(1), Drained()]
        with pytest.raises(HostGone, match="end of file"):
            await ours.receive()
    ours.close()


async def test_a_log_line_that_is_not_wanted_is_not_decoded() -> None:
    ours, theirs = make_pair()
    theirs.send(LOG_HEAD + b"and then what is no term")
    theirs.send(etf.encode((Atom("pong"), 1)))
    theirs.send(LOG_HEAD + bytes(64 * 1024))
    with trio.fail_after(30):
        assert await ours.receive(lambda: False) is None
        assert await ours.receive(lambda: False) == Pong(1)
        with pytest.raises(BadMessage, match="more than 65536 bytes"):
            await ours.receive(lambda: False)
    ours.close()
    theirs.close()


async def test_a_log_line_is_known_by_how_it_begins() -> None:
    ours, theirs = make_pair()
    line = etf.encode((Atom("log"), Atom("info"), b"x", {}))
    theirs.send(line)
    theirs.send(b"\x83h\x04d\x00\x03log" + line.removeprefix(LOG_HEAD))  # the same term, with an ATOM_EXT
    with trio.fail_after(30):
        assert await ours.receive() == LogLine("info", "x", {})
        with pytest.raises(BadMessage, match="does not begin as one"):
            await ours.receive(lambda: False)
    ours.close()
    theirs.close()
