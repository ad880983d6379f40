# SPDX-License-Identifier: MIT
"""A front that lies, floods or hangs: it is put down, its words are not believed, and the next one serves."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, cast

import pytest
import trio

from gendriverd import etf
from gendriverd import front as front_module
from gendriverd.channel import make_pair
from gendriverd.etf import Atom
from gendriverd.front import FrontKeeper
from gendriverd.launch import Host, launch_front, start_process
from gendriverd.listener import open_tls
from gendriverd.log import Log
from gendriverd.quantities import Address
from gendriverd.schema import TlsConfig
from gendriverd.sources import Epoch
from gendriverd.tls_files import Material, read_material
from passed_sockets import lingering, needs_refusal, rights
from running_daemon import open_files
from tls_peer import House, Peer

FAKE = Path(__file__).with_name("fake_front.py")
CLIENT = etf.encode((Atom("client"), b"127.0.0.1", 5, Atom("none")))
How = str | Callable[[], Host] | None  # of fake_front.py's ways

__all__ = ["lingering"]


class Events:
    """A log that can be waited for."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []
        self._changed = trio.Event()

    def __getattr__(self, level: str) -> Any:
        def log(*event_last: Any, **about: Any) -> None:
            *_, event = event_last
            self.seen.append({"level": level, "event": event, **about})
            self._changed.set()
            self._changed = trio.Event()

        return log

    def of(self, event: str) -> list[dict[str, Any]]:
        return [each for each in self.seen if each["event"] == event]

    async def wait(self, event: str, count: int = 1) -> dict[str, Any]:
        with trio.fail_after(30):
            while len(self.of(event)) < count:
                await self._changed.wait()
        return self.of(event)[count - 1]


class Keeping:
    """A keeper whose first front misbehaves, if it is told how, and whose next is the real one."""

    def __init__(self, house: House, how: How, port: int) -> None:
        self.events = Events()
        self.passed: list[bool] = []  # a descriptor, to the front
        self.clients: list[tuple[Address, tuple[str, ...] | None]] = []
        self.epochs: list[Epoch] = []
        config = TlsConfig(listen=[f"tcp://127.0.0.1:{port}"], **house.settings())  # type: ignore[arg-type]
        self.config = config
        self.listeners = open_tls(config, [], 120.0)
        self._how: list[str | Callable[[], Host]] = [] if how is None else [how]
        log = cast(Log, self.events)
        self.keeper = FrontKeeper(self.material(), self.listeners, self._serve, log, self._launch)

    def material(self) -> Material:
        found = read_material(self.config, Path(), {})
        assert found is not None
        return found

    def _launch(self) -> Host:
        how = self._how.pop() if self._how else launch_front
        return start_process(Path(sys.executable), ["-I", str(FAKE), how], {}) if isinstance(how, str) else how()

    async def _serve(
        self, client: trio.socket.SocketType, address: Address, names: tuple[str, ...] | None, epoch: Epoch
    ) -> None:
        with client:
            self.clients.append((address, names))
            self.epochs.append(epoch)
            try:
                await client.sendmsg([b"hello"], rights(0))
                self.passed.append(True)
            except PermissionError:
                self.passed.append(False)
                await client.send(b"hello")
            client.shutdown(socket.SHUT_WR)
            with suppress(ConnectionResetError):
                while await client.recv(65536):
                    pass


@asynccontextmanager
async def keeping(house: House, how: How, port: int) -> AsyncIterator[Keeping]:
    kept = Keeping(house, how, port)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(kept.keeper.run, nursery)
        yield kept
        await kept.keeper.drain()
        await kept.keeper.stop()


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path / "certificates")


