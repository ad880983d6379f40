# SPDX-License-Identifier: MIT
"""Forged and replayed handshakes against a real daemon, many at a time: none is accepted, and nobody else notices.

    python tests/soak/forged.py N

In rotation, as somebody makes them who sees every honest exchange, or who has a key, but not the right one. Meanwhile
an honest client connects and calls, again and again. Ends with 1 when one is accepted, or judged otherwise than a wrong
proof; when the honest client fails once; when the daemon has more descriptors afterwards, or grows.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

import trio  # noqa: E402 (its path is set above)

from gendriverd import auth, etf  # noqa: E402
from gendriverd.auth import Key  # noqa: E402
from gendriverd.client import open_client  # noqa: E402
from gendriverd.client.introduction import Introduction  # noqa: E402
from gendriverd.etf import Atom  # noqa: E402
from running_daemon import RunningDaemon, open_files, running_daemon  # noqa: E402

AT_ONCE = 64
WARM = 2000  # of these at most: before them nothing is measured
SETTLED = 60.0  # seconds for the last sockets to be closed
GROWTH = 4 * 2**20  # bytes of resident memory that are no leak
ANNA = Key("anna", random.SystemRandom().randbytes(48))
BERT = Key("bert", random.SystemRandom().randbytes(48))  # opens sum alone
chance = random.Random(1)


@dataclass(frozen=True)
class Exchange:
    """What was said and heard on one connection: frames, whole."""

    greeting: bytes
    hello: bytes
    proof: bytes
    theirs: bytes = b""  # the daemon's proof


def right(greeting: bytes, key: Key = ANNA, instance: str = "echo") -> Exchange:
    said = Introduction(instance, key).greeted(greeting, etf.decode(greeting[4:])[2])
    size = 4 + int.from_bytes(said[:4], "big")
    return Exchange(greeting, said[:size], said[size:])


def code(frame: bytes) -> bytes:
    return auth.parse_proof(frame[4:])


def flipped(data: bytes) -> bytes:
    at = chance.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]


def nonce(frame: bytes) -> bytes:
    term = etf.decode(frame[4:])
    found = term[2 if term[0] == Atom("gen_driver") else 3][Atom("nonce")]
    assert isinstance(found, bytes)
    return found


def swapped(made: Exchange) -> bytes:
    """By the right key, as if each nonce were the other end's."""
    ours, theirs = nonce(made.hello), nonce(made.greeting)
    frames = made.greeting.replace(theirs, ours), made.hello.replace(ours, theirs)
    return auth.proof_frame(auth.client_mac(ANNA.secret, *frames))


def with_bit_of_hello(made: Exchange) -> bytes:
    return made.hello.replace(nonce(made.hello), flipped(nonce(made.hello))) + made.proof


def whole(made: Exchange) -> bytes:
    return made.hello + made.proof


# From a right exchange for this greeting, and one overheard, what is sent.
WAYS: dict[str, Callable[[Exchange, Exchange], bytes]] = {
    "a random proof": lambda made, _: made.hello + auth.proof_frame(chance.randbytes(32)),
    "a whole exchange, replayed": lambda _, heard: whole(heard),
    "an overheard proof, a new hello": lambda made, heard: made.hello + heard.proof,
    "one bit of a right proof": lambda made, _: made.hello + auth.proof_frame(flipped(code(made.proof))),
    "one bit of the hello's nonce": lambda made, _: with_bit_of_hello(made),
    "a right key, another instance": lambda made, _: whole(right(made.greeting, BERT)),
    "another key's secret": lambda made, _: whole(right(made.greeting, Key("anna", BERT.secret))),
    "a name of nobody": lambda made, _: whole(right(made.greeting, Key("carl", ANNA.secret))),
    "the daemon's proof, reflected": lambda _, heard: heard.hello + heard.theirs,
    "the daemon's label": lambda made, _: (
        made.hello + auth.proof_frame(auth.server_mac(ANNA.secret, made.greeting, made.hello, b"", b""))
    ),
    "nonces swapped": lambda made, _: made.hello + swapped(made),
    "an empty proof": lambda made, _: made.hello + auth.proof_frame(b""),
    "a short proof": lambda made, _: made.hello + auth.proof_frame(code(made.proof)[: chance.randrange(1, 32)]),
    "a long proof": lambda made, _: made.hello + auth.proof_frame(code(made.proof) + chance.randbytes(1)),
    "cut off": lambda made, _: made.hello + made.proof[: chance.randrange(len(made.proof))],
}
CUT = "cut off"  # nothing can be said to it


