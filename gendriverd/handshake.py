# SPDX-License-Identifier: MIT
"""The handshake with a client, and the hand-over of its socket to a host: all that the daemon ever reads of a client.

Hello and proof are read exactly, 4 then n bytes, so that pipelined requests stay in the socket. A client that is not
let in hears why in a last frame, and that frame arrives: it is sent, the sending side shut down, the rest read away,
then closed. With keys nothing is said of instances before the client has proved that it knows one. Who may begin one at
all is admission.py's to say.
"""

from __future__ import annotations

import os
import random
import socket
from typing import NamedTuple, NoReturn

import trio

from gendriverd import PROTOCOL, __version__, etf
from gendriverd.admission import Admission, Bounds, Places, Verdict
from gendriverd.auth import ANYBODY, NONCE, PROOF_MAX, Admitted, Keyring
from gendriverd.client_lines import NAMES_SHOWN, ClientLines, LinesBySource
from gendriverd.connections import Handover
from gendriverd.errors import ClientGone, HandshakeRefused
from gendriverd.etf import Atom, EtfError
from gendriverd.farewell import AT_ONCE, LINGER, Socket, closing, say_last, send_all
from gendriverd.instance import Instance
from gendriverd.keys import Keys
from gendriverd.lifetime import Lifetime
from gendriverd.log import LineBudget, Log
from gendriverd.messages import Ready
from gendriverd.schema import DaemonConfig
from gendriverd.sources import Peer
from gendriverd.supervisor import Supervisor

HELLO_MAX = 4096
LIMITS = etf.Limits(depth=16, terms=512, bignum=64)
WELCOME_LIMITS = ("frame", "depth", "terms", "bignum", "in_flight", "in_flight_bytes")


class Hello(NamedTuple):
    """What a client says of itself; without a key, `key` and `nonce` are empty."""

    instance: str
    key: str
    nonce: bytes


def greeting(auth: str) -> bytes:
    about = {
        Atom("server"): f"gendriverd {__version__}".encode(),
        Atom("auth"): Atom(auth),
        Atom("nonce"): os.urandom(NONCE),
    }
    return etf.frame((Atom("gen_driver"), PROTOCOL, about))


def refused(reason: str) -> bytes:
    return etf.frame((Atom("refused"), Atom(reason)))


def welcome(instance: Instance, generation: int, ready: Ready) -> bytes:
    limits = instance.config.limits.model_dump()
    about = {
        Atom("instance"): instance.name.encode(),
        Atom("generation"): generation,
        Atom("threads"): instance.config.threads,
        Atom("commands"): {name.encode(): number for name, number in ready.commands.items()},
        Atom("atoms"): [atom.encode() for atom in ready.atoms],
        Atom("limits"): {Atom(key): limits[key] for key in WELCOME_LIMITS},
        Atom("last_exit"): Atom("none") if instance.last_exit is None else instance.last_exit[:200].encode(),
    }
    return etf.frame((Atom("welcome"), PROTOCOL, about))


def parse_hello(data: bytes) -> Hello:
    """Raises HandshakeRefused."""
    try:
        term = etf.decode(data, LIMITS)
    except EtfError:
        raise HandshakeRefused("bad_hello") from None
    match term:
        case (Atom() as tag, int() as version, *rest) if tag == Atom("hello") and not isinstance(version, bool):
            if version != PROTOCOL:
                raise HandshakeRefused("bad_version")
            match rest:
                case [bytes() as name, dict() as about]:
                    key, nonce = about.get(Atom("key")), about.get(Atom("nonce"))
                    return Hello(_text(name), _text(key), nonce if isinstance(nonce, bytes) else b"")
    raise HandshakeRefused("bad_hello")


def _text(name: object) -> str:
    return name.decode("utf-8", "backslashreplace") if isinstance(name, bytes) else ""


Certified = tuple[str, ...] | None  # the names in a client's verified certificate; None: it has shown none


