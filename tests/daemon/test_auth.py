# SPDX-License-Identifier: MIT
"""A real daemon with keys: who is served and who is not, what each hears, and how keys are changed while it runs."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from gendriverd import auth, etf
from gendriverd.auth import Key
from gendriverd.client import AuthFailed, Refused, SyncClient, connect, open_client
from gendriverd.client.introduction import Introduction
from gendriverd.etf import Atom
from running_daemon import RunningDaemon, configuration
from test_daemon import Raw, hello, run
from test_reload import moved

OK = Atom("ok")
SECRET = b"do-not-print-me-" * 3
OTHER = b"nor-this-one-too-" * 3
ANNA = ("anna", SECRET)
BERT = ("bert", OTHER)
REFUSED = (Atom("refused"), Atom("auth"))
INSTANCES: dict[str, dict[str, object]] = {"echo": {"driver": "echo.so"}, "sum": {"driver": "sum.so"}}
Daemon = Callable[..., RunningDaemon]


class Files:
    """Key files, and the tables that name them."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.anna = self.write("anna", SECRET)
        self.bert = self.write("bert", OTHER)

    def write(self, name: str, secret: bytes, mode: int = 0o600) -> Path:
        path = self._directory / f"{name}.key"
        path.write_bytes(secret + b"\n")
        path.chmod(mode)
        return path

    def tables(self) -> dict[str, dict[str, object]]:
        return {"anna": {"file": self.anna}, "bert": {"file": self.bert, "instances": ["sum"]}}


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@pytest.fixture
def guarded(daemon: Daemon, files: Files) -> RunningDaemon:
    """anna opens all, bert sum alone."""
    return daemon(INSTANCES, settings={"auth": "hmac"}, keys=files.tables())


def refusal(running: RunningDaemon, instance: str, key: tuple[str, bytes]) -> tuple[str, str]:
    """What the client hears, and what the log says."""
    since = len(running.events)
    with pytest.raises(Refused) as refused:
        connect(running.tcp_url, instance, key=key)
    return refused.value.reason, running.wait_event("client_refused", since=since).get("why", "")


class Said:
    """A handshake by hand: greeted, what a client of ours would say, all whole."""

    def __init__(self, raw: Raw, instance: str = "echo", key: tuple[str, bytes] = ANNA) -> None:
        self.greeting = raw_frame(raw.sock)
        about = etf.decode(self.greeting[4:])[2]
        frames = Introduction(instance, Key(*key)).greeted(self.greeting, about)
        size = 4 + int.from_bytes(frames[:4], "big")
        self.hello, self.proof = frames[:size], frames[size:]


def raw_frame(sock: socket.socket) -> bytes:
    head = sock.recv(4, socket.MSG_WAITALL)
    return head + sock.recv(int.from_bytes(head, "big"), socket.MSG_WAITALL)


def test_who_proves_a_key_is_served_on_every_address(guarded: RunningDaemon) -> None:
    for url in (guarded.tcp_url, guarded.unix_url):
        with connect(url, "echo", key=ANNA) as client, connect(url, "sum", key=BERT) as other:
            assert client.call("echo", [1]) == (OK, [1])
            assert other.call("sum", [1, 2]) == (OK, 3.0)
    told = guarded.wait_event("client_authenticated", instance="sum")
    assert told["key"] == "bert"
    assert "print-me" not in guarded.log()
    assert "nor-this-one" not in guarded.log()


async def test_the_trio_client_proves_its_key_too_and_again_after_a_crash(guarded: RunningDaemon) -> None:
    async with open_client(guarded.tcp_url, "echo", key=ANNA) as client:
        assert await client.call("echo", 1) == (OK, 1)
        os.kill(guarded.host_pid("echo"), signal.SIGKILL)
        guarded.wait_event("instance_ready", instance="echo", generation=2)
        while client.welcome is None or client.welcome.generation != 2:
            await trio.lowlevel.checkpoint()
        assert await client.call("echo", 2) == (OK, 2)


@pytest.mark.parametrize(
    ("instance", "key", "reason", "why"),
    [
        ("echo", ("anna", OTHER), "auth", "wrong proof"),
        ("echo", ("carl", SECRET), "auth", "unknown key"),
        ("echo", BERT, "auth", "a key that does not open this instance"),
        ("nowhere", BERT, "auth", "a key that does not open this instance"),
        ("nowhere", ("anna", OTHER), "auth", "wrong proof"),
        ("nowhere", ANNA, "unknown_instance", ""),
    ],
)
def test_a_wrong_key_is_refused_and_only_the_log_says_why(
    guarded: RunningDaemon, instance: str, key: tuple[str, bytes], reason: str, why: str
) -> None:
    assert refusal(guarded, instance, key) == (reason, why)
    if key[0] == "carl":  # a name that is no key's may be a secret in the wrong place
        assert "carl" not in guarded.log()


def test_a_client_without_a_key_hears_what_is_missing(guarded: RunningDaemon) -> None:
    with pytest.raises(AuthFailed, match="key_needed: the daemon asks for a key, and this client has none"):
        connect(guarded.tcp_url, "echo")


