# SPDX-License-Identifier: MIT
"""A host dies under its callers: each call has one outcome, it is true, and the log names the request that did it."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from gendriverd import etf
from gendriverd.etf import Atom, Term
from running_daemon import RunningDaemon
from test_daemon import Raw, hello

Daemon = Callable[..., RunningDaemon]
KNOWN = {"segv": 1, "abort": 2, "exit": 3, "bus": 4, "fpe": 5, "ill": 6, "stack": 7, "double_free": 8}
if os.environ.get("GENDRIVERD_SANITIZER"):
    del KNOWN["double_free"]  # its own allocator takes it otherwise
UNKNOWN = {"segv_thread": 9, "kill": 19}
NUMBER = KNOWN | UNKNOWN
SEGV, BLOCK, WAITING, ECHO = 1, 12, 16, 1


def call(number: int, command: int, key: int, params: Term = ()) -> bytes:
    return etf.frame((Atom("call"), number, command, params if params != () else [], {Atom("key"): key}))


def failed(number: int, reason: str) -> tuple[Atom, int, Atom]:
    return (Atom("failed"), number, Atom(reason))


GOODBYE = (Atom("goodbye"), Atom("host_died"))


def serving(daemon: Daemon, drivers: Path) -> RunningDaemon:
    return daemon(
        {
            "crash": {"driver": drivers / "test/crash.so", "threads": 2, "restart": {"first": "1ms"}},
            "echo": {"driver": "echo.so"},
        }
    )


def welcomed(url: str, instance: bytes = b"crash") -> Raw:
    raw = Raw(url)
    raw.sock.sendall(hello(instance))
    raw.receive()
    assert raw.receive()[0] == "welcome"  # type: ignore[index]
    return raw


def heard_to_the_end(raw: Raw) -> list[Term]:
    frames = []
    while (frame := raw.receive()) is not None:
        frames.append(frame)
    return frames


@pytest.mark.parametrize("url", ["tcp_url", "unix_url"])
@pytest.mark.parametrize("how", [*KNOWN, *UNKNOWN])
def test_every_call_hears_what_became_of_it(daemon: Daemon, drivers: Path, how: str, url: str) -> None:
    running = serving(daemon, drivers)
    with welcomed(getattr(running, url)) as raw, welcomed(getattr(running, url), b"echo") as neighbour:
        raw.sock.sendall(
            call(1, BLOCK, 0)  # runs on the first seat
            + call(2, BLOCK, 0)  # and this waits behind it
            + call(3, WAITING, 1, 1)  # runs on the second seat until the first blocks
            + call(4, NUMBER[how], 1, b"the one")
            + call(5, BLOCK, 1)
        )
        assert raw.receive() == (Atom("reply"), 3, Atom("ok"))
        heard = heard_to_the_end(raw)
        assert heard[-1] == GOODBYE
        assert sorted(heard[:-1]) == [failed(1, "interrupted"), failed(4, "crashed" if how in KNOWN else "interrupted")]
        neighbour.sock.sendall(call(1, ECHO, 0, 1))
        assert neighbour.receive() == (Atom("reply"), 1, (Atom("ok"), 1))
    died = running.wait_event("host_exited", instance="crash")
    assert died.get("command") == (NUMBER[how] if how in KNOWN else None)
    assert died.get("worker") == (1 if how in KNOWN else None)


def test_many_clients_hear_each_of_its_own_calls(daemon: Daemon, drivers: Path) -> None:
    running = serving(daemon, drivers)
    clients = [welcomed(running.tcp_url) for _ in range(20)]
    for number, raw in enumerate(clients):
        raw.sock.sendall(call(number, BLOCK, 0))
    with welcomed(running.tcp_url) as killer:
        killer.sock.sendall(call(1, WAITING, 1, 1) + call(2, SEGV, 1))
        assert killer.receive() == (Atom("reply"), 1, Atom("ok"))
        assert heard_to_the_end(killer) == [failed(2, "crashed"), GOODBYE]
    heard = [heard_to_the_end(raw) for raw in clients]
    begun = [number for number, frames in enumerate(heard) if len(frames) > 1]
    assert len(begun) == 1  # of the first seat's calls one ran, the others were never begun
    assert heard[begun[0]] == [failed(begun[0], "interrupted"), GOODBYE]
    assert all(frames == [GOODBYE] for number, frames in enumerate(heard) if number not in begun)
    for raw in clients:
        raw.sock.close()


def test_a_reply_that_was_given_stands_and_its_id_may_be_in_use_again(daemon: Daemon, drivers: Path) -> None:
    running = serving(daemon, drivers)
    with welcomed(running.tcp_url) as raw:
        for _ in range(50):
            raw.sock.sendall(call(1, WAITING, 1, 0))
            assert raw.receive() == (Atom("reply"), 1, Atom("ok"))
        raw.sock.sendall(call(1, SEGV, 1))
        assert heard_to_the_end(raw) == [failed(1, "crashed"), GOODBYE]


def test_a_cast_that_kills_its_host_answers_nobody_and_is_named(daemon: Daemon, drivers: Path) -> None:
    running = serving(daemon, drivers)
    with welcomed(running.tcp_url) as raw:
        raw.sock.sendall(etf.frame((Atom("cast"), SEGV)))
        assert heard_to_the_end(raw) == [GOODBYE]
    assert running.wait_event("host_exited", instance="crash")["command"] == SEGV


def test_requests_unread_in_the_kernel_were_never_begun(daemon: Daemon, drivers: Path) -> None:
    running = serving(daemon, drivers)
    with welcomed(running.tcp_url) as raw:
        os.kill(running.host_pid("crash"), signal.SIGSTOP)
        raw.sock.sendall(b"".join(call(number, BLOCK, 0) for number in range(200)))
        os.kill(running.host_pid("crash"), signal.SIGKILL)
        assert heard_to_the_end(raw) == [GOODBYE]


def test_a_client_with_a_full_socket_is_left_without_a_lie(daemon: Daemon, drivers: Path) -> None:
    """Its stream ends in the middle of a frame: nothing can be said on it, and it is `disconnected`."""
    running = serving(daemon, drivers)
    with welcomed(running.tcp_url, b"echo") as raw, welcomed(running.tcp_url, b"echo") as other:
        raw.sock.sendall(call(1, ECHO, 0, b"x" * 15_000_000))
        while not raw.sock.recv(1, socket.MSG_PEEK):
            pass
        os.kill(running.host_pid("echo"), signal.SIGKILL)
        assert heard_to_the_end(other) == [GOODBYE]
        assert heard_to_the_end(raw) == []
        assert raw.cut_off()


def test_a_half_closed_client_hears_its_end_too(daemon: Daemon, drivers: Path) -> None:
    running = serving(daemon, drivers)
    with welcomed(running.tcp_url) as raw:
        raw.sock.sendall(call(1, SEGV, 0))
        raw.sock.shutdown(socket.SHUT_WR)
        assert heard_to_the_end(raw) == [failed(1, "crashed"), GOODBYE]
