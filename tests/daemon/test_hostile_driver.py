# SPDX-License-Identifier: MIT
"""Drivers that do their worst, under `strict`: what each attempts is refused, or costs its own host and nothing else.

Each way is tried by a request and in an ELF constructor, by hosts that share the daemon's user, and by hosts of a user
of their own. All that the sandbox must keep them from is left open by the files' permissions.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from gendriverd.client import ClientError, connect
from gendriverd.etf import Atom
from running_daemon import RunningDaemon, running_daemon

OK = Atom("ok")
NOBODY = 65534
DEADLINE = 60.0
ROOT = os.geteuid() == 0

REFUSED = ["read_secrets", "write_outside", "fill_the_disk", "connect_out", "trace_the_daemon", "signal_others"]
REFUSED += ["fork_bomb", "leave_a_child", "open_many", "set_limits", "ask_the_kernel"]
HARMLESS = ["change_directory", "change_locale"]
DEADLY = ["eat_memory", "scribble", "flood_channel", "forge_messages", "close_all", "be_deaf", "stop_itself"]

pytestmark = pytest.mark.skipif("GENDRIVERD_SANITIZER" in os.environ, reason="sanitizers need what strict refuses")


@dataclass
class Scene:
    """A daemon with a hostile instance, an innocent one, and what must stay as it is."""

    running: RunningDaemon
    hostile: str
    secret: Path
    outside: Path
    listener: socket.socket
    neighbour: int

    def unharmed(self) -> None:
        assert self.running.process.poll() is None
        with connect(self.running.tcp_url, "echo") as client:
            assert client.call("echo", 1) == (OK, 1)
        assert self.running.host_pid("echo") == self.neighbour
        assert (self.secret.read_text(), self.secret.stat().st_mode & 0o7777) == ("secret", 0o666)
        assert list(self.outside.iterdir()) == []
        with pytest.raises(BlockingIOError):
            self.listener.accept()

    def attempts(self, command: str) -> dict[str, str]:
        with connect(self.running.tcp_url, self.hostile) as client:
            said = client.call(command)
        return dict(attempt.split("=") for attempt in said.decode().split())

    def serves_again(self) -> None:
        end = time.monotonic() + DEADLINE
        while time.monotonic() < end:
            with suppress(ClientError), connect(self.running.tcp_url, self.hostile) as client:
                if client.call("half") == 0.5:
                    return
        pytest.fail(f"{self.hostile} does not serve any more:\n{self.running.log()}")


def daemons_user() -> int | None:
    """Somebody who is nobody, where the daemon can run as that: only then is what is refused not refused by root's
    capabilities, which the daemon has.
    """
    command = [
        "setpriv",
        f"--reuid={NOBODY}",
        f"--regid={NOBODY}",
        "--clear-groups",
        sys.executable,
        "-m",
        "gendriverd",
    ]
    if ROOT and subprocess.run([*command, "--version"], capture_output=True, check=False, cwd="/").returncode == 0:
        return NOBODY
    return None


@pytest.fixture(params=["shared", "own"])
def users(request: pytest.FixtureRequest) -> str:
    if request.param == "own" and not ROOT:
        pytest.skip("only a daemon that runs as root gives its hosts a user of their own")
    return str(request.param)


@pytest.fixture
def scene(request: pytest.FixtureRequest, users: str, drivers: Path, host_path: Path) -> Iterator[Scene]:
    hostile: str = request.param
    assert host_path.exists()
    user = daemons_user() if users == "shared" else None
    with tempfile.TemporaryDirectory(prefix="gendriverd-hostile-") as place, socket.socket() as listener:
        directory, secret, outside = Path(place), Path(place, "secret"), Path(place, "outside")
        directory.chmod(0o755)
        secret.write_text("secret")
        secret.chmod(0o666)
        outside.mkdir()
        outside.chmod(0o777)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.setblocking(False)
        (directory / "daemon").mkdir()
        patience = "30s" if "eat_memory" in hostile else "2s"  # a gigabyte of pages takes its time
        instances: dict[str, dict[str, object]] = {
            hostile: {
                "driver": drivers / "test/hostile.so",
                "sandbox": {"profile": "strict", "user": "", "nofile": 256, "memory": "1GiB"},
                "start_timeout": patience,
                "max_run": patience,
                "heartbeat": "1s",
                "restart": {"first": "100ms", "max": "200ms"},
                "limits": {"connections": 64},
                "settings": {
                    "secret": str(secret),
                    "outside": str(outside),
                    "port": str(listener.getsockname()[1]),
                    "admin": str(directory / "daemon/a"),
                },
            },
            "echo": {"driver": "echo.so", "sandbox": {"user": ""}},
        }
        settings = {"admin": str(directory / "daemon/a")}
        arguments = ["--driver-path", str(drivers)]
        with running_daemon(
            directory / "daemon",
            instances,
            settings=settings,
            arguments=arguments,
            expect_ready=["echo"],
            user=user,
        ) as running:
            if users == "own":
                shared = Path(f"/proc/{running.host_pid('echo')}").stat().st_uid
                assert shared not in {0, os.geteuid()}
            yield Scene(running, hostile, secret, outside, listener, running.host_pid("echo"))


def parameters(attacks: list[str], prefix: str = "") -> list[object]:
    return [pytest.param(f"{prefix or 'late-'}{attack}", id=attack) for attack in attacks]


@pytest.mark.parametrize("scene", parameters(REFUSED), indirect=True)
def test_what_a_request_attempts_is_refused(scene: Scene) -> None:
    scene.running.wait_event("instance_ready", instance=scene.hostile)
    check_refused(scene.attempts(scene.hostile.removeprefix("late-")))
    scene.serves_again()
    assert len(starts(scene)) == 1, "it was to be refused, not to die of it"
    scene.unharmed()


@pytest.mark.parametrize("scene", parameters(HARMLESS), indirect=True)
def test_what_it_changes_for_itself_changes_nothing(scene: Scene) -> None:
    scene.running.wait_event("instance_ready", instance=scene.hostile)
    check_refused(scene.attempts(scene.hostile.removeprefix("late-")))
    scene.serves_again()
    assert len(starts(scene)) == 1
    scene.unharmed()


@pytest.mark.parametrize("scene", parameters(DEADLY), indirect=True)
def test_what_kills_its_host_kills_nothing_else(scene: Scene) -> None:
    scene.running.wait_event("instance_ready", instance=scene.hostile)
    with suppress(ClientError), connect(scene.running.tcp_url, scene.hostile) as client:
        client.call(scene.hostile.removeprefix("late-"))
    scene.running.wait_event("host_exited", instance=scene.hostile, seconds=DEADLINE)
    if "eat_memory" in scene.hostile:
        scene.running.wait_event("driver_output", line="more=ENOMEM ")
    if "scribble" in scene.hostile:
        scene.running.wait_event("recorder_overwritten", instance=scene.hostile)
    scene.serves_again()
    scene.unharmed()


@pytest.mark.parametrize("scene", parameters(REFUSED + HARMLESS, "early-"), indirect=True)
def test_what_a_constructor_attempts_is_refused(scene: Scene) -> None:
    scene.running.wait_event("instance_ready", instance=scene.hostile)
    check_refused(scene.attempts("said"))
    scene.serves_again()
    scene.unharmed()


@pytest.mark.parametrize("scene", parameters(DEADLY, "early-"), indirect=True)
def test_a_constructor_kills_its_own_host_at_most(scene: Scene) -> None:
    scene.running.wait_event("host_exited", instance=scene.hostile, seconds=DEADLINE)
    scene.unharmed()


def check_refused(attempts: dict[str, str]) -> None:
    opened = int(attempts.pop("opened", 0))
    assert opened < 256
    assert "ok" not in attempts.values(), attempts


def starts(scene: Scene) -> list[object]:
    return [
        event
        for event in scene.running.events
        if event.get("event") == "host_started" and event["instance"] == scene.hostile
    ]