def test_a_client_with_a_key_is_not_content_with_a_daemon_that_asks_for_none(daemon: Daemon) -> None:
    running = daemon({"echo": {"driver": "echo.so"}})
    with pytest.raises(AuthFailed, match="not_offered"):
        connect(running.tcp_url, "echo", key=ANNA)


NO_PROOFS: dict[str, Callable[[Said], bytes]] = {
    "a hello of before keys": lambda s: hello(b"echo"),
    "a hello without a nonce": lambda s: etf.frame((Atom("hello"), 1, b"echo", {Atom("key"): b"anna"})) + s.proof,
    "a call": lambda s: s.hello + etf.frame((Atom("call"), 1, 1, [1])),
    "its own hello": lambda s: s.hello + s.hello,
    "31 bytes": lambda s: s.hello + auth.proof_frame(etf.decode(s.proof[4:])[1][:31]),
    "33 bytes": lambda s: s.hello + auth.proof_frame(etf.decode(s.proof[4:])[1] + b"x"),
    "no term": lambda s: s.hello + b"\0\0\0\2\x83\xff",
    "no bytes": lambda s: s.hello + b"\0\0\0\0",
    "a frame larger than any proof": lambda s: s.hello + b"\0\0\0\x41",
    "a proof of another hello": lambda s: hello_again(s) + s.proof,
    "the server's label": lambda s: s.hello + auth.proof_frame(auth.server_mac(SECRET, s.greeting, s.hello, b"", b"")),
}


def hello_again(said: Said) -> bytes:
    about = etf.decode(said.hello[4:])[3] | {Atom("nonce"): bytes(32)}
    return etf.frame((Atom("hello"), 1, b"echo", about))


@pytest.mark.parametrize("what", NO_PROOFS)
def test_what_is_no_proof_is_refused_at_once(guarded: RunningDaemon, what: str) -> None:
    for url in (guarded.tcp_url, guarded.unix_url):
        with Raw(url) as raw:
            raw.sock.sendall(NO_PROOFS[what](Said(raw)))
            assert raw.receive() == REFUSED
            raw.sock.shutdown(socket.SHUT_WR)
            assert raw.receive() is None


def test_a_handshake_that_was_overheard_opens_nothing(guarded: RunningDaemon) -> None:
    with Raw(guarded.tcp_url) as raw:
        overheard = Said(raw)
        raw.sock.sendall(overheard.hello + overheard.proof)
        assert raw.receive()[0] == "welcome"  # type: ignore[index]
    for _ in range(20):
        with Raw(guarded.tcp_url) as raw:
            Said(raw)
            raw.sock.sendall(overheard.hello + overheard.proof)
            assert raw.receive() == REFUSED


def test_requests_may_follow_the_proof_at_once_and_the_daemons_proof_is_right(guarded: RunningDaemon) -> None:
    with Raw(guarded.tcp_url) as raw:
        said = Said(raw)
        calls = b"".join(etf.frame((Atom("call"), n, 1, n)) for n in range(100))
        raw.sock.sendall(said.hello + said.proof + calls)
        welcome, proof = raw_frame(raw.sock), raw_frame(raw.sock)
        assert proof == auth.proof_frame(auth.server_mac(SECRET, said.greeting, said.hello, said.proof, welcome))
        assert {raw.receive() for _ in range(100)} == {(Atom("reply"), n, (OK, n)) for n in range(100)}


def test_a_handshake_in_single_bytes_is_one(guarded: RunningDaemon) -> None:
    with Raw(guarded.tcp_url) as raw:
        said = Said(raw)
        for byte in said.hello + said.proof:
            raw.sock.sendall(bytes([byte]))
        assert raw.receive()[0] == "welcome"  # type: ignore[index]


def test_a_proof_that_does_not_come_has_the_handshakes_time(daemon: Daemon, files: Files) -> None:
    settings = {"auth": "hmac", "handshake_timeout": "200ms"}
    running = daemon(INSTANCES, settings=settings, keys=files.tables())
    with Raw(running.tcp_url) as raw:
        said = Said(raw)
        raw.sock.sendall(said.hello + said.proof[:-1])
        assert raw.receive() == (Atom("refused"), Atom("bad_hello"))


class Changing:
    """The same daemon, whose configuration is written anew."""

    def __init__(self, daemon: Daemon, directory: Path, files: Files) -> None:
        self.running = daemon(INSTANCES)
        self._path = directory / "daemon-1/conf.d/keys.toml"
        self._path.parent.mkdir()
        self.files = files

    def reload(self, keys: dict[str, dict[str, object]], outcome: str = "reloaded") -> None:
        self._path.write_text(configuration({"auth": "hmac" if keys else "none"}, {}, keys))
        since = len(self.running.events)
        self.running.process.send_signal(signal.SIGHUP)
        self.running.wait_event(outcome, since=since)

    def connect(self, key: tuple[str, bytes] | None) -> SyncClient:
        return connect(self.running.tcp_url, "echo", key=key)


@pytest.fixture
def changing(daemon: Daemon, tmp_path: Path, files: Files) -> Changing:
    return Changing(daemon, tmp_path, files)


