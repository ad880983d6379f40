# SPDX-License-Identifier: MIT
"""The daemon's end of a control channel, without a host."""

from __future__ import annotations

import pytest
import trio

from gendriverd import etf
from gendriverd.channel import make_pair
from gendriverd.errors import HostGone
from gendriverd.etf import Atom
from gendriverd.messages import Drained, Pong


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
