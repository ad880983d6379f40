# SPDX-License-Identifier: MIT
"""Sessions that are wrong in every way we know, against a daemon on a loopback port: the process of malformed.py that
holds them.

    python tests/soak/malformed_sessions.py PORT FIRST LAST

Each is made of its number alone, so that one can be had again. Many are open at a time. What the service says is taken
apart: anything that is no frame of docs/protocol.md, and a connection that it does not end, is told on standard output,
a line each, and then how many sessions of each kind there were.
"""

from __future__ import annotations

import random
import socket
import struct
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT)]

from gendriverd import etf  # noqa: E402 (its path is set above)
from gendriverd.etf import Atom, EtfError, Limits, Term  # noqa: E402

AT_ONCE = 32
SECONDS = 20.0  # for the service to end what is ended
CALL, CAST, CANCEL, PING, CREDIT, NOTES = map(Atom, ("call", "cast", "cancel", "ping", "credit", "notes"))
SAID = {"gen_driver", "welcome", "refused", "reply", "failed", "pong", "goodbye", "part", "note"}
HELLO = etf.frame((Atom("hello"), 1, b"echo", {}))
ANY = Limits(depth=140)  # a reply is deeper than its request
OVER = (1 << 18) + 1  # malformed.py lets a frame have 256 KiB

Session = Callable[[random.Random], bytes]  # what is sent, all of it


def vectors(name: str) -> list[bytes]:
    lines = (ROOT / "tests/vectors" / name).read_text(encoding="utf-8").splitlines()
    return [bytes.fromhex(line.split("\t")[1]) for line in lines if line and not line.startswith("#")]


TERMS, ENVELOPES = vectors("terms.txt"), vectors("envelopes.txt")