def test_keys_are_changed_by_a_reload_without_a_gap(changing: Changing) -> None:
    old: dict[str, object] = {"file": changing.files.anna}
    new: dict[str, object] = {"file": changing.files.bert}
    with changing.connect(None) as before_keys:
        changing.reload({"anna": old})
        assert before_keys.call("echo", 1) == (OK, 1)  # connections that are there stay
        with pytest.raises(AuthFailed, match="key_needed"):
            changing.connect(None)
        with changing.connect(ANNA) as client:
            changing.reload({"anna": old, "anna-2": new})
            for key in (ANNA, ("anna-2", OTHER)):
                with changing.connect(key) as each:
                    assert each.call("echo", 2) == (OK, 2)
            changing.reload({"anna-2": new})
            assert refusal(changing.running, "echo", ANNA)[0] == "auth"
            assert client.call("echo", 3) == (OK, 3)
            assert run("reload", "--admin", changing.running.admin, "echo").returncode == 0
            with pytest.raises(Refused, match="auth"):  # on the new host all prove a key that still is
                moved(client, 2)
    with changing.connect(("anna-2", OTHER)) as client:
        changing.files.write("bert", SECRET)  # the same name, other bytes
        changing.reload({"anna-2": new})
        assert refusal(changing.running, "echo", ("anna-2", OTHER))[0] == "auth"
        with changing.connect(("anna-2", SECRET)) as anew:
            assert anew.call("echo", 4) == (OK, 4)
    assert "print-me" not in changing.running.log()


def test_a_reload_with_a_key_file_that_will_not_do_changes_nothing(changing: Changing) -> None:
    changing.reload({"anna": {"file": changing.files.anna}})
    leaky = changing.files.write("leaky", OTHER, 0o640)
    changing.reload({"bert": {"file": leaky}}, "reload_failed")
    failed = changing.running.wait_event("reload_failed")
    assert failed["problems"] == [
        f"[keys.bert] key file {leaky}: its mode is 0640, so others have a hand in it: chmod 600"
    ]
    with changing.connect(ANNA) as client:
        assert client.call("echo", 1) == (OK, 1)
    assert "nor-this-one" not in changing.running.log()


@pytest.mark.parametrize("command", ["serve", "check"])
def test_a_key_file_that_others_may_read_is_named_and_ends_with_78(tmp_path: Path, files: Files, command: str) -> None:
    leaky = files.write("leaky", SECRET, 0o644)
    path = tmp_path / "c.toml"
    listen = {"listen": [f"unix:{tmp_path}/s"], "admin": "", "auth": "hmac"}
    path.write_text(configuration(listen, {}, {"anna": {"file": "leaky.key"}}))
    done = run(command, "--config", path)
    assert done.returncode == 78
    assert done.stderr.splitlines()[-1] == (
        f"gendriverd: [keys.anna] key file {leaky}: its mode is 0644, so others have a hand in it: chmod 600"
    )


def test_systemds_credentials_are_found_by_name(daemon: Daemon, files: Files, tmp_path: Path) -> None:
    env = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    files.anna.chmod(0o440)
    running = daemon(INSTANCES, settings={"auth": "hmac"}, keys={"anna": {"file": "anna.key"}}, env=env)
    with connect(running.tcp_url, "echo", key=ANNA) as client:
        assert client.call("echo", 1) == (OK, 1)


def test_a_call_from_the_shell_takes_its_key_from_a_file(guarded: RunningDaemon, files: Files) -> None:
    call = ("call", "--connect", guarded.tcp_url)
    done = run(*call, "--key-file", f"anna={files.anna}", "echo", "echo", "1")
    assert (done.returncode, done.stdout, done.stderr) == (0, "{ok,1}\n", "")
    done = run(*call, "echo", "echo", "1")
    assert done.returncode == 69
    assert done.stderr.startswith("gendriverd call: instance 'echo' was not asked for: key_needed: the daemon asks")
    done = run(*call, "--key-file", f"bert={files.bert}", "echo", "echo", "1")
    assert done.returncode == 69
    assert "auth: the daemon does not take this key, or not for this instance" in done.stderr
    leaky = files.write("leaky", SECRET, 0o604)
    done = run(*call, "--key-file", f"anna={leaky}", "echo", "echo", "1")
    assert (done.returncode, done.stdout) == (78, "")
    assert f"key file {leaky}: its mode is 0604" in done.stderr
    done = run(*call, "--key-file", "do-not-print-me", "echo", "echo", "1")
    assert done.returncode == 2
    assert "do-not" not in done.stderr


def test_too_many_that_owe_a_proof_are_told_that_it_is_busy(daemon: Daemon, files: Files) -> None:
    settings = {"auth": "hmac", "handshake_pending": 1}
    running = daemon(INSTANCES, settings=settings, keys=files.tables())
    with Raw(running.tcp_url) as first:
        said = Said(first)
        first.sock.sendall(said.hello)  # and no proof
        with pytest.raises(Refused, match="busy"):
            connect(running.tcp_url, "echo", key=ANNA)
        first.sock.sendall(said.proof)
        assert first.receive()[0] == "welcome"  # type: ignore[index]
