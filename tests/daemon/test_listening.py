# SPDX-License-Identifier: MIT
"""Where the daemon listens, what it says when it cannot, and what it tells systemd."""

from __future__ import annotations

import os
import re
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import cast

import pytest
import trio

from gendriverd import etf
from gendriverd.client import connect
from gendriverd.errors import ListenError
from gendriverd.etf import Atom
from gendriverd.listener import open_listeners
from gendriverd.liveness import Part
from gendriverd.log import Log, get_log
from gendriverd.schema import DaemonConfig
from gendriverd.sources import Peer
from running_daemon import RunningDaemon, configuration, open_files
from test_hostile_front import Events

Start = Callable[..., RunningDaemon]

LIKE_SYSTEMD = """import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""


async def listen(*urls: str, **settings: object) -> list[str]:
    """Open and close; the addresses."""
    config = DaemonConfig(listen=urls, **settings)  # type: ignore[arg-type]
    listeners = open_listeners(config, [])
    for listener in listeners:
        listener.close()
    return [listener.address for listener in listeners]


def test_the_real_port_is_told_when_any_was_asked_for(daemon: Start) -> None:
    running = daemon({"echo": {"driver": "echo.so"}})
    assert not running.tcp_url.endswith(":0")


def test_a_unix_socket_has_the_permissions_that_were_set(daemon: Start) -> None:
    running = daemon({"echo": {"driver": "echo.so"}}, settings={"unix_mode": "0606"})
    path = Path(running.unix_url.removeprefix("unix:"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o606
    running.stop()
    assert not path.exists()


async def test_a_dead_daemons_socket_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()
    assert path.exists()
    assert await listen(f"unix:{path}") == [f"unix:{path}"]


async def test_a_living_daemons_socket_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as alive:
        alive.bind(str(path))
        alive.listen()
        with pytest.raises(ListenError, match="another process answers there"):
            await listen(f"unix:{path}")
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))


async def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_text("precious")
    with pytest.raises(ListenError, match="no socket"):
        await listen(f"unix:{path}")
    assert path.read_text() == "precious"


async def test_a_missing_directory_is_made_but_not_a_missing_tree(tmp_path: Path) -> None:
    assert await listen(f"unix:{tmp_path}/new/s")
    with pytest.raises(ListenError, match="neither it nor"):
        await listen(f"unix:{tmp_path}/no/new/s")


async def test_no_permission_is_said_with_exit_code_77() -> None:
    with pytest.raises(ListenError) as denied:
        await listen("unix:/proc/s")
    assert denied.value.exit_code in {69, 77}


async def test_when_one_address_fails_none_stays_open(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ListenError):
        await listen(f"unix:{tmp_path}/first", f"unix:{tmp_path}/file")
    assert not (tmp_path / "first").exists()


@pytest.mark.parametrize("url", ["tcp://0.0.0.0:0", "tcp://[::]:0"])
async def test_other_machines_are_let_in_only_on_purpose(url: str) -> None:
    with pytest.raises(ListenError, match="insecure = true"):
        await listen(url)


async def test_insecure_opens_it_to_other_machines() -> None:
    assert (await listen("tcp://0.0.0.0:0", insecure=True))[0].startswith("tcp://0.0.0.0:")


def test_a_refused_client_with_unread_requests_still_gets_the_reason(daemon: Start) -> None:
    running = daemon({"echo": {"driver": "echo.so"}})
    host, port = running.tcp_url.removeprefix("tcp://").split(":")
    for _ in range(20):
        with socket.create_connection((host, int(port)), 30) as client:
            client.sendall(etf.frame((Atom("hello"), 1, b"nobody", {})) + b"x" * 100_000)
            client.shutdown(socket.SHUT_WR)
            heard = b"".join(iter(lambda: client.recv(65536), b""))
        assert heard.endswith(etf.frame((Atom("refused"), Atom("unknown_instance"))))
    assert running.wait_event("client_refused")["instance"] == "nobody"


OPTIONS = ("TCP_NODELAY", "TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT")


async def test_a_socket_that_accepts_nobody_any_more_is_tried_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    listener = open_listeners(DaemonConfig(listen=["tcp://127.0.0.1:0"]), [])[0]  # type: ignore[arg-type]
    accept, tried, lines = listener._socket.accept, 0, Events()

    async def counted() -> tuple[trio.socket.SocketType, object]:
        nonlocal tried
        tried += 1
        return await accept()

    async def serve(client: trio.socket.SocketType, _peer: Peer) -> None:
        client.close()

    monkeypatch.setattr(listener._socket, "accept", counted)
    listener._socket.shutdown(socket.SHUT_RDWR)  # as whoever has it too may do
    part = Part("accept", 1)
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listener.accept_forever, serve, nursery, cast(Log, lines), part)
            await lines.wait("accept_failed", 3)
            nursery.cancel_scope.cancel()
    listener.close()
    assert tried == 3
    assert not part.beaten.is_set()  # the watchdog hears of it


@pytest.mark.parametrize(
    ("keepalive", "told"),
    [
        ("2m", (1, 60, 15, 4, 120_000)),
        ("2s", (1, 1, 1, 4, 2_000)),
        ("12h", (1, 21_600, 5_400, 4, 43_200_000)),
    ],
)
async def test_a_peer_that_is_gone_is_looked_for(keepalive: str, told: tuple[int, ...]) -> None:
    """The options are the socket's, and so the host's: it is the same socket."""
    config = DaemonConfig.model_validate({"listen": ["tcp://127.0.0.1:0"], "keepalive": keepalive})
    (listener,) = open_listeners(config, [])
    found: list[tuple[int, ...]] = []

    async def serve(client: trio.socket.SocketType, _: Peer) -> None:
        with client:
            assert client.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            found.append(tuple(client.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in OPTIONS))
        served.set()

    served = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listener.accept_forever, serve, nursery, get_log(), Part("accept", 1))
        host, port = listener.address.removeprefix("tcp://").split(":")
        with socket.create_connection((host, int(port)), 30):
            await served.wait()
        nursery.cancel_scope.cancel()
    listener.close()
    assert found == [told]


def test_a_second_signal_does_not_wait_for_the_drain(daemon: Start, tmp_path: Path) -> None:
    running = daemon({"echo": {"driver": "echo.so"}}, settings={"drain_timeout": "10m", "stop_timeout": "10m"})
    running.may_be_forced = True
    with connect(running.tcp_url, "echo"):  # it does not read, so it does not leave when it is drained
        running.terminate()
        running.wait_event("stopping")
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(30) == 0
    running.wait_event("stopping_forced")


def test_systemd_hears_ready_when_all_is_settled_then_life_signs_then_stopping(tmp_path: Path, daemon: Start) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        address_of_systemd = "\0gendriverd-test-" + os.urandom(8).hex()
        systemd.bind(address_of_systemd)
        systemd.settimeout(30)
        running = daemon(
            {"echo": {"driver": "echo.so"}, "bad": {"driver": str(tmp_path / "missing.so")}},
            env={"NOTIFY_SOCKET": "@" + address_of_systemd[1:], "WATCHDOG_USEC": "20000"},
            expect_ready=["echo"],
        )
        heard = [systemd.recv(4096).decode()]
        while not heard[-1].startswith("READY=1") or "WATCHDOG=1" not in heard:
            heard.append(systemd.recv(4096).decode())
        assert [e for e in running.events if e["event"] in {"instance_ready", "instance_failed"}]
        assert heard[-1] != "READY=1\nSTATUS="
        ready = next(each for each in heard if each.startswith("READY=1"))
        assert ready.endswith("STATUS=1 of 2 instances running, bad fatal")
        running.terminate()
        while not systemd.recv(4096).startswith(b"STOPPING=1"):
            pass


# A daemon of which one task of those that must go round never does.
STUCK = """import sys
import trio
import gendriverd.{module} as module
from gendriverd.cli import main
sound = module.{cls}.{task}
async def task(self, *arguments, **named):
    if not {condition}:
        return await sound(self, *arguments, **named)
    if "task_status" in named:
        named["task_status"].started()
    await trio.sleep_forever()
