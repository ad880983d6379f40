# SPDX-License-Identifier: MIT
"""Descriptors that are passed to the daemon or a host unasked: refused where the kernel can, waited for by nobody."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gendriverd import etf
from gendriverd.client import connect
from gendriverd.etf import Atom
from passed_sockets import lingering, needs_refusal, rights
from running_daemon import RunningDaemon, running_daemon
from test_daemon import driver_path, hello

__all__ = ["lingering"]

Daemon = Callable[..., RunningDaemon]
ECHO: dict[str, dict[str, object]] = {"echo": {"driver": "echo.so"}}


def refused_to(peer: socket.socket) -> bool:
    with pytest.raises(PermissionError):
        peer.sendmsg([b"\0"], rights(0))
    return True


@needs_refusal
@pytest.mark.parametrize("which", ["clients", "admin"])
def test_a_stranger_passes_the_daemon_nothing(daemon: Daemon, which: str) -> None:
    running = daemon(ECHO)
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(running.admin if which == "admin" else running.unix_url.removeprefix("unix:"))
        assert refused_to(peer)


@needs_refusal
def test_nor_does_a_client_its_host(daemon: Daemon) -> None:
    running = daemon(ECHO)
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(30)
        client.connect(running.unix_url.removeprefix("unix:"))
        client.sendall(hello(b"echo"))
        heard = b""
        while b"welcome" not in heard:
            heard += client.recv(4096)
        assert refused_to(client)


@needs_refusal
@pytest.mark.skipif("GENDRIVERD_SANITIZER" in os.environ, reason="sanitizers need what is refused here")
@pytest.mark.parametrize("profile", ["default", "strict"])
def test_a_driver_passes_its_daemon_nothing_nor_lets_it_take_any(daemon: Daemon, profile: str) -> None:
    running = daemon({"x": {"driver": driver_path("escape"), "sandbox": {"profile": profile}}})
    with connect(running.tcp_url, "x") as client:
        attempts = dict(each.split("=") for each in client.call("pass_descriptors").decode().split())
    assert attempts == {f"{what}-{fd}": "EPERM" for what in ("pass", "take") for fd in (1, 2, 3)}


@pytest.fixture
def passed() -> Iterator[socket.socket]:
    """A listening unix socket of systemd's."""
    with tempfile.TemporaryDirectory(prefix="gendriverd-") as short, socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"{short}/s")
        listening.listen()
        yield listening


@needs_refusal
@pytest.mark.usefixtures("host_path")
def test_on_a_socket_of_systemds_they_are_refused_when_the_daemon_has_it(tmp_path: Path, passed: socket.socket) -> None:
    with running_daemon(tmp_path, {}, passed=[passed.fileno()]), socket.socket(socket.AF_UNIX) as peer:
        peer.connect(passed.getsockname())
        assert refused_to(peer)


@pytest.mark.usefixtures("host_path")
def test_what_could_not_be_refused_holds_up_nobody(
    tmp_path: Path, passed: socket.socket, lingering: socket.socket
) -> None:
    """It was passed before the daemon had the socket; where the kernel cannot refuse it comes at any time."""
    refused = etf.frame((Atom("refused"), Atom("bad_hello")))
    with (
        socket.socket(socket.AF_UNIX) as peer,
        socket.create_server(("127.0.0.1", 0)) as tcp,
    ):
        peer.settimeout(30)
        peer.connect(passed.getsockname())
        peer.sendmsg([b"\0"], rights(lingering.fileno()))
        peer.sendall(b"\0\0\2no")
        os.close(lingering.detach())
        with running_daemon(tmp_path, ECHO, passed=[passed.fileno(), tcp.fileno()]) as running:
            heard = b""
            while not heard.endswith(refused):
                heard += peer.recv(4096)
            with connect(running.tcp_url, "echo") as client:
                assert client.call("echo", 1, timeout=30) == (Atom("ok"), 1)
