# SPDX-License-Identifier: MIT
"""A front that misbehaves as its argument says, once it has been told to start; a test double."""

from __future__ import annotations

import array
import contextlib
import os
import signal
import socket
import sys

from gendriverd import etf
from gendriverd.etf import Atom, Term

channel = socket.socket(fileno=3)


CLIENT: tuple[Term, ...] = (Atom("client"), b"127.0.0.1", 5, Atom("none"))
ours, theirs = socket.socketpair()
server = socket.create_server(("127.0.0.1", 0))
loose, tcp = socket.socket(socket.AF_UNIX), socket.create_connection(server.getsockname())
# What is said, and the descriptors that come with it.
LIES: dict[str, tuple[tuple[Term, ...], tuple[int, ...]]] = {
    "word_of_a_host": ((Atom("adopted"), 1), ()),
    "no_socket": (CLIENT, ()),
    "two_sockets": (CLIENT, (ours.fileno(), theirs.fileno())),
    "a_file": (CLIENT, (0,)),
    "a_tcp_socket": (CLIENT, (tcp.fileno(),)),
    "a_loose_socket": (CLIENT, (loose.fileno(),)),
    "no_address": ((Atom("client"), b"example.com", 5, Atom("none")), (theirs.fileno(),)),
    "long_names": ((Atom("client"), b"::1", 5, [b"x" * 5000]), (theirs.fileno(),)),
    "forged_names": ((Atom("client"), b"::1", 5, [b"CN=a\n{}"]), (theirs.fileno(),)),
    "renewed_unasked": ((Atom("renewed"),), ()),
    "ready_twice": ((Atom("ready"), {Atom("landlock"): 1, Atom("seccomp"): 1}), ()),
}


def say(message: tuple[Term, ...], fds: tuple[int, ...] = ()) -> None:
    channel.sendmsg([etf.encode(message)], rights(*fds))


def rights(*fds: int) -> list[tuple[int, int, array.array[int]]]:
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []


def pass_until_it_is_refused(by: socket.socket) -> None:
    with contextlib.suppress(PermissionError):
        while by.sendmsg([b"x"], rights(0)):
            pass


def misbehave(how: str) -> None:
    if how in LIES:
        say(*LIES[how])
    elif how == "garbage":
        channel.send(b"\x83" + os.urandom(50))
    elif how == "huge":
        channel.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        channel.send(b"\x83m\0\1\0\0" + bytes(70000))
    elif how == "close_channel":
        channel.close()
    elif how == "flood":
        for _ in range(5000):
            say((Atom("refused"), b"::1", 5, b"x\n\x1b[31m" * 30))
        os._exit(3)
    elif how == "pass_on":
        say(CLIENT, (theirs.fileno(),))
        pass_until_it_is_refused(ours)
        os._exit(4)
    elif how == "shut_listener":
        listener.shutdown(socket.SHUT_RDWR)
        os._exit(3)
    elif how == "keeps_the_old":
        while b"renew" not in channel.recv(65536):
            pass
        say(CLIENT, (theirs.fileno(),))
    signal.pause()


if __name__ == "__main__":
    listener = socket.socket(fileno=socket.recv_fds(channel, 65536, 64)[1][0])
    if sys.argv[1] != "silent":
        say((Atom("ready"), {Atom("landlock"): 0, Atom("seccomp"): 0}))
    misbehave(sys.argv[1])
