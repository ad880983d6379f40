# SPDX-License-Identifier: MIT
"""A real daemon with real hosts, from outside: instances, crashes, refusals, handshakes, the command line."""

from __future__ import annotations

import os
import select
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Self

import pytest

from gendriverd import etf
from gendriverd.client import Failed, Refused, connect
from gendriverd.etf import Atom
from running_daemon import RunningDaemon, configuration

OK = Atom("ok")
Daemon = Callable[..., RunningDaemon]


class Raw:
    """A client that says what the test wants, byte by byte."""

    def __init__(self, url: str) -> None:
        if url.startswith("unix:"):
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(30)
            self.sock.connect(url.removeprefix("unix:"))
        else:
            host, port = url.removeprefix("tcp://").rsplit(":", 1)
            self.sock = socket.create_connection((host, int(port)), 30)
        self._buffer = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def receive(self) -> object:
        """The next term; None at the end."""
        while len(self._buffer) < 4 or len(self._buffer) - 4 < struct.unpack(">I", self._buffer[:4])[0]:
            data = self.sock.recv(65536)
            if not data:
                return None
            self._buffer += data
        end = 4 + struct.unpack(">I", self._buffer[:4])[0]
        frame, self._buffer = self._buffer[4:end], self._buffer[end:]
        return etf.decode(frame)

    def cut_off(self) -> bool:
        """The stream ended in the middle of a frame."""
        return bool(self._buffer)


def hello(instance: bytes, version: int = 1) -> bytes:
    return etf.frame((Atom("hello"), version, instance, {}))


def run(*arguments: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gendriverd", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **env},
    )


def test_several_instances_of_one_driver_have_their_own_settings(daemon: Daemon) -> None:
    running = daemon(
        {
            "a": {"driver": driver_path("config"), "settings": {"who": "anna", "list": [1, 2], "t": {"k": True}}},
            "b": {"driver": driver_path("config"), "settings": {"who": "bert"}},
        }
    )
    with connect(running.tcp_url, "a") as a, connect(running.unix_url, "b") as b:
        assert a.call(1, b"who") == (OK, b"anna")
        assert b.call(1, b"who") == (OK, b"bert")
        assert [a.call(1, key) for key in (b"list.0", b"list.1", b"t.k")] == [(OK, b"1"), (OK, b"2"), (OK, b"true")]


def driver_path(name: str) -> str:
    root = Path(__file__).resolve().parent.parent.parent
    return str(Path(os.environ.get("GENDRIVERD_DRIVERS") or root / "build/drivers") / "test" / f"{name}.so")


def test_a_crash_ends_one_host_and_it_comes_back(daemon: Daemon) -> None:
    running = daemon({"sum": {"driver": "sum.so"}, "echo": {"driver": "echo.so"}})
    with connect(running.tcp_url, "sum") as crashing, connect(running.tcp_url, "echo") as neighbour:
        for generation in range(2, 5):
            assert crashing.call("sum", [1, 2]) == (OK, 3.0)
            os.kill(running.host_pid("sum"), signal.SIGKILL)
            running.wait_event("instance_ready", instance="sum", generation=generation)
            assert neighbour.call("echo", generation) == (OK, generation)
    exits = [e for e in running.events if e["event"] == "host_exited" and e["instance"] == "sum"]
    assert [e["signal"] for e in exits] == ["SIGKILL"] * 3


def test_a_driver_that_kills_its_host_fails_only_its_callers(daemon: Daemon) -> None:
    running = daemon({"crash": {"driver": driver_path("crash")}, "sum": {"driver": "sum.so"}})
    with connect(running.tcp_url, "crash") as client, connect(running.tcp_url, "sum") as neighbour:
        with pytest.raises(Failed) as failed:
            client.call("segv")
        assert failed.value.reason == "crashed"
        assert neighbour.call("sum", [1]) == (OK, 1.0)
    running.wait_event("host_exited", instance="crash")


def test_a_driver_that_cannot_be_used_is_fatal_with_its_reason_and_the_others_serve(daemon: Daemon) -> None:
    running = daemon({"bad": {"driver": driver_path("refuse")}, "sum": {"driver": "sum.so"}}, expect_ready=["sum"])
    assert "the licence file expired in 1999" in running.wait_event("instance_failed", instance="bad")["reason"]
    with pytest.raises(Refused) as refused:
        connect(running.tcp_url, "bad")
    assert refused.value.reason == "unavailable"
    with connect(running.tcp_url, "sum") as client:
        assert client.call("sum", [1]) == (OK, 1.0)


def test_a_driver_that_crashes_at_start_is_tried_again_with_backoff(daemon: Daemon) -> None:
    running = daemon({"bad": {"driver": driver_path("initcrash")}}, expect_ready=[])
    running.wait_until("three starts", lambda events: sum(e["event"] == "host_exited" for e in events) >= 3)