class Handshakes:
    """At most `handshake_pending` that have not said hello, and for each instance as many that wait for it; as many
    again are waited for when they have heard why they are not let in; the rest is closed at once. Of all of these each
    source has its share. `users`: who may connect on unix sockets; None: all.
    """

    def __init__(
        self, supervisor: Supervisor, config: DaemonConfig, users: frozenset[int] | None, keys: Keys, log: Log
    ) -> None:
        self._supervisor = supervisor
        self._config = config
        self._users = users
        self._admission = Admission(Bounds.of(config), random.SystemRandom().random)
        self._keys = keys
        self._log = log
        self._lines = LinesBySource()
        self._serving = 0
        self._waiting_for: dict[str, Places] = {}  # have said hello and wait, by instance
        self._stopping = False
        self._waiting: set[trio.CancelScope] = set()
        self._idle = trio.Event()
        self._parting = Places()  # are told why they are not let in
        self._refusals = LineBudget(burst=200, per_second=20)
        self._penalties = LineBudget(burst=200, per_second=20)

    async def stop(self) -> None:
        """Whoever is not handed over yet is refused: draining. Returns when they have heard it, or had the time to."""
        self._stopping = True
        for scope in self._waiting:
            scope.cancel()
        if self._serving:
            with trio.move_on_after(LINGER):
                await self._idle.wait()

    def configure(self, config: DaemonConfig, users: frozenset[int] | None) -> None:
        """For those who come from now on."""
        self._config, self._users = config, users
        self._admission.bounds = Bounds.of(config)

    async def serve(self, client: Socket, peer: Peer, certified: Certified = None) -> None:
        """One client, from accept to hand-over or refusal; closes our copy of its socket. Never raises.

        `certified`: who it is was proved below us; then it owes no proof here, and is refused where no key has one of
        these names.
        """
        try:
            with closing(client):
                match self._admission.enter(peer.source, trio.current_time()):
                    case Verdict.COME_IN:
                        await self._admit(client, peer, certified)
                    case Verdict.BUSY if self._parting.has_room(peer.source, self._admission.bounds):
                        self._log_refusal({"peer": peer.name}, "busy")
                        await self._part(client, peer, greeting(self._auth()) + refused("busy"))
        except (ClientGone, OSError) as error:
            self._log.debug("client_gone", peer=peer.name, reason=str(error))
        except Exception:  # noqa: BLE001 (one client is no reason to end the daemon)
            self._log.exception("handshake_error", peer=peer.name)

    async def _admit(self, client: Socket, peer: Peer, certified: Certified) -> None:
        self._serving += 1
        about = {"peer": peer.name}
        if certified is not None:
            self._say(peer, "tls_client", **about, certificate=list(certified[:NAMES_SHOWN]))
        try:
            await self._shake(client, peer, certified, about)
        except HandshakeRefused as refusal:
            self._log_refusal(about, refusal.reason, refusal.why)
            await self._part(client, peer, refused(refusal.reason))
        finally:
            self._serving -= 1
            if self._stopping and not self._serving:
                self._idle.set()

    async def _part(self, client: Socket, peer: Peer, words: bytes) -> None:
        """Where too many are waited for, it is not: it holds a descriptor, and what it has not heard by now is lost."""
        if not self._parting.has_room(peer.source, self._admission.bounds):
            await client.send(words, AT_ONCE)  # there is room: it was sent nothing but a greeting
            return
        self._parting.take(peer.source)
        try:
            await say_last(client, words)
        finally:
            self._parting.give_back(peer.source)

    async def _shake(self, client: Socket, peer: Peer, certified: Certified, about: dict[str, str]) -> None:
        """Adds to `about`, which is for the log, what the client says of itself."""
        late = "bad_hello"
        with trio.move_on_after(self._config.handshake_timeout) as scope:
            self._waiting.add(scope)
            try:
                admitted = await self._hear(client, peer, certified, about)
                instance = self._supervisor.find(about["instance"])
                late = "unavailable"
                await self._wait_in_line(instance, client, peer, admitted, about)
            finally:
                self._waiting.remove(scope)
            return
        raise HandshakeRefused("draining" if self._stopping else late)

    def _auth(self) -> str:
        return "none" if self._keys.ring is None else "hmac"

    async def _hear(self, client: Socket, peer: Peer, certified: Certified, about: dict[str, str]) -> Admitted:
        """Greet it and let it prove what it has to; whatever ends this otherwise counts against its source."""
        try:
            admitted = await self._greet(client, peer, certified, about)
        except BaseException as error:
            left = isinstance(error, ClientGone | OSError)
            if not (self._stopping or (left and peer.epoch is not None)):  # behind a front it may be this that has died
                self._blame(peer)
            raise
        finally:
            self._admission.leave(peer.source)
        self._admission.succeeded(peer.source)
        if admitted is not ANYBODY:
            self._say(peer, "client_authenticated", **about)
        return admitted

    def _blame(self, peer: Peer) -> None:
        now = trio.current_time()
        penalty = self._admission.failed(peer.source, now)
        if penalty is not None and self._penalties.allows(now):
            more = self._penalties.take_dropped()
            self._log.warning("source_penalised", **penalty._asdict(), **({"not_logged": more} if more else {}))

    async def _greet(self, client: Socket, peer: Peer, certified: Certified, about: dict[str, str]) -> Admitted:
        """What it asks for goes into `about`."""
        ring = self._keys.ring
        greeted = greeting("none" if certified is not None else self._auth())
        await send_all(client, greeted)
        self._check_user(peer)
        said = await read_frame(client)
        hello = parse_hello(said[4:])
        about["instance"] = hello.instance
        if ring is None:
            return ANYBODY
        if certified is not None:
            return self._of_certificate(ring, certified, about)
        return await self._prove(ring, greeted, said, hello, client, about)

    def _check_user(self, peer: Peer) -> None:
        if peer.user is not None and self._users is not None and peer.user not in self._users:
            raise HandshakeRefused("auth", "a user who is not in unix_users")

    def _of_certificate(self, ring: Keyring, names: tuple[str, ...], about: dict[str, str]) -> Admitted:
        admitted = ring.certify(names, about["instance"])
        about["key"] = admitted.grant.name
        return admitted

    async def _prove(
        self, ring: Keyring, greeted: bytes, said: bytes, hello: Hello, client: Socket, about: dict[str, str]
    ) -> Admitted:
        """A client that has named no key is not waited for: it does not know that it should."""
        if not hello.key or len(hello.nonce) != NONCE:
            raise HandshakeRefused("auth", "no key")
        if ring.knows(hello.key):  # else it could be anything, a secret too
            about["key"] = hello.key
        proof = await read_frame(client, PROOF_MAX, "auth")
        return ring.admit(hello.key, hello.instance, greeted, said, proof)

    async def _wait_in_line(
        self, instance: Instance, client: Socket, peer: Peer, admitted: Admitted, about: dict[str, str]
    ) -> None:
        """An instance that does not come up costs the others no place."""
        places = self._waiting_for.setdefault(instance.name, Places())
        if not places.has_room(peer.source, self._admission.bounds):
            raise HandshakeRefused("busy")
        places.take(peer.source)
        try:
            await self._hand_over(instance, client, peer, admitted, about)
        finally:
            places.give_back(peer.source)

    def _still(self, admitted: Admitted, peer: Peer) -> Admitted:
        """It has waited, and a reload may have taken away what let it in. Raises HandshakeRefused."""
        self._check_user(peer)
        if peer.epoch is not None and peer.epoch.over:
            raise HandshakeRefused("busy", "certificates were renewed meanwhile")  # by these it may come in anew
        return admitted if self._keys.ring is None else admitted.again(self._keys.ring)

    async def _hand_over(
        self, instance: Instance, client: Socket, peer: Peer, admitted: Admitted, about: dict[str, str]
    ) -> None:
        """Until a host has adopted it. A host that dies or refuses leaves it untouched for the next one."""
        asked: Lifetime | None = None
        while True:
            try:
                life = await instance.wait_ready()
            except HandshakeRefused:
                successor = self._supervisor.find(instance.name)
                if successor is instance:
                    raise
                instance = successor  # a reload has put it in its place
                continue
            admitted = self._still(admitted, peer)
            if life is asked or life.ready is None or life.permissions is None:
                raise HandshakeRefused("unavailable")
            asked = life
            if life.welcome is None:
                life.welcome = welcome(instance, life.generation, life.ready)
            first = admitted.answer(life.welcome)
            allowed = life.permissions.of(admitted.grant, instance.name)
            with trio.CancelScope(shield=True):  # offered is offered: only its answer says whose the socket is
                limit = self._config.handshake_timeout
                outcome = await life.offer(peer.name, self._lines_of(peer), first, allowed, client.fileno(), limit)
            match outcome:
                case Handover.ADOPTED:
                    return
                case Handover.TOO_MANY:
                    raise HandshakeRefused("busy")
                case Handover.SILENT:
                    self._log_refusal(about, "silent_host")
                    client.shutdown(socket.SHUT_RDWR)
                    return
                case Handover.UNTOUCHED:
                    pass

    def _lines_of(self, peer: Peer) -> ClientLines:
        return self._lines.of(peer.source, self._config.penalty_sources)

    def _say(self, peer: Peer, event: str, /, **about: object) -> None:
        self._lines_of(peer).say(self._log, event, **about)

    def _log_refusal(self, about: dict[str, str], reason: str, why: str = "") -> None:
        if self._refusals.allows(trio.current_time()):
            more = self._refusals.take_dropped()
            also = {key: value for key, value in (("why", why), ("not_logged", more)) if value}
            self._log.info("client_refused", **about, reason=reason, **also)


async def read_frame(client: Socket, most: int = HELLO_MAX, reason: str = "bad_hello") -> bytes:
    """A frame with its length, and not a byte more. Raises ClientGone, and HandshakeRefused for `reason`."""
    head = await _read_exactly(client, 4)
    length = int.from_bytes(head, "big")
    if not 0 < length <= most:
        raise HandshakeRefused(reason)
    return head + await _read_exactly(client, length)


async def _read_exactly(client: Socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        chunk = await client.recv(count - len(data), AT_ONCE)
        if not chunk:
            _gone(len(data))
        data += chunk
    return data


def _gone(read: int) -> NoReturn:
    raise ClientGone(f"left after {read} bytes of a frame" if read else "left without a hello")
