# SPDX-License-Identifier: MIT
"""A host in Python that obeys docs/control-channel.md, or misbehaves as its setting `behave` says; a test double.

It uses a codec that is not the daemon's. Calls are answered {ok, Params}; command 99 kills it by SIGSEGV. Behaviours:
refuse, silent, crash, garbage, huge, descriptor, unknown_conn, deaf, mute (adopts nothing), too_many, no_descriptor,
die_once (generation 1 dies on its first connection), close_channel, leave_child, print, log, flood, flood_long,
die_long, log_of_too_much, pongs, drained, refuse_and_stay, make_it_wait (refuses a socket that it has set to block),
leave_it_lingering, die_lingering (a close waits for bytes).
"""

from __future__ import annotations

import array
import contextlib
import os
import signal
import socket
import struct
import threading
from typing import Any

from erlang import OtpErlangAtom, OtpErlangBinary, binary_to_term, term_to_binary

channel = socket.socket(fileno=3)
gone = threading.Condition()  # a connection has
connections: dict[int, socket.socket] = {}


def atom(name: str) -> Any:
    return OtpErlangAtom(name)


def binary(text: str) -> Any:
    return OtpErlangBinary(text.encode())


def plain(term: Any) -> Any:
    """Atoms and binaries as str and bytes."""
    if isinstance(term, OtpErlangAtom):
        value = term.value
        return value.decode() if isinstance(value, bytes) else value
    if isinstance(term, OtpErlangBinary):
        return term.value
    if isinstance(term, tuple):
        return tuple(plain(each) for each in term)
    if isinstance(term, dict):
        return {plain(key): plain(value) for key, value in term.items()}
    return term


def say(*message: Any) -> None:
    channel.send(term_to_binary(tuple(message)))


def serve(number: int, client: socket.socket, welcome: bytes) -> None:
    """One client, until it half-closes."""
    client.setblocking(True)
    counts = {atom("calls"): 0, atom("casts"): 0, atom("bytes_in"): 0, atom("bytes_out"): 0}
    with contextlib.suppress(OSError), client:
        client.sendall(welcome)
        stream = client.makefile("rb")
        while len(head := stream.read(4)) == 4:
            request = binary_to_term(stream.read(struct.unpack(">I", head)[0]))
            if request[2] == 99:
                os.kill(os.getpid(), signal.SIGSEGV)
            params = request[3] if len(request) > 3 else []
            data = term_to_binary((atom("reply"), request[1], (atom("ok"), params)))
            client.sendall(struct.pack(">I", len(data)) + data)
            counts[atom("calls")] += 1
        client.shutdown(socket.SHUT_WR)
    with gone:
        connections.pop(number, None)
        gone.notify_all()
    with contextlib.suppress(OSError):
        say(atom("closed"), number, atom("half_closed"), counts)


def adopt(message: Any, fds: list[int], behave: str, generation: int) -> None:
    _, number, _, welcome, _ = message
    if behave == "die_once" and generation == 1:
        os._exit(7)
    if behave == "mute":
        return
    if behave in {"too_many", "no_descriptor"}:
        os.close(fds[0])
        say(atom("refused"), number, atom(behave))
        return
    connections[number] = client = socket.socket(fileno=fds[0])
    if behave == "make_it_wait":
        client.setblocking(True)
        say(atom("refused"), number, atom("too_many"))
        return
    say(atom("adopted"), number)
    if behave in {"leave_it_lingering", "die_lingering"}:
        fill(client)
        if behave == "die_lingering":
            os._exit(8)
        client.close()
        say(atom("closed"), number, atom("half_closed"), {})
        return
    threading.Thread(target=serve, args=(number, connections[number], welcome), daemon=True).start()


def fill(client: socket.socket) -> None:
    """With more than a peer takes that does not read; whoever closes it last waits for an hour."""
    client.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while client.send(bytes(1 << 20)):
            pass
    client.setblocking(True)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 3600))