def test_an_instance_that_dies_too_often_is_given_up_and_its_clients_are_refused_at_once(daemon: Daemon) -> None:
    restart = {"first": "1ms", "max": "1ms", "budget": 3, "budget_time": "10m"}
    running = daemon({"bad": {"driver": driver_path("initcrash"), "restart": restart}}, expect_ready=[])
    assert "died 3 times in 600 s" in running.wait_event("instance_failed", instance="bad")["reason"]
    with pytest.raises(Refused, match="unavailable"):
        connect(running.tcp_url, "bad")
    assert len([event for event in running.events if event["event"] == "host_started"]) == 3


def test_requests_pipelined_behind_the_hello_stay_in_the_socket_for_the_host(daemon: Daemon) -> None:
    running = daemon({"echo": {"driver": "echo.so"}})
    with Raw(running.tcp_url) as raw:
        calls = b"".join(etf.frame((Atom("call"), i, 1, i)) for i in range(100))
        raw.sock.sendall(hello(b"echo") + calls)
        assert raw.receive()[0] == "gen_driver"  # type: ignore[index]
        assert raw.receive()[0] == "welcome"  # type: ignore[index]
        replies = [raw.receive() for _ in range(100)]
    assert sorted(replies, key=lambda r: r[1]) == [(Atom("reply"), i, (OK, i)) for i in range(100)]  # type: ignore[index]


def test_a_hello_in_single_bytes_is_a_hello(daemon: Daemon) -> None:
    running = daemon({"echo": {"driver": "echo.so"}})
    with Raw(running.tcp_url) as raw:
        for byte in hello(b"echo"):
            raw.sock.sendall(bytes([byte]))
        raw.receive()
        assert raw.receive()[0] == "welcome"  # type: ignore[index]


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (hello(b"nobody"), "unknown_instance"),
        (hello(b"echo", 2), "bad_version"),
        (etf.frame(Atom("hello")), "bad_hello"),
        (etf.frame((Atom("hello"), 1, [1], {})), "bad_hello"),
        (b"\0\0\0\2\x83\0", "bad_hello"),
        (b"\0\0\0\x0e\x83P" + bytes(12), "bad_hello"),
        (b"\xff\xff\xff\xff", "bad_hello"),
        (b"GET / HTTP/1.1\r\n\r\n", "bad_hello"),
    ],
)
def test_a_bad_hello_is_refused_by_name_and_nobody_else_notices(daemon: Daemon, said: bytes, reason: str) -> None:
    running = daemon({"echo": {"driver": "echo.so"}})
    with Raw(running.tcp_url) as raw:
        raw.sock.sendall(said)
        assert raw.receive()[0] == "gen_driver"  # type: ignore[index]
        assert raw.receive() == (Atom("refused"), Atom(reason))
        assert raw.receive() is None
    with connect(running.tcp_url, "echo") as client:
        assert client.call("echo", 1) == (OK, 1)


def test_a_silent_client_is_refused_when_its_time_is_over(daemon: Daemon) -> None:
    running = daemon({"echo": {"driver": "echo.so"}}, settings={"handshake_timeout": "50ms"})
    with Raw(running.tcp_url) as raw:
        raw.receive()
        assert raw.receive() == (Atom("refused"), Atom("bad_hello"))


def test_more_handshakes_than_allowed_are_busy(daemon: Daemon) -> None:
    settings = {"handshake_pending": 2, "handshake_drop_from": 1}
    running = daemon({"echo": {"driver": "echo.so"}}, settings=settings)
    with Raw(running.tcp_url) as a, Raw(running.tcp_url) as b:
        a.receive()
        b.receive()
        with Raw(running.tcp_url) as third:
            first = third.receive()
            assert (first if first[0] == "refused" else third.receive()) == (Atom("refused"), Atom("busy"))  # type: ignore[index]
        a.sock.sendall(hello(b"echo"))
        assert a.receive()[0] == "welcome"  # type: ignore[index]


