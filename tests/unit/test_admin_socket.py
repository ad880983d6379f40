# SPDX-License-Identifier: MIT
"""The admin socket without a daemon: its bounds, its default path; and the command where nobody answers."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

import pytest
import trio
import trio.testing

from gendriverd import admin, cli, sources
from gendriverd.admin import ANSWER_MAX, PEERS_MAX, QUESTION_SECONDS, Action, Admin, encoded, open_admin
from gendriverd.errors import ListenError
from gendriverd.log import get_log

GREET = b'{"do": "greet"}\n'


PEER = sources.Peer("the peer", sources.Source("", None))


async def greet(question: admin.Question, peer: str) -> admin.Answer:
    return {"hello": peer}


def an_admin() -> Admin:
    return Admin({"greet": Action(frozenset(), greet)}, get_log())


class Peer:
    """One end of a connection whose other end is served."""

    def __init__(self, served: Admin, nursery: trio.Nursery) -> None:
        self.socket, theirs = trio.socket.socketpair()
        nursery.start_soon(served.serve, theirs, PEER)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    async def say(self, *parts: bytes) -> None:
        for part in parts:
            await self.socket.send(part)

    async def heard(self) -> dict[str, Any]:
        data = b""
        while chunk := await self.socket.recv(65536):
            data += chunk
        answer = json.loads(data)
        assert isinstance(answer, dict)
        return answer


async def test_a_question_gets_its_answer(nursery: trio.Nursery) -> None:
    with Peer(an_admin(), nursery) as peer:
        await peer.say(*(bytes([byte]) for byte in GREET))  # however it arrives
        assert await peer.heard() == {"hello": "the peer"}


@pytest.mark.parametrize("said", [b"", b'{"do":'])
async def test_a_silent_peer_is_told_so_when_its_time_is_over(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, said: bytes
) -> None:
    with Peer(an_admin(), nursery) as peer:
        await peer.say(said)
        assert await peer.heard() == {"error": f"no question came within {QUESTION_SECONDS:g} s"}
        assert trio.current_time() >= QUESTION_SECONDS


async def test_peers_that_do_not_leave_keep_no_place(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    served = an_admin()
    with ExitStack() as stack:
        for _ in range(PEERS_MAX):
            await stack.enter_context(Peer(served, nursery)).say(GREET)
        await trio.sleep(QUESTION_SECONDS)  # of the test's own clock
        later = stack.enter_context(Peer(served, nursery))
        await later.say(GREET)
        assert await later.heard() == {"hello": "the peer"}


async def test_one_too_many_is_told_so_and_costs_the_others_nothing(
    nursery: trio.Nursery, mock_clock: trio.testing.MockClock
) -> None:
    served = an_admin()
    with ExitStack() as stack:
        silent = [stack.enter_context(Peer(served, nursery)) for _ in range(PEERS_MAX)]
        await trio.testing.wait_all_tasks_blocked()
        one_too_many = stack.enter_context(Peer(served, nursery))
        assert "others are asking already" in (await one_too_many.heard())["error"]
        await silent[0].say(GREET)
        assert await silent[0].heard() == {"hello": "the peer"}
        silent[0].socket.close()
        await trio.testing.wait_all_tasks_blocked()
        later = stack.enter_context(Peer(served, nursery))
        await later.say(GREET)
        assert await later.heard() == {"hello": "the peer"}


async def test_a_bug_is_answered_too(nursery: trio.Nursery) -> None:
    async def broken(question: admin.Question, peer: str) -> admin.Answer:
        raise ZeroDivisionError

    with Peer(Admin({"greet": Action(frozenset(), broken)}, get_log()), nursery) as peer:
        await peer.say(GREET)
        assert await peer.heard() == {"error": "internal error: the daemon's log says where"}


def test_an_answer_is_bounded() -> None:
    assert json.loads(encoded({"x": "y"})) == {"x": "y"}
    said = encoded({"x": "y" * ANSWER_MAX})
    assert len(said) < 1000
    assert "are the most" in json.loads(said)["error"]


async def test_a_default_that_cannot_be_made_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "not/there/admin.sock")
    with pytest.raises(ListenError, match=r"^\[daemon\] admin \(or --admin\): cannot listen in "):
        open_admin(path, get_log())
    monkeypatch.setattr(admin, "DEFAULT_ADMIN", path)
    assert open_admin(path, get_log()) == []


async def test_a_default_that_another_daemon_has_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "admin.sock")
    monkeypatch.setattr(admin, "DEFAULT_ADMIN", path)
    with listening(path), pytest.raises(ListenError, match="another process answers there"):
        open_admin(path, get_log())


@contextmanager
def listening(path: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as somebody:
        somebody.bind(path)
        somebody.listen()
        yield somebody


# --- the command ---


@pytest.mark.parametrize(("command", "code"), [("status", 3), ("reload", 69)])
def test_where_no_daemon_answers_the_path_is_said_and_who_says_it(
    command: str, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "none.sock"
    assert cli.main([command, "--admin", str(path)]) == code
    [said] = capsys.readouterr().err.splitlines()
    assert said.startswith(f"gendriverd: {path}: no daemon answers: ")
    assert "--admin" in said
    assert "--config" in said
    assert cli.main([command, "--admin", ""]) == code
    assert "this daemon has no admin socket" in capsys.readouterr().err
    assert cli.main([command, "--admin", "/" + "x" * 200]) == code


@pytest.mark.parametrize(("command", "code"), [("status", 3), ("reload", 69)])
def test_a_daemon_that_does_not_answer_is_not_waited_for_for_ever(
    command: str, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(tmp_path / "s")
    with listening(path):
        for limit in ("0.01", "0"):
            assert cli.main([command, "--admin", path, "--timeout", limit]) == code
            assert f"no answer within {limit} s" in capsys.readouterr().err


@pytest.mark.parametrize("said", [b"", b'{"daemon": {"ver', b"\xff\n", b"[1]\n"])
def test_an_answer_that_is_none_is_no_traceback(
    said: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(tmp_path / "s")

    def leave(somebody: socket.socket) -> None:
        peer, _ = somebody.accept()
        with peer:
            peer.recv(100)
            peer.sendall(said)

    with listening(path) as somebody:
        thread = threading.Thread(target=leave, args=[somebody])
        thread.start()
        assert cli.main(["status", "--admin", path]) == 3
        thread.join()
    assert "the daemon left without an answer" in capsys.readouterr().err
