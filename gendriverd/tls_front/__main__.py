# SPDX-License-Identifier: MIT
"""`python -m gendriverd.tls_front`, as the daemon starts it: its channel is descriptor 3, and says all the rest."""

from __future__ import annotations

import gc
import socket
import sys

from gendriverd import passing
from gendriverd.etf import Atom
from gendriverd.tls_front.confine import allow_descriptors, confine
from gendriverd.tls_front.front import Front
from gendriverd.tls_front.loop import Loop
from gendriverd.tls_front.mouth import receive
from gendriverd.tls_front.settings import read_settings

CHANNEL_FD = 3
OWN = 64  # descriptors beside those of clients
OF_CLIENT = 3  # two, and one that is on its way to the daemon


def main() -> int:
    """0: the daemon was done with us."""
    try:
        channel = socket.socket(fileno=CHANNEL_FD)
    except OSError:
        print("gendriverd.tls_front is started by gendriverd, which gives it descriptor 3", file=sys.stderr)
        return 2
    message, fds = receive(channel)
    match message:
        case (tag, int() as count, dict() as about) if tag == Atom("start"):
            descriptors = allow_descriptors(OF_CLIENT * about[Atom("connections")] + OWN)
            if passing.may_come(()):
                passing.limit_waits()
            confined = confine()
            listeners = [socket.socket(fileno=fd) for fd in fds[:count]]
            settings = read_settings(about, fds[count:])
        case _:  # the daemon is gone
            return 0
    loop = Loop()
    front = Front(loop, channel, listeners, settings, most=max(1, (descriptors - OWN) // OF_CLIENT))
    front.ready(confined)
    gc.freeze()
    loop.run(front.expire)
    return 0


if __name__ == "__main__":
    sys.exit(main())
