# SPDX-License-Identifier: MIT
"""What reads bytes of others in Python, as targets of a fuzzer: bytes in, an AssertionError or any error out is a bug.

tests/fuzz/python.py lets atheris loose on them, tests/unit/test_fuzz_targets.py hypothesis and the corpora.
"""

from __future__ import annotations

import asyncio
import atexit
import shutil
import tempfile
import tomllib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import cast

from gendriverd import etf, etf_guard, etf_quick, messages
from gendriverd.auth import Grant, Key, Keyring, client_mac, parse_proof, proof_frame
from gendriverd.channel import LIMITS as CHANNEL_LIMITS
from gendriverd.config import load
from gendriverd.errors import BadMessage, ClientGone, ConfigError, HandshakeRefused
from gendriverd.etf import EtfError, Term
from gendriverd.farewell import Socket
from gendriverd.handshake import HELLO_MAX, parse_hello, read_frame
from gendriverd.key_file import read_key_file
from gendriverd.recorder import Recorder, Request, State, Untrusted
from gendriverd.toml_places import place_of, places
from old_record import old_record, sign, spots, write

REASONS = {"bad_term", "compressed", "trailing_bytes", "too_deep", "too_many_terms", "bignum_too_large"}
LIMITS = etf.Limits(depth=40, terms=etf_quick.SIZE - 1, bignum=64)
SECRET = b"a secret of thirty-two bytes, yes"


def exactly(term: Term) -> object:
    """With what == does not tell: 1 from True and 1.0, an atom from its name, 0.0 from -0.0."""
    match term:
        case float():
            return "float", term.hex()
        case list() | tuple():
            return type(term), [exactly(item) for item in term]
        case dict():
            return "map", {repr(exactly(key)): exactly(value) for key, value in term.items()}
        case etf.ImproperList(elements, tail):
            return "improper", exactly(elements), exactly(tail)
    return type(term), term


def slowly(data: bytes) -> Term:
    """Decoded without the short cut, which is not taken within LIMITS."""
    return etf.decode(data, LIMITS)


def fuzz_decode(data: bytes) -> None:
    """Guard and erlang-py: a term that encodes to the same, or an EtfError."""
    try:
        etf_guard.check(data, LIMITS)
    except EtfError as error:
        assert error.reason in REASONS
        try:
            slowly(data)
        except EtfError as again:
            assert again.reason == error.reason
            return
        raise AssertionError("decoded what the guard refuses") from None
    try:
        term = slowly(data)
    except EtfError as error:
        assert error.reason == "not_representable"
        return
    assert exactly(slowly(etf.encode(term))) == exactly(term)


def fuzz_quick(data: bytes) -> None:
    """The short cut says nothing, or what the long way says."""
    if (plain := etf_quick.decode(data)) is None:
        return
    assert exactly(slowly(data)) == exactly(plain[0])
    if (quick := etf_quick.encode(plain[0])) is not None:
        assert exactly(slowly(quick)) == exactly(plain[0])


def fuzz_hello(data: bytes) -> None:
    try:
        hello = parse_hello(data)
    except HandshakeRefused as refusal:
        assert refusal.reason in {"bad_hello", "bad_version"}
        return
    assert type(hello.instance) is str
    assert type(hello.key) is str
    assert type(hello.nonce) is bytes
    hello.instance.encode()


def fuzz_proof(data: bytes) -> None:
    """Whoever does not know the key is not let in, whatever it says; who does, is."""
    greeting, hello = b"\0\0\0\1g", b"\0\0\0\1h"
    ring = Keyring([Grant("k", (Key("k", SECRET),), instances={"open": None})])
    right = proof_frame(client_mac(SECRET, greeting, hello))
    frame = len(data).to_bytes(4, "big") + data
    assert type(parse_proof(data)) is bytes
    for name, instance, proof in [("k", "open", frame), ("k", "shut", right), ("nobody", "open", right)]:
        try:
            ring.admit(name, instance, greeting, hello, proof)
        except HandshakeRefused as refusal:
            assert refusal.reason == "auth"
        else:
            assert parse_proof(proof[4:]) == parse_proof(right[4:])
            assert name == "k"
            assert instance == "open"
    assert ring.admit("k", "open", greeting, hello, right).key.secret == SECRET


class Chunks:
    """A client's socket: each read gets at most `step` bytes."""

    def __init__(self, data: bytes, step: int) -> None:
        self.left = data
        self._step = step

    async def recv(self, most: int, _flags: int = 0) -> bytes:
        chunk = self.left[: min(most, self._step)]
        self.left = self.left[len(chunk) :]
        return chunk