def framed(body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + body


def messages(rng: random.Random, count: int) -> bytes:
    """Right ones, as of any client."""
    each: list[Term] = [
        (CALL, rng.randrange(100), rng.choice([1, 2, 3, 99]), rng.choice([b"x" * rng.randrange(300), [1, {}], 1.5])),
        (CALL, rng.randrange(100), 1, [], {Atom("timeout"): rng.randrange(3), Atom("key"): rng.randrange(9)}),
        (CAST, 1, (Atom("a"), [1, 2, 300])),
        (PING, rng.randrange(1000)),
        (CANCEL, rng.randrange(100)),
        (CREDIT, rng.randrange(100), 1 + rng.randrange(9)),
        (NOTES, rng.random() < 0.5),
    ]
    return b"".join(etf.frame(rng.choice(each)) for _ in range(count))


# --- what is sent --------------------------------------------------------------


def garbage(rng: random.Random) -> bytes:
    return rng.randbytes(rng.randrange(1, 3000))


def http(rng: random.Random) -> bytes:
    return rng.choice(
        [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"SSH-2.0-x\r\n"]
    )


def bad_hello(rng: random.Random) -> bytes:
    hello = Atom("hello")
    terms: list[Term] = [
        (hello, 1, b"nobody", {}),
        (hello, 2, b"echo", {}),
        (hello, -1, b"echo", {}),
        (hello, 1, b"echo"),
        (hello, 1, b"echo", []),
        (hello, 1, b"\xff\0" * 100, {}),
        (hello, 1, b"x" * 4090, {}),
        (hello, 1, b"echo", {Atom("key"): b"anna", Atom("nonce"): bytes(32)}),
        (Atom("proof"), bytes(32)),
        b"hello",
        [],
    ]
    return framed(rng.choice(TERMS)) if rng.random() < 0.3 else etf.frame(rng.choice(terms))


def long_hello(rng: random.Random) -> bytes:
    return struct.pack(">I", rng.choice([4097, 1 << 20, 1 << 31, (1 << 32) - 1])) + HELLO[4:]


def half_hello(rng: random.Random) -> bytes:
    return HELLO[: rng.randrange(len(HELLO))]


def two_hellos(rng: random.Random) -> bytes:
    return HELLO + HELLO + messages(rng, 3)


def half_frame(rng: random.Random) -> bytes:
    data = messages(rng, rng.randrange(1, 5))
    return HELLO + data[: rng.randrange(1, len(data))]


def over_the_limit(rng: random.Random) -> bytes:
    return HELLO + messages(rng, 2) + struct.pack(">I", rng.choice([OVER, 1 << 24, 1 << 31, (1 << 32) - 1])) + b"\x83h"


def large_claim(rng: random.Random) -> bytes:
    return HELLO + struct.pack(">I", OVER - 1) + b"\x83" + rng.randbytes(rng.randrange(100_000))


def bad_term(rng: random.Random) -> bytes:
    return HELLO + messages(rng, 2) + framed(rng.choice(TERMS)) + messages(rng, 2)


def bad_params(rng: random.Random) -> bytes:
    return HELLO + framed(b"\x83h\x04w\x04calla\x01a\x01" + rng.choice(TERMS)[1:]) + messages(rng, 2)


def envelopes(rng: random.Random) -> bytes:
    return HELLO + b"".join(framed(rng.choice(ENVELOPES)) for _ in range(rng.randrange(1, 6)))


def mutated(rng: random.Random) -> bytes:
    data = bytearray((HELLO if rng.random() < 0.9 else b"") + messages(rng, rng.randrange(1, 20)))
    since = len(HELLO) if rng.random() < 0.8 else 0
    for _ in range(rng.randrange(1, 6)):
        data[rng.randrange(min(since, len(data) - 1), len(data))] = rng.randrange(256)
    return bytes(data[: rng.randrange(1, len(data) + 1)])


def duplicates(rng: random.Random) -> bytes:
    number = rng.randrange(1 << 31)
    return HELLO + etf.frame((CALL, number, 1, b"x" * rng.choice([1, 10_000]))) * rng.randrange(2, 50)


def floods(rng: random.Random) -> bytes:
    terms: list[Term] = [
        (PING, 1),
        (CANCEL, 5),
        (CREDIT, 5, 1),
        (NOTES, True),
        (CAST, 1, []),
        (Atom("goodbye"), Atom("x")),
    ]
    pair = etf.frame((CALL, 1, 1, [])) + etf.frame((CANCEL, 1))
    return HELLO + rng.choice([*map(etf.frame, terms), pair]) * rng.randrange(100, 3000)


def deep(rng: random.Random) -> bytes:
    depth = rng.choice([127, 128, 129, 10_000])
    return HELLO + framed(b"\x83h\x04w\x04calla\x01a\x01" + b"l\0\0\0\1" * depth + b"j" + b"j" * depth)


def nothing(rng: random.Random) -> bytes:
    return b"" if rng.random() < 0.5 else HELLO


def unread(rng: random.Random) -> bytes:
    return HELLO + b"".join(etf.frame((CALL, i, 1, b"u" * 60_000)) for i in range(rng.randrange(1, 40)))


def right(rng: random.Random) -> bytes:
    return HELLO + messages(rng, rng.randrange(1, 20))


KINDS: tuple[Session, ...] = (
    *(garbage, http, bad_hello, long_hello, half_hello, two_hellos, half_frame, over_the_limit, large_claim, bad_term),
    *(bad_params, envelopes, mutated, mutated, duplicates, floods, deep, nothing, unread, right),
)


# --- how it ends ---------------------------------------------------------------


def send_in_pieces(sock: socket.socket, data: bytes, rng: random.Random) -> None:
    while data:
        size = rng.choice([1, 3, 100, 1 << 14, len(data)]) if len(data) < 5000 else len(data)
        sock.sendall(data[:size])
        data = data[size:]


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def read_to_the_end(sock: socket.socket) -> bytes:
    parts = []
    while data := sock.recv(1 << 16):
        parts.append(data)
    return b"".join(parts)


def what_is_no_frame(said: bytes) -> str:
    """Of what the service has said; empty: all of it is."""
    while len(said) >= 4 and len(said) >= 4 + (size := int.from_bytes(said[:4])):
        try:
            term = etf.decode(said[4 : 4 + size], ANY)
        except EtfError as error:
            if error.reason != "not_representable":
                return f"no term: {said[: 4 + size][:80]!r}"
        else:
            if not isinstance(term, tuple) or str(term[0]) not in SAID:
                return f"no message: {term!r}"[:200]
        said = said[4 + size :]
    return f"half a frame: {said[:80]!r}" if said else ""


def hold(port: int, number: int) -> tuple[str, str]:
    """One session: its kind, and what the service did wrong or nothing."""
    rng = random.Random(number)
    kind = KINDS[number % len(KINDS)]
    data, ending = kind(rng), rng.random()
    with socket.create_connection(("127.0.0.1", port), SECONDS) as sock:
        try:
            send_in_pieces(sock, data, rng)
            if ending < 0.2:
                reset(sock)
                return kind.__name__, ""
            if ending < 0.3 or kind is unread:
                return kind.__name__, ""
            sock.shutdown(socket.SHUT_WR)
            return kind.__name__, what_is_no_frame(read_to_the_end(sock))
        except ConnectionError:  # what was sent behind the end resets it, and its last words with it
            return kind.__name__, ""
        except TimeoutError:
            return kind.__name__, f"it did not end within {SECONDS:g} s"


def main() -> int:
    port, first, last = (int(argument) for argument in sys.argv[1:4])
    numbers, lock, counted = iter(range(first, last)), threading.Lock(), Counter[str]()

    def work() -> None:
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            kind, wrong = hold(port, number)
            with lock:
                counted[kind] += 1
                if wrong:
                    print(f"session {number}, {kind}: {wrong}", flush=True)

    threads = [threading.Thread(target=work) for _ in range(AT_ONCE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print("held", *(f"{kind} {count}" for kind, count in sorted(counted.items())), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
