# SPDX-License-Identifier: MIT
"""`gendriverd call`: Erlang's syntax both ways, an exit code a script can use, one sentence for what went wrong."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
import trio

from fake_service import Session, serve
from gendriverd.cli_call import run_call
from gendriverd.etf import Atom

Answer = Callable[[Session, int, Any], Awaitable[None]]


async def call(
    nursery: trio.Nursery,
    answer: Answer,
    cmd: str = "add",
    term: str | None = "x",
    *,
    seconds: float = 5,
    cast: bool = False,
) -> int:
    async def script(s: Session) -> None:
        await s.welcome()
        message = await s.receive()
        if message is not None:
            await answer(s, message[1], message[-1] if message[0] == "cast" else message[3])
            await s.receive()

    url = await serve(nursery, script)
    return await trio.to_thread.run_sync(partial(run_call, url, "fake", cmd, term, seconds, None, cast))


async def echo(s: Session, call_id: int, params: Any) -> None:
    await s.reply(call_id, (Atom("ok"), params))


@pytest.mark.parametrize(
    ("term", "printed"),
    [
        ("[1,2,3,4]", "{ok,[1,2,3,4]}"),
        ('#{a => "text", <<"b">> => 10.0}', '{ok,#{a => "text",<<"b">> => 10.0}}'),
        ("undefined", "{ok,undefined}"),
        (None, "{ok,[]}"),
    ],
)
async def test_the_reply_is_printed_in_erlangs_syntax(
    nursery: trio.Nursery, capsys: pytest.CaptureFixture[str], term: str | None, printed: str
) -> None:
    assert await call(nursery, echo, term=term) == 0
    assert capsys.readouterr() == (printed + "\n", "")


async def test_undefined_is_sent_as_said_and_nothing_is_an_empty_list(nursery: trio.Nursery) -> None:
    seen: list[Any] = []

    async def remember(s: Session, call_id: int, params: Any) -> None:
        seen.append(params)
        await s.reply(call_id, Atom("ok"))

    assert await call(nursery, remember, term="undefined") == 0
    assert await call(nursery, remember, term=None) == 0
    assert seen == [None, []]


async def test_an_error_of_the_driver_is_printed_and_ends_with_1(
    nursery: trio.Nursery, capsys: pytest.CaptureFixture[str]
) -> None:
    async def error(s: Session, call_id: int, params: Any) -> None:
        await s.reply(call_id, (Atom("error"), Atom("decode")))

    assert await call(nursery, error) == 1
    assert capsys.readouterr() == ("{error,decode}\n", "")


@pytest.mark.parametrize(
    ("reason", "code"),
    [("overloaded", 75), ("not_run", 75), ("crashed", 70), ("timeout", 70), ("quarantined", 70), ("forbidden", 70)],
)
async def test_the_services_word_is_75_when_it_can_be_tried_again(
    nursery: trio.Nursery, capsys: pytest.CaptureFixture[str], reason: str, code: int
) -> None:
    async def failed(s: Session, call_id: int, params: Any) -> None:
        await s.failed(call_id, reason)

    assert await call(nursery, failed) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"gendriverd call: fake add: the call failed: {reason} (it ")


async def test_an_answer_that_is_too_large_is_70_and_says_so(
    nursery: trio.Nursery, capsys: pytest.CaptureFixture[str]
) -> None:
    async def large(s: Session, call_id: int, params: Any) -> None:
        await s.stream.send_all(b"\x7f\0\0\0")

    assert await call(nursery, large) == 70
    err = capsys.readouterr().err
    assert err.endswith(
        "disconnected (it may have run): a frame of 2130706432 bytes; at most 68157440 are taken (max_frame)\n"
    )
    assert err.count("\n") == 1


async def test_no_answer_in_time_is_70(nursery: trio.Nursery, capsys: pytest.CaptureFixture[str]) -> None:
    async def never(s: Session, call_id: int, params: Any) -> None:
        await s.receive()

    assert await call(nursery, never, seconds=2) == 70  # the time to connect, too
    assert capsys.readouterr().err == "gendriverd call: fake add: no answer within 2 s\n"


@pytest.mark.parametrize(
    ("cmd", "term", "code", "said"),
    [
        ("add", "{a b}", 65, "'{a b}': column 4: ',' or '}' expected, found 'b'"),
        ("add", "'" + "a" * 300 + "'", 65, "an atom of 300 characters; at most 255"),
        ("add", "[" * 127 + "]" * 127 + ".", 0, ""),
        ("add", "<<" + "0:65536," * 130 + "0>>", 65, "a request of 1064998 bytes; the daemon takes 1048576"),
        ("mul", "x", 2, "instance 'fake' has no command 'mul'; it has: add"),
        ("-1", "x", 70, "bad_request"),
    ],
)
async def test_what_cannot_be_sent_is_one_sentence(
    nursery: trio.Nursery, capsys: pytest.CaptureFixture[str], cmd: str, term: str, code: int, said: str
) -> None:
    assert await call(nursery, echo, cmd, term) == code
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == (code != 0)


async def test_a_cast_is_handed_over_and_nothing_printed(
    nursery: trio.Nursery, capsys: pytest.CaptureFixture[str]
) -> None:
    async def taken(s: Session, cmd: int, params: Any) -> None:
        read.append((cmd, params))
        done.set()

    read: list[Any] = []
    done = trio.Event()
    assert await call(nursery, taken, "3", "{a}", cast=True) == 0
    await done.wait()
    assert read == [(3, (Atom("a"),))]
    assert capsys.readouterr() == ("", "")


async def test_an_instance_that_is_refused_is_69(nursery: trio.Nursery, capsys: pytest.CaptureFixture[str]) -> None:
    async def script(s: Session) -> None:
        await s.greet()
        await s.send((Atom("refused"), Atom("unknown_instance")))

    url = await serve(nursery, script)
    assert await trio.to_thread.run_sync(partial(run_call, url, "nope", "1", None, 5.0, None, False)) == 69
    assert "instance 'nope' was refused: unknown_instance: the daemon has no instance" in capsys.readouterr().err


def test_nobody_listening_is_69_and_names_the_address(free_tcp_port: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_call(f"tcp://127.0.0.1:{free_tcp_port}", "x", "1", None, 5.0, None, False) == 69
    assert f"tcp://127.0.0.1:{free_tcp_port}: Connection refused" in capsys.readouterr().err


def test_a_malformed_address_is_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_call("localhost", "x", "1", None, 5.0, None, False) == 2
    assert "tcp://127.0.0.1:9900" in capsys.readouterr().err