@pytest.mark.parametrize(
    ("how", "charge"),
    [
        ("garbage", "said what is no message: a message that is no term"),
        ("huge", "said what is no message: a message of more than 65536 bytes"),
        ("word_of_a_host", "said what is no message: no message of a front"),
        ("no_socket", "said what is no message: a client without a socket"),
        ("two_sockets", "said what is no message: a message with a descriptor too many"),
        ("a_file", "said what is no message: a client whose descriptor is no socket"),
        ("a_tcp_socket", "said what is no message: a client whose socket is no unix stream socket"),
        ("a_loose_socket", "said what is no message: a client whose socket is connected to nothing"),
        ("no_address", "said what is no message: a client without an IP address"),
        ("long_names", "said what is no message: a name that is no text of at most 255 bytes"),
        ("forged_names", "said what is no message: a name with what cannot be printed"),
        ("renewed_unasked", "said what is no message: renewed, which it was not asked to"),
        ("ready_twice", "said what is no message: ready, a second time"),
        ("close_channel", "closed its channel"),
        ("silent", "not ready after 0.2 s"),
        ("deaf", "its loop did not answer for 0.3 s"),
        ("flood", "exit code 3"),
        ("shut_listener", "exit code 3"),
    ],
)
async def test_it_is_put_down_and_the_next_one_serves(
    house: House, how: str, charge: str, free_tcp_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if how == "silent":
        monkeypatch.setattr(front_module, "START_TIMEOUT", 0.2)
    if how == "deaf":
        monkeypatch.setattr(front_module, "HEARTBEAT", 0.3)
    before = len(open_files(os.getpid()))
    async with keeping(house, how, free_tcp_port) as kept:
        backoff = await kept.events.wait("tls_front_backoff")
        assert backoff["reason"].startswith(charge)
        assert kept.clients == []
        monkeypatch.undo()
        await kept.events.wait("tls_ready", 1 if how == "silent" else 2)
        assert await trio.to_thread.run_sync(hello, kept.listeners[0].address, house) == b"hello"
        assert [names for _, names in kept.clients] == [None]
    assert len(kept.events.of("tls_refused")) <= 250
    assert len(open_files(os.getpid())) <= before


async def test_a_front_that_keeps_an_old_certificate_is_put_down_and_whom_it_hands_over_is_not_let_in(
    house: House, free_tcp_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(front_module, "RENEW_TIMEOUT", 0.5)
    async with keeping(house, "keeps_the_old", free_tcp_port) as kept:
        await kept.events.wait("tls_ready")
        house.authority.issue("localhost", hosts=["localhost", "127.0.0.1"])
        await kept.keeper.renew(kept.material())
        assert all(epoch.over for epoch in kept.epochs)
        backoff = await kept.events.wait("tls_front_backoff")
        assert backoff["reason"] == "has not taken up the new certificate"
        assert all(epoch.over for epoch in kept.epochs)
        assert kept.events.of("tls_renewed") == []
        await kept.events.wait("tls_ready", 2)
        assert await trio.to_thread.run_sync(hello, kept.listeners[0].address, house) == b"hello"
        assert [epoch.over for epoch in kept.epochs] == [True, False]


async def test_whom_a_front_has_handed_over_before_it_died_is_not_let_in(house: House, free_tcp_port: int) -> None:
    async with keeping(house, None, free_tcp_port) as kept:
        front = await kept.events.wait("tls_ready")
        assert await trio.to_thread.run_sync(hello, kept.listeners[0].address, house) == b"hello"
        assert [epoch.over for epoch in kept.epochs] == [False]
        os.kill(front["pid"], signal.SIGKILL)
        await kept.events.wait("tls_front_backoff")
        assert [epoch.over for epoch in kept.epochs] == [True]


async def test_a_front_that_answers_is_left_alone(
    house: House, free_tcp_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(front_module, "HEARTBEAT", 1.0)
    async with keeping(house, None, free_tcp_port) as kept:
        await kept.events.wait("tls_front_heartbeat", 3)
        monkeypatch.undo()
    assert len(kept.events.of("tls_front_started")) == 1


@pytest.mark.parametrize(
    ("message", "charge"),
    [
        (CLIENT, "a client whose socket is no unix stream socket"),
        (etf.encode((Atom("adopted"), 1)), "no message of a front"),
        (b"garbage", "a message that is no term"),
    ],
    ids=["a_client", "a_word_of_a_host", "garbage"],
)
async def test_what_it_passes_is_closed_without_waiting(
    house: House, lingering: socket.socket, message: bytes, charge: str, free_tcp_port: int
) -> None:
    ours, theirs = make_pair()
    theirs.sendmsg([message], rights(lingering.fileno()))
    os.close(lingering.detach())  # the last is the message's

    def front_that_has_said_it() -> Host:
        host = start_process(Path("/bin/sleep"), ["600"], {})
        host.channel.close()
        host.channel = ours
        return host

    with theirs:
        async with keeping(house, front_that_has_said_it, free_tcp_port) as kept:
            assert charge in (await kept.events.wait("tls_front_backoff"))["reason"]


@needs_refusal
async def test_it_passes_no_descriptors_by_a_client_socket(house: House, free_tcp_port: int) -> None:
    async with keeping(house, "pass_on", free_tcp_port) as kept:
        assert (await kept.events.wait("tls_front_backoff"))["reason"] == "exit code 4"


@needs_refusal
async def test_nor_does_a_host_pass_it_any(house: House, free_tcp_port: int) -> None:
    async with keeping(house, None, free_tcp_port) as kept:
        await kept.events.wait("tls_ready")
        await trio.to_thread.run_sync(hello, kept.listeners[0].address, house)
        assert kept.passed == [False]


def hello(url: str, house: House) -> bytes:
    with Peer(url, house.trust()) as peer:
        heard = peer.tls.recv(100)
        assert peer.tls.recv(100) == b""
        return heard
