# SPDX-License-Identifier: MIT
"""A real daemon with real hosts: what a key may ask for, several secrets of one, and what `check` says of both."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from gendriverd.client import Failed, Refused, connect, open_client
from gendriverd.etf import Atom
from running_daemon import RunningDaemon, configuration
from test_auth import ANNA, INSTANCES, OTHER, SECRET, Files
from test_daemon import run

OK = Atom("ok")
Daemon = Callable[..., RunningDaemon]
HMAC = {"auth": "hmac"}


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def forbidden(error: pytest.ExceptionInfo[Failed]) -> bool:
    return error.value.reason == "forbidden" and error.value.retryable


def test_a_key_calls_what_it_may_and_nothing_else(daemon: Daemon, files: Files) -> None:
    keys = {
        "anna": {"file": files.anna, "commands": {"echo": ["size", 99], "sum": "all"}},
        "bert": {"file": files.bert},
    }
    running = daemon(INSTANCES, settings=HMAC, keys=keys)
    with connect(running.tcp_url, "echo", key=ANNA) as client, connect(running.unix_url, "sum", key=ANNA) as other:
        assert client.call("size", b"abc") == (OK, 3)
        with pytest.raises(Failed) as failed:
            client.call("echo", 1)
        assert forbidden(failed)
        with pytest.raises(Failed) as unknown:  # it is allowed: the driver has none of that number
            client.call(98, 1)
        assert forbidden(unknown)
        assert other.call("sum", [1, 2]) == (OK, 3.0)
    with connect(running.tcp_url, "echo", key=("bert", OTHER)) as client:
        assert client.call("echo", 1) == (OK, 1)


async def test_the_trio_client_hears_it_too_and_a_cast_is_dropped(daemon: Daemon, files: Files) -> None:
    keys = {"anna": {"file": files.anna, "commands": ["size"]}}
    running = daemon({"echo": {"driver": "echo.so"}}, settings=HMAC, keys=keys)
    async with open_client(running.tcp_url, "echo", key=ANNA) as client:
        with pytest.raises(Failed) as failed:
            await client.call("echo", 1)
        assert forbidden(failed)
        await client.cast("echo", 1)
        assert await client.call("size", b"ab") == (OK, 2)
    assert running.wait_event("cast_forbidden")["command"] == 1


def test_a_name_that_the_driver_does_not_have_opens_nothing_and_the_log_says_so(daemon: Daemon, files: Files) -> None:
    keys = {"anna": {"file": files.anna, "commands": ["ehco", "size"], "instances": ["echo"]}}
    running = daemon(INSTANCES, settings=HMAC, keys=keys)
    with connect(running.tcp_url, "echo", key=ANNA) as client:
        assert client.call("size", b"abc") == (OK, 3)
        with pytest.raises(Failed, match="forbidden"):
            client.call("echo", 1)
    told = running.wait_event("key_command_unknown")
    assert (told["key"], told["instance"], told["level"]) == ("anna", "echo", "error")
    assert "[keys.anna] commands names 'ehco'" in told["reason"]
    assert "did you mean 'echo'?" in told["reason"]


def test_a_reload_changes_what_new_connections_may_ask_for(daemon: Daemon, files: Files, tmp_path: Path) -> None:
    running = daemon({"echo": {"driver": "echo.so"}}, settings=HMAC, keys={"anna": {"file": files.anna}})
    with connect(running.tcp_url, "echo", key=ANNA) as before:
        drop_in = tmp_path / "daemon-1/conf.d/keys.toml"
        drop_in.parent.mkdir()
        drop_in.write_text(configuration({}, {}, {"anna": {"commands": ["size"]}}))
        running.process.send_signal(signal.SIGHUP)
        running.wait_event("reloaded")
        with connect(running.tcp_url, "echo", key=ANNA) as after:
            with pytest.raises(Failed, match="forbidden"):
                after.call("echo", 1)
            assert after.call("size", b"abc") == (OK, 3)
        assert before.call("echo", 1) == (OK, 1)


def checked(tmp_path: Path, drivers: Path, keys: dict[str, dict[str, object]], **daemon: object) -> tuple[int, str]:
    path = tmp_path / "c.toml"
    own = {"listen": [f"unix:{tmp_path}/s"], "admin": "", "driver_path": [drivers], **daemon}
    path.write_text(configuration(own, INSTANCES, keys))
    done = run("check", "--config", path)
    return done.returncode, done.stdout + done.stderr


def test_check_says_which_key_names_what_the_driver_does_not_have(tmp_path: Path, drivers: Path, files: Files) -> None:
    good = {"anna": {"file": files.anna, "commands": {"echo": ["size"], "sum": [4711]}}}
    assert checked(tmp_path, drivers, good, auth="hmac")[0] == 0
    bad = {"anna": {"file": files.anna, "commands": {"echo": ["zise"], "sum": ["sum"]}}}
    code, said = checked(tmp_path, drivers, bad, auth="hmac")
    assert code == 78
    complaint = "[keys.anna] commands names 'zise', which the driver of 'echo' does not have; did you mean 'size'?"
    assert f"[instances.echo] {complaint}" in said
    assert "[instances.sum] driver" in said


def test_check_says_which_user_is_not_there(tmp_path: Path, drivers: Path) -> None:
    code, said = checked(tmp_path, drivers, {}, unix_users=["root", "no-such-user"])
    assert (code, said) == (78, "gendriverd: [daemon] unix_users: there is no user 'no-such-user'\n")
    code, said = checked(tmp_path, drivers, {}, unix_owner=":no-such-group")
    assert (code, said) == (78, "gendriverd: [daemon] unix_owner: there is no group 'no-such-group'\n")


def test_secrets_are_changed_without_a_gap_and_clients_keep_their_name(daemon: Daemon, files: Files) -> None:
    both = {"anna": {"file": [files.anna, files.bert]}}
    running = daemon({"echo": {"driver": "echo.so"}}, settings=HMAC, keys=both)
    for secret in (SECRET, OTHER):  # each client takes the daemon's proof, which is by its own secret
        with connect(running.tcp_url, "echo", key=("anna", secret)) as client:
            assert client.call("echo", 1) == (OK, 1)
    with pytest.raises(Refused, match="auth"):
        connect(running.tcp_url, "echo", key=("anna", SECRET[::-1]))
    assert {e["key"] for e in running.events if e["event"] == "client_authenticated"} == {"anna"}


def test_of_several_files_each_that_will_not_do_is_named(tmp_path: Path, drivers: Path, files: Files) -> None:
    leaky = files.write("leaky", SECRET, 0o644)
    code, said = checked(tmp_path, drivers, {"anna": {"file": [files.anna, leaky, "/nowhere"]}}, auth="hmac")
    assert code == 78
    assert f"[keys.anna] key file {leaky}: its mode is 0644" in said
    assert "[keys.anna] key file /nowhere: cannot be read" in said
