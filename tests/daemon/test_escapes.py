# SPDX-License-Identifier: MIT
"""Ways around a `strict` sandbox, each tried from a constructor, a thread, a signal handler and a request, by hosts
that share the daemon's user and by hosts of their own. All of it is left open by the files' permissions and owners.
"""

from __future__ import annotations

import os
import resource
import socket
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from gendriverd.client import ClientError, connect
from gendriverd.etf import Atom
from gendriverd.sandbox import own_number
from passed_sockets import kernel_refuses
from running_daemon import RunningDaemon, running_daemon
from test_hostile_driver import ROOT, daemons_user, users
from test_orphans import await_end

__all__ = ["users"]

OK = Atom("ok")
KINDS = ["name_a_socket", "change_by_descriptor", "change_by_name", "read_by_name", "go_another_way"]
KINDS += ["pass_descriptors"] if kernel_refuses() else []
KINDS += ["look_into_others", "signal_by_the_kernel", "make_processes", "call_otherwise", "set_itself", "eat_beside"]
ATTEMPTS = [f"{place}-{kind}" for kind in KINDS for place in ("request", "constructor")]
ATTEMPTS += ["thread-change_by_descriptor", "handler-change_by_descriptor", "thread-make_processes"]

pytestmark = pytest.mark.skipif("GENDRIVERD_SANITIZER" in os.environ, reason="sanitizers need what strict refuses")


@dataclass
class Scene:
    """A daemon with an instance that looks for a way out, and what must stay as it is."""

    running: RunningDaemon
    secret: Path
    listed: Path
    inbox: socket.socket
    before: list[tuple[float, ...]]

    def unharmed(self) -> None:
        assert self.running.process.poll() is None
        assert self.secret.read_text() == "secret"
        assert looks(self.secret, self.listed) == self.before
        with pytest.raises(BlockingIOError):
            self.inbox.recv(100)
        with connect(self.running.tcp_url, "echo") as client:
            assert client.call("echo", 1) == (OK, 1)


def looks(secret: Path, listed: Path) -> list[tuple[float, ...]]:
    found = [path.stat() for path in (secret, listed, listed / "file")]
    return [(each.st_mode, each.st_uid, each.st_mtime_ns, each.st_nlink) for each in found]


@pytest.fixture
def few_descriptors() -> Iterator[None]:
    """As from a login shell: hosts may have more than the daemon."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, limits[1]), limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.fixture
def scene(
    request: pytest.FixtureRequest, users: str, few_descriptors: None, drivers: Path, host_path: Path
) -> Iterator[Scene]:
    name: str = request.param
    assert host_path.exists()
    assert few_descriptors is None
    user = daemons_user() if users == "shared" else None
    with (
        tempfile.TemporaryDirectory(prefix="gendriverd-escape-") as place,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as inbox,
    ):
        directory = Path(place)
        secret, listed, own = directory / "secret", directory / "listed", directory / "own"
        listed.mkdir()
        own.mkdir()
        (directory / "daemon").mkdir()
        for file in (secret, listed / "file", own / "mine"):
            file.write_text("secret")
            file.chmod(0o666)
        with suppress(OSError):  # not every file system has them
            os.setxattr(secret, "user.word", b"secret")
        inbox.bind(str(directory / "inbox"))
        inbox.setblocking(False)
        (directory / "inbox").chmod(0o666)
        if ROOT:  # what it reaches shall be its own
            whose = own_number(name).uid if users == "own" else user if user is not None else 0
            for path in (secret, listed, listed / "file", own, own / "mine"):
                os.chown(path, whose, whose)
        directory.chmod(0o755)
        before = looks(secret, listed)
        settings = {"secret": str(secret), "listed": str(listed), "own": str(own), "inbox": str(directory / "inbox")}
        instances: dict[str, dict[str, object]] = {"echo": {"driver": "echo.so", "sandbox": {"user": ""}}}
        arguments = ["--driver-path", str(drivers)]
        instances[name] = {
            "driver": drivers / "test/escape.so",
            "sandbox": {
                "profile": "strict",
                "user": "",
                "memory": "1GiB",
                "nofile": 20_000,
                "read": [listed],
                "write": [own],
            },
            "settings": settings,
        }
        with running_daemon(directory / "daemon", instances, arguments=arguments, user=user) as running:
            yield Scene(running, secret, listed, inbox, before)


@pytest.mark.parametrize("scene", ATTEMPTS, indirect=True)
def test_there_is_no_way_around(scene: Scene, request: pytest.FixtureRequest) -> None:
    name: str = request.node.callspec.params["scene"]
    place, _, kind = name.partition("-")
    with connect(scene.running.tcp_url, name) as client:
        said = client.call("said" if place == "constructor" else kind).decode()
        assert client.call("said").decode() == said
    attempts = [each.partition("=") for each in said.split()]
    assert attempts
    assert [what for what, _, came in attempts if came == "ok"] == [], said
    scene.unharmed()


@pytest.mark.parametrize("scene", ["request-outlive_the_daemon"], indirect=True)
def test_a_host_ends_with_its_daemon_whatever_it_does(scene: Scene) -> None:
    name = "request-outlive_the_daemon"
    with connect(scene.running.tcp_url, name) as client:
        assert "hold=ok" in client.call("outlive_the_daemon").decode()
        held = os.pidfd_open(scene.running.host_pid(name))
        scene.running.kill_daemon()
        await_end(held)


@pytest.mark.parametrize("scene", ["request-fill_the_flight"], indirect=True)
def test_descriptors_on_their_way_hold_up_no_handover(scene: Scene) -> None:
    name = "request-fill_the_flight"
    with connect(scene.running.tcp_url, name) as client:
        said = client.call("fill_the_flight").decode()
        assert int(said.split("=")[1]) > 0
        scene.unharmed()


@pytest.mark.parametrize("scene", ["request-lock_the_output"], indirect=True)
def test_a_locked_pipe_holds_up_nobody(scene: Scene) -> None:
    with suppress(ClientError), connect(scene.running.tcp_url, "request-lock_the_output") as client:
        client.call("lock_the_output", timeout=2.0)
    scene.unharmed()