def misbehave_before_ready(behave: str) -> None:
    if behave.startswith("refuse"):
        say(atom("refuse"), binary("undefined symbol: dispatch\n\x1b[31m"))
        while behave == "refuse_and_stay":
            signal.pause()
        os._exit(100)
    if behave == "silent":
        signal.pause()
    if behave == "crash":
        os._exit(3)
    if behave == "leave_child":
        if os.fork() == 0:  # holds every descriptor, the channel and the output pipe too
            signal.pause()
        os._exit(4)


def misbehave_when_ready(behave: str) -> None:
    if behave == "garbage":
        channel.send(os.urandom(200))
    elif behave == "huge":
        channel.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        channel.send(b"\x83m\0\1\0\0" + bytes(70000))
    elif behave == "descriptor":
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [1]))]
        try:
            channel.sendmsg([term_to_binary((atom("drained"),))], rights)
        except PermissionError:
            os._exit(5)
    elif behave == "unknown_conn":
        say(atom("adopted"), 4711)
    elif behave == "close_channel":
        os.close(3)
        signal.pause()
    elif behave == "print":
        os.write(1, b"from stdout\x1b[2J\n" + b"x" * 100_000 + b"\nlast words without newline")
    elif behave == "log":
        about = {atom("worker"): 1, atom("command"): 2, atom("request"): 3, atom("message"): binary("hi\nthere")}
        say(atom("log"), atom("warning"), binary("driver_log"), about)
        forged = {atom("event"): binary("stopped"), atom("exc_info"): 1, atom("level"): binary("x")}
        say(atom("log"), atom("error"), binary("not an event"), forged)
    else:
        talk(behave)


def talk(behave: str) -> None:
    """Much, or what nobody asked for."""
    if behave == "flood":
        for number in range(20_000):
            say(atom("log"), atom("info"), binary("driver_log"), {atom("n"): number})
    elif behave in {"flood_long", "die_long"}:
        for number in range(2000 if behave == "flood_long" else 20):
            values = {binary(f"k{each}"): binary("\x01" * 500) for each in range(15)}
            say(atom("log"), atom("info"), binary("driver_log"), {atom("n"): number, **values})
        if behave == "die_long":
            os._exit(3)
    elif behave == "pongs":
        for number in range(1, 100):
            say(atom("pong"), number)
    elif behave == "drained":
        say(atom("drained"))
    elif behave == "log_of_too_much":
        values = {binary(f"k{each}"): binary("\x01" * 4000) for each in range(15)}
        say(atom("log"), atom("info"), binary("driver_log"), values)


def main() -> None:
    start = plain(binary_to_term(channel.recv(65536)))[1]
    behave = start["settings"].get(b"behave", b"").decode()
    generation = start["generation"]
    misbehave_before_ready(behave)
    about = {
        atom("abi"): 1,
        atom("commands"): {binary("echo"): 1},
        atom("atoms"): [binary("pong")],
        atom("source"): binary("fake"),
    }
    say(atom("ready"), about)
    misbehave_when_ready(behave)
    while True:
        data, fds, _, _ = socket.recv_fds(channel, 65536, 4)
        if not data:
            os._exit(1)
        message = plain(binary_to_term(data))
        if message[0] == "conn":
            adopt(message, fds, behave, generation)
        elif behave == "deaf":
            continue
        elif message[0] == "drain":
            threading.Thread(target=drain, args=(message[1],), daemon=True).start()
        elif message[0] == "stop":
            os._exit(0)


def drain(limit: int) -> None:
    goodbye = term_to_binary((atom("goodbye"), atom("draining")))
    for client in list(connections.values()):
        with contextlib.suppress(OSError):
            client.sendall(struct.pack(">I", len(goodbye)) + goodbye)
    with gone:
        gone.wait_for(lambda: not connections, limit / 1000)
    say(atom("drained"))


if __name__ == "__main__":
    main()
