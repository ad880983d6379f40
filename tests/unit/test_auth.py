# SPDX-License-Identifier: MIT
"""Proofs without sockets: the shared vectors, and that nothing but a right proof of this handshake is ever taken."""

from __future__ import annotations

import hashlib
import hmac
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gendriverd import auth, etf
from gendriverd.auth import Admitted, Grant, Key, Keyring
from gendriverd.client import AuthFailed
from gendriverd.client.protocol import Greeted, Receiver, Welcome
from gendriverd.errors import HandshakeRefused
from gendriverd.etf import Atom
from gendriverd.handshake import greeting, parse_hello

VECTORS = Path(__file__).resolve().parent.parent / "vectors/handshake.txt"
LINES = [line.split("\t") for line in VECTORS.read_text().splitlines() if not line.startswith("#")]
SECRET = bytes(range(32))
ANNA = Key("anna", SECRET)
WELCOME = etf.frame((Atom("welcome"), 1, {}))
FORGERIES = 10_000


def frames_of(vector: list[str]) -> tuple[bytes, ...]:
    """Key, greeting, hello, proof, welcome, the server's proof."""
    return tuple(map(bytes.fromhex, vector[3:]))


@pytest.mark.parametrize("vector", LINES, ids=lambda vector: vector[0])
def test_the_servers_verdict_on_a_proof_is_the_vectors(vector: list[str]) -> None:
    verdict, name = vector[1:3]
    secret, greeted, hello, proof, welcome, told = frames_of(vector)
    said = parse_hello(hello[4:])
    assert (said.instance, said.key, len(said.nonce)) == ("sum", name, 32)
    ring = Keyring([Grant(Key(name, secret))])
    if verdict == "auth":
        with pytest.raises(HandshakeRefused, match="auth"):
            ring.admit(name, "sum", greeted, hello, proof)
        return
    admitted = ring.admit(name, "sum", greeted, hello, proof)
    mac = auth.server_mac(secret, greeted, hello, proof, welcome)
    assert (etf.decode(told[4:]) == (Atom("proof"), mac)) == (verdict == "ok")
    assert admitted.answer(welcome) == welcome + auth.proof_frame(mac)


@pytest.mark.parametrize("vector", [v for v in LINES if v[1] != "auth"], ids=lambda vector: vector[0])
def test_the_clients_verdict_on_a_proof_is_the_vectors(vector: list[str]) -> None:
    verdict, name = vector[1:3]
    secret, greeted, hello, proof, welcome, told = frames_of(vector)
    receiver = Receiver(instance="sum", key=Key(name, secret))
    assert isinstance(next(receiver.receive(greeted)), Greeted)
    receiver._introduction._said = greeted, hello, proof  # with the vector's nonce
    events = receiver.receive(welcome + told)
    if verdict == "ok":
        assert [type(event) for event in events] == [Welcome]
    else:
        with pytest.raises(AuthFailed, match="bad_proof"):
            list(events)


def test_the_vectors_codes_are_hmac_sha_256s_definition() -> None:
    """RFC 2104 by hand: the vectors and both implementations could otherwise share a mistake."""
    for vector in LINES:
        if vector[1] != "ok":
            continue
        secret, greeted, hello, proof, welcome, told = frames_of(vector)
        block = (hashlib.sha256(secret).digest() if len(secret) > 64 else secret).ljust(64, b"\0")
        for label, frames, frame in (
            (b"gendriverd 1 client\0", (greeted, hello), proof),
            (b"gendriverd 1 server\0", (greeted, hello, proof, welcome), told),
        ):
            inner = hashlib.sha256(bytes(b ^ 0x36 for b in block) + label + b"".join(frames)).digest()
            mac = hashlib.sha256(bytes(b ^ 0x5C for b in block) + inner).digest()
            assert etf.decode(frame[4:]) == (Atom("proof"), mac)


def shake(ring: Keyring, key: Key, instance: str, wanted: str = "sum") -> Admitted:
    """A client of ours that wants `wanted`, against a server that reads `instance` in its hello."""
    greeted = greeting("hmac")
    event = next(Receiver(instance=wanted, key=key).receive(greeted))
    assert isinstance(event, Greeted)
    size = 4 + int.from_bytes(event.reply[:4], "big")
    return ring.admit(key.name, instance, greeted, event.reply[:size], event.reply[size:])


def test_client_and_server_agree_with_several_keys_for_one_instance() -> None:
    new = Key("anna-2", os.urandom(1024))
    ring = Keyring([Grant(ANNA, frozenset({"sum"})), Grant(new)])
    assert shake(ring, ANNA, "sum").key is ANNA
    assert shake(ring, new, "sum").key is new


@pytest.mark.parametrize(
    ("key", "instance", "why"),
    [
        (Key("bert", SECRET), "sum", "unknown key"),
        (Key("nobody", SECRET), "sum", "unknown key"),
        (Key("anna", SECRET[::-1]), "sum", "wrong proof"),
        (ANNA, "echo", "does not open"),
    ],
)
def test_a_client_is_not_told_what_is_wrong_but_the_log_is(key: Key, instance: str, why: str) -> None:
    with pytest.raises(HandshakeRefused) as refused:
        shake(Keyring([Grant(ANNA, frozenset({"sum"}))]), key, instance)
    assert refused.value.reason == "auth"
    assert why in refused.value.why


