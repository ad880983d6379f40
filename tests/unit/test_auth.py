# SPDX-License-Identifier: MIT
"""Proofs without sockets: the shared vectors, and that nothing but a right proof of this handshake is ever taken."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gendriverd import auth, etf
from gendriverd.auth import Admitted, Commands, Grant, Key, Keyring, Proved
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
    ring = Keyring([Grant(name, (Key(name, secret),))])
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


def shake(ring: Keyring, key: Key, instance: str, wanted: str = "sum") -> Proved:
    """A client of ours that wants `wanted`, against a server that reads `instance` in its hello."""
    greeted = greeting("hmac")
    event = next(Receiver(instance=wanted, key=key).receive(greeted))
    assert isinstance(event, Greeted)
    size = 4 + int.from_bytes(event.reply[:4], "big")
    return ring.admit(key.name, instance, greeted, event.reply[:size], event.reply[size:])


def test_client_and_server_agree_with_several_keys_for_one_instance() -> None:
    new = Key("anna-2", os.urandom(1024))
    ring = Keyring([Grant("anna", (ANNA,), instances={"sum": None}), Grant("anna-2", (new,))])
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
        shake(Keyring([Grant("anna", (ANNA,), instances={"sum": None})]), key, instance)
    assert refused.value.reason == "auth"
    assert why in refused.value.why


NEW = Key("anna", bytes(reversed(range(32))))
BERT = Key("bert", b"b" * 32)


def test_each_secret_of_a_name_will_do_and_the_daemon_proves_the_same_one() -> None:
    ring = Keyring([Grant("anna", (ANNA, NEW)), Grant("bert", (BERT,))])
    for key in (ANNA, NEW):
        proved = shake(ring, key, "sum")
        assert proved.key is key
        mac = auth.server_mac(key.secret, proved.greeting, proved.hello, proved.proof, WELCOME)
        assert proved.answer(WELCOME) == WELCOME + auth.proof_frame(mac)
    with pytest.raises(HandshakeRefused):
        shake(ring, Key("anna", BERT.secret), "sum")
    with pytest.raises(HandshakeRefused):
        shake(ring, Key("bert", NEW.secret), "sum")


@pytest.mark.parametrize(
    ("name", "secret", "right"),
    [
        ("anna", ANNA.secret, [True, False, False]),
        ("anna", NEW.secret, [False, True, False]),
        ("anna", BERT.secret, [False, False, False]),
        ("bert", BERT.secret, [True, False, False]),
        ("carl", ANNA.secret, [False, False, False]),
        ("dora", ANNA.secret, [False, False, False]),
    ],
)
def test_every_name_costs_the_same_work_whichever_secret_is_right(
    monkeypatch: pytest.MonkeyPatch, name: str, secret: bytes, right: list[bool]
) -> None:
    made: list[int] = []
    compared: list[bool] = []
    mac, compare = auth.client_mac, hmac.compare_digest

    def counting(secret: bytes, *frames: bytes) -> bytes:
        made.append(len(secret))
        return mac(secret, *frames)

    def comparing(a: bytes, b: bytes) -> bool:
        compared.append(compare(a, b))
        return compared[-1]

    grants = [
        Grant("anna", (ANNA, NEW, Key("anna", b"third" * 200))),
        Grant("bert", (BERT,)),
        Grant("dora", certificates=frozenset({"dora.example"})),
    ]
    greeted, hello = greeting("hmac"), etf.frame((Atom("hello"), 1, b"sum", {}))
    proof = auth.proof_frame(mac(secret, greeted, hello))
    monkeypatch.setattr(auth, "client_mac", counting)
    monkeypatch.setattr(hmac, "compare_digest", comparing)
    with contextlib.suppress(HandshakeRefused):
        Keyring(grants).admit(name, "sum", greeted, hello, proof)
    assert len(made) == 3
    assert max(made) <= auth.BLOCK  # a longer one would be hashed first
    assert compared == right


def test_a_proof_by_the_secret_of_nobody_opens_nothing() -> None:
    """It is drawn anew in each daemon; even who knew it would be refused."""
    ring = Keyring([Grant("anna", (ANNA, NEW)), Grant("bert", (BERT,))])
    for name in ("bert", "carl"):
        with pytest.raises(HandshakeRefused, match="auth"):
            shake(ring, Key(name, ring._nobodys.secret), "sum")


def test_a_certificate_opens_what_the_key_that_names_it_opens() -> None:
    bert = Grant("bert", certificates=frozenset({"bert.example", "urn:x:bert"}), instances={"sum": frozenset({"sum"})})
    ring = Keyring([Grant("anna", (ANNA,), frozenset({"anna"})), bert])
    assert ring.of_certificate(["bert.example"]) is bert
    assert ring.of_certificate(["other", "urn:x:bert"]) is bert
    for names in ([], ["bert"], ["BERT.example"], ["bert.example.org"], ["*.example"], ["x.bert.example"]):
        assert ring.of_certificate(names) is None
    assert ring.of_certificate(["anna", "bert.example"]) is not bert  # the first that is known
    with pytest.raises(HandshakeRefused):  # and it has no secret
        shake(ring, Key("bert", BERT.secret), "sum")


def test_what_a_grant_allows_on_an_instance() -> None:
    some: Commands = frozenset({"sum", 3})
    assert Grant("a").allowed("sum") is None
    assert Grant("a", commands=some).allowed("sum") == some
    grant = Grant("a", commands=None, instances={"sum": some, "echo": None})
    assert (grant.allowed("sum"), grant.allowed("echo")) == (some, None)
    assert grant.allowed("other") == frozenset()
    assert not grant.opens("other")


def test_a_servers_proof_is_none_of_a_clients() -> None:
    """Reflected: as if the client's greeting and hello had been the other end's."""
    proved = shake(Keyring([Grant("anna", (ANNA,))]), ANNA, "sum")
    frames = (proved.greeting, proved.hello, proved.proof, WELCOME)
    reflected = auth.proof_frame(auth.server_mac(SECRET, *frames))
    with pytest.raises(HandshakeRefused, match="auth"):
        Keyring([Grant("anna", (ANNA,))]).admit("anna", "sum", proved.greeting, proved.hello, reflected)


def test_swapped_nonces_make_another_proof() -> None:
    ring = Keyring([Grant("anna", (ANNA,))])
    proved = shake(ring, ANNA, "sum")
    ours = etf.decode(proved.greeting[4:])[2][Atom("nonce")]
    theirs = etf.decode(proved.hello[4:])[3][Atom("nonce")]
    assert ours != theirs
    greeted, hello = proved.greeting.replace(ours, theirs), proved.hello.replace(theirs, ours)
    swapped = auth.proof_frame(auth.client_mac(SECRET, greeted, hello))
    with pytest.raises(HandshakeRefused, match="auth"):
        ring.admit("anna", "sum", proved.greeting, proved.hello, swapped)
    with pytest.raises(HandshakeRefused, match="auth"):
        ring.admit("anna", "sum", greeted, hello, proved.proof)


@pytest.mark.parametrize("size", range(65))
def test_only_a_whole_code_is_a_proof(size: int) -> None:
    ring = Keyring([Grant("anna", (ANNA,))])
    greeted, hello = greeting("hmac"), etf.frame((Atom("hello"), 1, b"sum", {}))
    code = auth.client_mac(SECRET, greeted, hello)
    proof = auth.proof_frame((code * 3)[:size])
    if size == 32:
        assert ring.admit("anna", "sum", greeted, hello, proof).key is ANNA
    else:
        with pytest.raises(HandshakeRefused, match="auth"):
            ring.admit("anna", "sum", greeted, hello, proof)


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
    ring = Keyring([Grant("anna", (ANNA,))])
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
    admitted = shake(Keyring([Grant("anna", (ANNA,))]), ANNA, "sum")
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
    grant = Grant("anna", (key,))
    for thing in (key, grant, Admitted(grant), Proved(grant, "sum", key, b"", b"", b""), Keyring([grant])):
        assert "s3cr3t" not in f"{thing!r} {thing}"