def fuzz_read_frame(data: bytes) -> None:
    """Exactly the frame is read, and what follows stays in the socket, however it comes."""
    client = Chunks(data[1:], 1 + (data[0] if data else 0))
    length = int.from_bytes(data[1:5], "big")
    try:
        frame = _finished(read_frame(cast(Socket, client)))
    except HandshakeRefused as refusal:
        assert refusal.reason == "bad_hello"
        assert not 0 < length <= HELLO_MAX
        return
    except ClientGone:
        assert not client.left
        assert len(data) < 5 + length
        return
    assert frame == data[1 : 5 + length]
    assert client.left == data[5 + length :]


def _finished(coroutine: object) -> bytes:
    """What a coroutine returns that never waits."""
    assert asyncio.iscoroutine(coroutine)
    try:
        coroutine.send(None)
    except StopIteration as done:
        return cast(bytes, done.value)
    raise AssertionError("it waits")


def fuzz_message(data: bytes) -> None:
    """What a hostile host says on the control channel: a message within its bounds, or BadMessage."""
    try:
        term = etf.decode(data, CHANNEL_LIMITS)
    except EtfError:
        return
    try:
        message = messages.parse(term)
    except BadMessage:
        return
    assert isinstance(message, tuple(type_ for type_ in messages.Message.__args__))
    match message:
        case messages.LogLine(level, event, values):
            assert level in messages.LEVELS
            assert len(values) <= messages.LOG_KEYS_MAX
            assert len(event) <= 4 * 64
        case messages.Ready(_, commands, atoms, _):
            assert max(len(commands), len(atoms)) <= messages.NAMES_MAX
            assert all(0 <= number < 2**30 for number in commands.values())
        case messages.Adopted(conn) | messages.Refused(conn, _) | messages.Closed(conn, _, _):
            assert 0 <= conn <= 2**63


@cache
def _recorder() -> tuple[Recorder, bytearray, list[int]]:
    recorder = Recorder(queue=8, threads=2, connections=4)
    return recorder, old_record(recorder), spots(recorder)


def fuzz_recorder(data: bytes) -> None:
    """Bytes over a record, three by three: two say where, one is XORed with what is there. The first byte: whether
    tags and checks are made right again.
    """
    recorder, image, places_ = _recorder()
    patched = bytearray(image)
    for at in range(1, len(data) - 2, 3):
        patched[places_[int.from_bytes(data[at : at + 2], "big") % len(places_)]] ^= data[at + 2]
    if data and data[0] & 1:
        sign(recorder, patched)
    write(recorder, patched)
    try:
        record = recorder.read()
        recorder.statistics()
    except Untrusted:
        return
    assert len(record.connections) <= recorder.connections
    assert len(record.requests) <= recorder.slots
    for request in record.requests:
        _in_range(request)
    if record.death is not None:
        assert record.death.request is None or record.death.request in record.requests
        assert record.death.request is None or record.death.params is None or len(record.death.params) <= 1 << 20
        assert len(record.death.trace) <= 32


def _in_range(request: Request) -> None:
    assert request.state in State
    assert 0 <= request.seat < 1024
    assert request.params is None or len(request.params) == request.params_len
    assert 0 <= request.conn < 2**64
    assert 0 <= request.id < 2**32


@cache
def _directory() -> str:
    directory = tempfile.mkdtemp(prefix="gendriverd-fuzz-")
    atexit.register(shutil.rmtree, directory)
    return directory


def _written(name: str, data: bytes) -> Path:
    path = Path(_directory(), name)
    path.write_bytes(data)
    path.chmod(0o600)
    return path


def fuzz_config(data: bytes) -> None:
    """A configuration, or one ConfigError whose every problem begins with the file, on one line."""
    path = _written("c.toml", data)
    try:
        config = load(path)
    except ConfigError as error:
        assert error.problems
        for problem in error.problems:
            assert problem.startswith(f"{path}:"), problem
            assert problem.isprintable(), problem
        return
    assert all(instance.driver for instance in config.instances.values())


def fuzz_places(data: bytes) -> None:
    """Of what tomllib takes, each key has a line, and that line is there."""
    try:
        text = data.decode()
        table = tomllib.loads(text)
    except (ValueError, RecursionError):
        return
    found = places(text)
    last = text.count("\n") + 1
    assert all(1 <= line <= last for line in found.values())
    for key in table:
        assert place_of(found, (key,)) is not None, key


def fuzz_key_file(data: bytes) -> None:
    """A secret of a permitted length, or a ConfigError that does not tell it."""
    path = _written("key", data)
    try:
        secret = read_key_file(path)
    except ConfigError as error:
        assert len(data) < 4 or data.decode("latin-1") not in str(error)
        return
    assert data in {secret, secret + b"\n", secret + b"\r\n", secret + b"\r"}
    assert 32 <= len(secret) <= 1024


TARGETS: dict[str, Callable[[bytes], None]] = {
    name.removeprefix("fuzz_"): target for name, target in sorted(globals().items()) if name.startswith("fuzz_")
}
