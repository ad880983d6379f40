# SPDX-License-Identifier: MIT
"""The admin socket: one question a connection, a JSON object on a line, and its answer in the same form.

The file is for the daemon's user alone, and only this user and root get an answer. A peer that is silent, too long or
one too many costs a slot for a few seconds or nothing; it hears why in `{"error": sentence}`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

import trio

from gendriverd.errors import AddressTaken, ListenError
from gendriverd.farewell import Socket, say_last
from gendriverd.listener import Listener, credentials, open_unix
from gendriverd.log import Log
from gendriverd.quantities import Address
from gendriverd.schema import DEFAULT_ADMIN
from gendriverd.sources import Peer

MODE = 0o600
QUESTION_MAX = 64 * 1024  # bytes, with its line's end
QUESTION_SECONDS = 5.0  # for all of it
ANSWER_MAX = 4 * 2**20  # bytes
PEERS_MAX = 8  # at once; a reload counts until it is done

Question = dict[str, Any]
Answer = dict[str, Any]


class Action(NamedTuple):
    """What can be done: the keys its question may have beside `do`, and who answers (the question, its peer)."""

    keys: frozenset[str]
    run: Callable[[Question, str], Awaitable[Answer]]


class NoQuestion(Exception):
    """The sentence says why."""


def open_admin(path: str, log: Log) -> list[Listener]:
    """One; none when there is to be none, or when the default one, which nobody asked for, cannot be made here.

    Raises ListenError. When another daemon has it too: `reload` would reach that one.
    """
    if not path:
        return []
    try:
        return [open_unix(Address("", 0, path), MODE, admit=_anybody)]
    except ListenError as error:
        if path == DEFAULT_ADMIN and not isinstance(error, AddressTaken):
            log.warning("admin_unavailable", path=path, reason=str(error))
            return []
        raise ListenError(f"[daemon] admin (or --admin): {error}", error.exit_code) from error


def _anybody(_: int) -> None:
    """It may have one of the last descriptors."""


class Admin:
    def __init__(self, actions: Mapping[str, Action], log: Log) -> None:
        self._actions = actions
        self._log = log
        self._peers = 0

    async def serve(self, client: Socket, peer: Peer) -> None:
        """One connection, until it is closed. Never raises."""
        name = peer.name
        try:
            with client:
                refusal = self._refusal(client)
                if refusal is not None:
                    self._log.warning("admin_refused", peer=name, reason=refusal)
                    await client.send(encoded({"error": refusal}))  # a new socket has room for a sentence
                else:
                    await self._serve(client, name)
        except OSError as error:
            self._log.debug("admin_peer_gone", peer=name, reason=str(error))
        except Exception:  # noqa: BLE001 (one peer is no reason to end the daemon)
            self._log.exception("admin_error", peer=name)

    def _refusal(self, client: Socket) -> str | None:
        _, uid = credentials(client)
        if uid not in {0, os.geteuid()}:
            return f"only root and the user {os.geteuid()} may ask, not the user {uid}"
        if self._peers >= PEERS_MAX:
            return f"{PEERS_MAX} others are asking already; try again"
        return None

    async def _serve(self, client: Socket, peer: str) -> None:
        self._peers += 1
        try:
            await say_last(client, encoded(await self._answer(client, peer)))
        finally:
            self._peers -= 1

    async def _answer(self, client: Socket, peer: str) -> Answer:
        try:
            with trio.fail_after(QUESTION_SECONDS):
                question = parse(await _read_line(client))
            action = self._action(question)
        except trio.TooSlowError:
            return {"error": f"no question came within {QUESTION_SECONDS:g} s"}
        except NoQuestion as problem:
            return {"error": str(problem)}
        try:
            return await action.run(question, peer)
        except Exception:  # noqa: BLE001 (a bug of ours; who asked shall not wait for nothing)
            self._log.exception("admin_error", peer=peer)
            return {"error": "internal error: the daemon's log says where"}

    def _action(self, question: Question) -> Action:
        do = question.get("do")
        action = self._actions.get(do) if isinstance(do, str) else None
        if action is None:
            raise NoQuestion(f"do must be one of {', '.join(sorted(self._actions))}, not {do!r:.80}")
        unknown = sorted(question.keys() - action.keys - {"do"})
        if unknown:
            known = ", ".join(sorted(action.keys)) or "nothing"
            raise NoQuestion(f"{do} takes {known}, not {unknown[0]!r:.80}")
        return action


async def _read_line(client: Socket) -> bytes:
    """What stands before the first line's end."""
    data = b""
    while b"\n" not in data:
        chunk = await client.recv(QUESTION_MAX - len(data))
        data += chunk
        if not chunk:
            raise NoQuestion("a question ends with a line's end")
        if len(data) >= QUESTION_MAX and b"\n" not in data:
            raise NoQuestion(f"a question has at most {QUESTION_MAX} bytes")
    return data.partition(b"\n")[0]


def parse(line: bytes) -> Question:
    """Raises NoQuestion."""
    try:
        question = json.loads(line.decode())
    except (ValueError, RecursionError):
        question = None
    if not isinstance(question, dict):
        raise NoQuestion('a question is a JSON object on one line, such as {"do": "status"}')
    return question


def encoded(answer: Answer) -> bytes:
    line = json.dumps(answer).encode() + b"\n"
    if len(line) <= ANSWER_MAX:
        return line
    return encoded({"error": f"it is done, but the answer has {len(line)} bytes, and {ANSWER_MAX} are the most"})