class Wire:
    """A connection on which frames are read whole."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._held = b""

    async def frame(self) -> bytes:
        """Empty at the end."""
        while len(self._held) < 4 or len(self._held) < 4 + int.from_bytes(self._held[:4], "big"):
            chunk = await self.stream.receive_some(65536)
            if not chunk:
                return b""
            self._held += chunk
        size = 4 + int.from_bytes(self._held[:4], "big")
        frame, self._held = self._held[:size], self._held[size:]
        return frame


class Attack:
    def __init__(self, url: str, times: int) -> None:
        host, port = url.removeprefix("tcp://").rsplit(":", 1)
        self._address = host, int(port)
        self._url = url
        self._numbers: Iterator[int] = iter(range(times))
        self.heard = Exchange(b"", b"", b"")
        self.outcomes: Counter[tuple[str, str]] = Counter()
        self.served = 0
        self.problems: list[str] = []
        self.done = False

    async def overhear(self) -> None:
        """An honest exchange, to its end."""
        async with await trio.open_tcp_stream(*self._address) as stream:
            wire = Wire(stream)
            made = right(await wire.frame())
            await stream.send_all(whole(made))
            if etf.decode((await wire.frame())[4:])[0] != Atom("welcome"):
                raise SystemExit("a right proof is not taken: nothing can be said of wrong ones")
            self.heard = Exchange(made.greeting, made.hello, made.proof, await wire.frame())

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(AT_ONCE):
                nursery.start_soon(self._forge)

    async def be_honest(self) -> None:
        """Until the attack is done."""
        while not self.done:
            try:
                async with open_client(self._url, "echo", key=(ANNA.name, ANNA.secret)) as client:
                    if await client.call("echo", self.served) != (Atom("ok"), self.served):
                        self.problems.append("the honest client got a wrong answer")
                self.served += 1
                if self.served % 10 == 0:
                    await self.overhear()
            except Exception as error:  # noqa: BLE001 (whatever it is, it should not be)
                self.problems.append(f"the honest client was not served: {error!r}")

    async def _forge(self) -> None:
        names = list(WAYS)
        for number in self._numbers:
            name = names[number % len(names)]
            outcome = await self._outcome(WAYS[name])
            self.outcomes[name, outcome] += 1

    async def _outcome(self, way: Callable[[Exchange, Exchange], bytes]) -> str:
        async with await trio.open_tcp_stream(*self._address) as stream:
            wire = Wire(stream)
            await stream.send_all(way(right(await wire.frame()), self.heard))
            await stream.send_eof()
            answer = await wire.frame()
        if not answer:
            return "closed"
        term = etf.decode(answer[4:])
        return f"refused: {term[1]}" if term[0] == Atom("refused") else str(term[0])

    def verdict(self) -> list[str]:
        """What was not judged as it should be."""
        told = {name: "closed" if name == CUT else "refused: auth" for name in WAYS}
        wrong = {key: n for key, n in self.outcomes.items() if key[1] != told[key[0]]}
        return [f"{name}: {outcome}, {n} times" for (name, outcome), n in wrong.items()]


def resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def descriptors(pid: int, most: int) -> int:
    """As soon as there are no more than `most`, or when the time for that is over."""
    with trio.move_on_after(SETTLED):
        while len(open_files(pid)) > most:  # noqa: ASYNC110 (nobody tells)
            await trio.sleep(0.05)
    return len(open_files(pid))


async def attack(daemon: RunningDaemon, times: int) -> list[str]:
    url, quiet = daemon.tcp_url, len(open_files(daemon.pid))
    warm = Attack(url, min(WARM, times))
    await warm.overhear()
    await warm.run()
    fds, memory = await descriptors(daemon.pid, quiet), resident(daemon.pid)
    main = Attack(url, times)
    await main.overhear()
    began = time.monotonic()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(main.be_honest)
        await main.run()
        main.done = True
    seconds = time.monotonic() - began
    afterwards = Attack(url, 0)
    await afterwards.overhear()
    fds_now, memory_now = await descriptors(daemon.pid, fds), resident(daemon.pid)
    report(main, times, seconds)
    print(f"the daemon: {fds} descriptors, then {fds_now}; {memory >> 10} KiB resident, then {memory_now >> 10} KiB")
    problems = warm.verdict() + main.verdict() + main.problems[:10]
    if fds_now > fds:
        problems.append(f"{fds_now - fds} descriptors were left open")
    if memory_now > memory + GROWTH:
        problems.append(f"the daemon grew by {memory_now - memory >> 10} KiB")
    if main.served == 0:
        problems.append("the honest client was never served")
    return problems


def report(main: Attack, times: int, seconds: float) -> None:
    for name in WAYS:
        outcomes = ", ".join(f"{outcome}: {n}" for (each, outcome), n in main.outcomes.items() if each == name)
        print(f"{name:36}{outcomes}")
    accepted = sum(n for (_, outcome), n in main.outcomes.items() if outcome == "welcome")
    print(f"{times} forged handshakes in {seconds:.1f} s, {AT_ONCE} at a time: {accepted} accepted")
    print(f"the honest client was served {main.served} times meanwhile, and afterwards")


def key_file(directory: Path, key: Key) -> Path:
    path = directory / f"{key.name}.key"
    path.touch(0o600)
    path.write_bytes(key.secret)
    return path


def main() -> int:
    times = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    drivers = Path(os.environ.get("GENDRIVERD_DRIVERS") or ROOT / "build/drivers")
    instances = {name: {"driver": str(drivers / f"{name}.so")} for name in ("echo", "sum")}
    with tempfile.TemporaryDirectory(prefix="gendriverd-soak-") as name:
        directory = Path(name)
        keys: dict[str, dict[str, object]] = {
            "anna": {"file": key_file(directory, ANNA)},
            "bert": {"file": key_file(directory, BERT), "instances": ["sum"]},
        }
        settings = {"auth": "hmac", "log_level": "info"}
        with running_daemon(directory, instances, settings=settings, keys=keys) as daemon:
            problems = trio.run(attack, daemon, times)
    for problem in problems:
        print(f"PROBLEM: {problem}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