def test_an_unknown_name_costs_a_proof_too(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    compared: list[bool] = []
    mac, compare = auth.client_mac, hmac.compare_digest

    def counting(secret: bytes, *frames: bytes) -> bytes:
        made.append(len(secret))
        return mac(secret, *frames)

    def comparing(a: bytes, b: bytes) -> bool:
        compared.append(compare(a, b))
        return compared[-1]

    monkeypatch.setattr(auth, "client_mac", counting)
    monkeypatch.setattr(hmac, "compare_digest", comparing)
    hello = etf.frame((Atom("hello"), 1, b"sum", {}))
    for name in ("anna", "bert"):
        with pytest.raises(HandshakeRefused):
            Keyring([Grant(ANNA)]).admit(name, "sum", greeting("hmac"), hello, auth.proof_frame(bytes(32)))
    assert made == [32, 32]
    assert compared == [False, False]


def forgeries(greeted: bytes, chance: random.Random) -> Iterator[tuple[bytes, bytes]]:
    """Hello and proof, as somebody makes them who has seen right ones for other greetings, and has no key."""

    def heard() -> tuple[bytes, bytes]:
        event = next(Receiver(instance="sum", key=ANNA).receive(greeting("hmac")))
        assert isinstance(event, Greeted)
        size = 4 + int.from_bytes(event.reply[:4], "big")
        return event.reply[:size], event.reply[size:]

    def flipped(frame: bytes) -> bytes:
        at = chance.randrange(len(frame))
        return frame[:at] + bytes([frame[at] ^ 1 << chance.randrange(8)]) + frame[at + 1 :]

    def guessed(hello: bytes, proof: bytes) -> tuple[bytes, bytes]:
        return hello, auth.proof_frame(chance.randbytes(32))

    def cut(hello: bytes, proof: bytes) -> tuple[bytes, bytes]:
        return hello, proof[: chance.randrange(len(proof))]

    def other_key(hello: bytes, proof: bytes) -> tuple[bytes, bytes]:
        return hello, auth.proof_frame(auth.client_mac(chance.randbytes(32), greeted, hello))

    def no_key(hello: bytes, proof: bytes) -> tuple[bytes, bytes]:
        return hello, auth.proof_frame(hashlib.sha256(auth.CLIENT + greeted + hello).digest())

    ways: list[Callable[[bytes, bytes], tuple[bytes, bytes]]] = [
        lambda hello, proof: (hello, proof),  # replayed
        lambda hello, proof: (hello, flipped(proof)),
        lambda hello, proof: (flipped(hello), proof),
        guessed,
        cut,
        other_key,
        no_key,
    ]
    while True:
        yield chance.choice(ways)(*heard())


def test_of_ten_thousand_forged_or_replayed_handshakes_none_is_accepted() -> None:
    ring = Keyring([Grant(ANNA)])
    chance = random.Random(1)
    accepted = 0
    greeted = greeting("hmac")
    forged = forgeries(greeted, chance)
    for _ in range(FORGERIES):
        hello, proof = next(forged)
        try:
            ring.admit("anna", "sum", greeted, hello, proof)
            accepted += 1
        except HandshakeRefused as refused:
            assert refused.reason == "auth"  # noqa: PT017 (a with block ten thousand times is slow)
    assert accepted == 0
    event = next(Receiver(instance="sum", key=ANNA).receive(greeted))  # and the right one is
    assert isinstance(event, Greeted)
    size = 4 + int.from_bytes(event.reply[:4], "big")
    assert ring.admit("anna", "sum", greeted, event.reply[:size], event.reply[size:]).key is ANNA


def test_one_flipped_bit_anywhere_is_a_wrong_proof_of_the_server() -> None:
    admitted = shake(Keyring([Grant(ANNA)]), ANNA, "sum")
    frames = (admitted.greeting, admitted.hello, admitted.proof, WELCOME)
    right = auth.server_mac(SECRET, *frames)
    for which in range(4):
        for at in range(len(frames[which])):
            changed = list(frames)
            changed[which] = frames[which][:at] + bytes([frames[which][at] ^ 1]) + frames[which][at + 1 :]
            assert auth.server_mac(SECRET, *changed) != right


@pytest.mark.parametrize("term", [(), Atom("proof"), (Atom("proof"),), (b"proof", b"x"), (Atom("proof"), [1, 2]), b"x"])
def test_what_is_no_proof_holds_no_code(term: object) -> None:
    assert auth.parse_proof(etf.encode(term)) == b""


def test_a_proof_fits_into_what_is_read_of_one() -> None:
    older = b"\x83h\x02d\0\x05proofm\0\0\0\x20" + bytes(32)
    assert auth.parse_proof(older) == bytes(32)
    assert len(older) <= auth.PROOF_MAX
    assert len(auth.proof_frame(bytes(32))) - 4 <= auth.PROOF_MAX


@pytest.mark.parametrize(
    ("name", "secret"), [("", SECRET), ("n" * 65, SECRET), ("anna", b"s3cr3t!" * 4), ("anna", b"s3cr3t!" * 200)]
)
def test_what_is_no_key_is_said_without_showing_it(name: str, secret: bytes) -> None:
    with pytest.raises(ValueError, match="a key") as wrong:
        Key(name, secret)
    assert "s3cr3t" not in str(wrong.value)


def test_a_key_is_not_printed() -> None:
    key = Key("anna", b"s3cr3t!" * 5)
    admitted = Admitted(key, b"", b"", b"")
    for thing in (key, Grant(key), admitted, Keyring([Grant(key)])):
        assert "s3cr3t" not in f"{thing!r} {thing}"