def test_sigterm_answers_what_runs_and_ends_with_0(daemon: Daemon, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    running = daemon({"gate": {"driver": driver_path("gate"), "settings": {"gate": str(gate)}}})
    with Raw(running.tcp_url) as raw:
        raw.sock.sendall(hello(b"gate") + etf.frame((Atom("call"), 1, 1)))
        raw.receive()
        raw.receive()
        with gate.open("wb", buffering=0) as opened:  # the call is there
            running.terminate()
            assert raw.receive() == (Atom("goodbye"), Atom("draining"))
            opened.write(b"x")
        assert raw.receive() == (Atom("reply"), 1, OK)
        raw.sock.shutdown(socket.SHUT_WR)
        assert raw.receive() is None
    assert running.process.wait(30) == 0


@pytest.mark.usefixtures("host_path")
def test_a_killed_daemon_leaves_no_host(tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text(
        configuration(
            {"listen": [f"unix:{tmp_path}/s"], "admin": "", "log_format": "json", "log_level": "debug"},
            {"gate": {"driver": driver_path("gate"), "settings": {"gate": f"{tmp_path}/gate"}}},
        )
    )
    os.mkfifo(tmp_path / "gate")
    running = RunningDaemon([sys.executable, "-m", "gendriverd", "serve", "--config", str(config)], os.environ)
    running.wait_event("instance_ready", instance="gate")
    running.wait_event("listening")
    host = os.pidfd_open(running.host_pid("gate"))
    with connect(f"unix:{tmp_path}/s", "gate") as client:
        client.cast(1)
        with (tmp_path / "gate").open("wb"):  # a worker is inside the driver
            running.process.kill()
            running.process.wait(30)
            assert select.select([host], [], [], 30)[0], "the host outlived the daemon"
    os.close(host)


def test_the_drivers_own_log_lines_carry_instance_and_request(daemon: Daemon) -> None:
    running = daemon({"logs": {"driver": driver_path("logs")}})
    with connect(running.tcp_url, "logs") as client:
        client.call(1)
    event = running.wait_event("driver_log", instance="logs", level="error")
    assert {"worker", "command", "request", "message"} <= set(event)


def test_a_port_in_use_is_one_sentence_and_69(tmp_path: Path, free_tcp_port: int) -> None:
    config = tmp_path / "c.toml"
    config.write_text(f'[daemon]\nlisten = ["tcp://127.0.0.1:{free_tcp_port}"]\n[instances.echo]\ndriver = "echo.so"\n')
    with socket.create_server(("127.0.0.1", free_tcp_port)):
        done = run("serve", "--config", config, "--log-format", "json")
    assert done.returncode == 69
    assert f"tcp://127.0.0.1:{free_tcp_port}" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_an_address_beyond_this_machine_needs_insecure(tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text('[daemon]\nlisten = ["tcp://0.0.0.0:0"]\n[instances.echo]\ndriver = "echo.so"\n')
    done = run("serve", "--config", config)
    assert done.returncode == 78
    assert "insecure = true" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.usefixtures("host_path")
def test_check_names_every_driver_that_cannot_run(tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text(
        configuration(
            {},
            {
                "good": {"driver": "echo.so"},
                "bad": {"driver": driver_path("nosymbols")},
                "gone": {"driver": "/no/such.so"},
                "crash": {"driver": driver_path("initcrash")},
            },
        )
    )
    done = run("check", "--config", config)
    assert done.returncode == 78
    assert "[instances.good]" in done.stdout
    for name, why in (("bad", "neither a GD_DRIVER table"), ("gone", "/no/such.so"), ("crash", "SIGABRT|died|134|1")):
        line = next(line for line in done.stderr.splitlines() if f"[instances.{name}]" in line)
        assert any(part in line for part in why.split("|"))
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["sum", "sum", "[1,2,3,4]"], 0, "{ok,10.0}"),
        (["sum", "1", "[200]"], 0, "{ok,200.0}"),
        (["echo", "echo", '{a,"b",<<"c">>,#{d => 1.5}}'], 0, '{ok,{a,"b",<<"c">>,#{d => 1.5}}}'),
        (["sum", "sum", "oops"], 1, "{error,type}"),
        (["sum", "sum", "[1,"], 65, "column 4"),
        (["sum", "frobnicate"], 2, "no command 'frobnicate'; it has: ping, stats, sum"),
        (["nobody", "1"], 69, "unknown_instance"),
        (["sum", "-1"], 70, "bad_request"),
        (["--cast", "sum", "ping"], 0, ""),
        (["--timeout", "0", "sum", "ping"], 75, "expired"),
    ],
)
def test_call_from_the_command_line(daemon: Daemon, arguments: list[str], code: int, says: str) -> None:
    running = daemon({"sum": {"driver": "sum.so"}, "echo": {"driver": "echo.so"}})
    done = run("call", "--connect", running.unix_url, *arguments)
    assert (done.returncode, says in done.stdout + done.stderr) == (code, True), done
    assert "Traceback" not in done.stderr


def test_call_says_which_address_does_not_answer(tmp_path: Path) -> None:
    done = run("call", "--connect", f"unix:{tmp_path}/none.sock", "sum", "1")
    assert done.returncode == 69
    assert f"unix:{tmp_path}/none.sock: No such file or directory" in done.stderr


def test_cflags_and_version_are_for_scripts() -> None:
    flags = run("cflags")
    assert flags.returncode == 0
    include = next(flag for flag in flags.stdout.split() if flag.startswith("-I"))
    assert (Path(include[2:]) / "gen_driver.h").exists()
    version = run("--version")
    assert version.returncode == 0
    assert "gendriverd 0.1.0" in version.stdout