module.{cls}.{task} = task
sys.exit(main())
"""
PARTS = {
    "accept tcp:": ("listener", "Listener", "accept_forever", "self.address.startswith('tcp:')"),
    "accept unix:": ("listener", "Listener", "accept_forever", "self.address.endswith('/gendriverd.sock')"),
    "accept admin": ("listener", "Listener", "accept_forever", "self.address.endswith('/admin.sock')"),
    "supervisor": ("supervisor", "Supervisor", "run", "True"),
}


@pytest.mark.parametrize("part", PARTS)
def test_systemd_hears_no_life_sign_while_one_part_is_stuck(tmp_path: Path, part: str) -> None:
    module, cls, task, condition = PARTS[part]
    path, notify = tmp_path / "c.toml", "\0gendriverd-test-" + os.urandom(8).hex()
    with (
        tempfile.TemporaryDirectory(prefix="gendriverd-") as short,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd,
    ):
        systemd.bind(notify)
        own = {
            "listen": ["tcp://127.0.0.1:0", f"unix:{short}/gendriverd.sock"],
            "admin": f"{short}/admin.sock",
            "log_format": "json",
        }
        path.write_text(configuration(own, {}))
        program = STUCK.format(module=module, cls=cls, task=task, condition=condition)
        environ = {**os.environ, "NOTIFY_SOCKET": "@" + notify[1:], "WATCHDOG_USEC": "2000000"}
        running = RunningDaemon([sys.executable, "-c", program, "serve", "--config", str(path)], environ)
        try:
            stuck = running.wait_event("parts_stuck")["parts"]
            running.wait_event("ready")
        finally:
            running.kill()
        systemd.setblocking(False)
        heard = []
        with suppress(BlockingIOError):
            while True:
                heard.append(systemd.recv(4096).decode())
    assert [name.startswith(part) or name.endswith("/admin.sock") for name in stuck] == [True]
    assert [each.split("\n")[0] for each in heard] == ["READY=1"]


def test_sockets_passed_by_systemd_stand_instead_of_listen(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text(
        configuration(
            {"listen": ["unix:/nowhere/at/all"], "admin": "", "log_format": "json"}, {"e": {"driver": "echo.so"}}
        )
    )
    with socket.create_server(("127.0.0.1", 0)) as passed:
        port = passed.getsockname()[1]
        command = [
            sys.executable,
            "-c",
            LIKE_SYSTEMD,
            str(passed.fileno()),
            "-m",
            "gendriverd",
            "serve",
            "--config",
            str(path),
        ]
        process = subprocess.Popen(command, pass_fds=[passed.fileno()], stderr=subprocess.PIPE, text=True)
    try:
        with connect(f"tcp://127.0.0.1:{port}", "e", connect_timeout=30) as client:
            assert client.call(1, 5) == (Atom("ok"), 5)
    finally:
        process.terminate()
        _, log = process.communicate(timeout=30)
    assert process.returncode == 0
    assert f'"address": "tcp://127.0.0.1:{port}"' in log


def test_a_client_in_its_handshake_when_the_daemon_stops_hears_draining(daemon: Start) -> None:
    running = daemon({"echo": {"driver": "echo.so"}})
    host, port = running.tcp_url.removeprefix("tcp://").split(":")
    with socket.create_connection((host, int(port)), 30) as client:
        assert client.recv(4)
        running.terminate()
        assert b"".join(iter(lambda: client.recv(65536), b"")).endswith(etf.frame((Atom("refused"), Atom("draining"))))
    assert running.process.wait(30) == 0


def test_a_host_has_a_session_of_its_own_no_input_and_none_of_the_daemons_secrets(daemon: Start) -> None:
    running = daemon({"echo": {"driver": "echo.so"}}, env={"DATABASE_PASSWORD": "hunter2", "LC_CTYPE": "C.UTF-8"})
    pid = running.host_pid("echo")
    environ = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    assert b"LC_CTYPE=C.UTF-8" in environ
    assert not [each for each in environ if each.startswith((b"DATABASE", b"NOTIFY", b"LISTEN"))]
    assert os.getsid(pid) == pid
    assert str(Path(f"/proc/{pid}/fd/0").readlink()) == "/dev/null"


def test_a_host_inherits_no_listening_socket(daemon: Start) -> None:
    running = daemon({"echo": {"driver": "echo.so"}})

    def sockets(pid: int) -> set[str]:
        return {target for target in open_files(pid).values() if target.startswith("socket:")}

    assert not sockets(running.pid) & sockets(running.host_pid("echo"))


@pytest.mark.usefixtures("host_path")
def test_the_daemon_takes_the_descriptors_that_it_may_have(daemon: Start) -> None:
    running = daemon({"echo": {"driver": "echo.so"}}, under=["prlimit", "--nofile=100:3000"])
    found = {pid: Path(f"/proc/{pid}/limits").read_text() for pid in (running.pid, running.host_pid("echo"))}
    assert re.search(r"Max open files +3000 +3000 ", found[running.pid])
    # Half of them, as it runs as the same user here: descriptors on their way are counted by user.
    assert re.search(r"Max open files +1500 +1500 ", found[running.host_pid("echo")])
