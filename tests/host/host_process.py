# SPDX-License-Identifier: MIT
"""A gendriver-host under test, driven by its control channel and client sockets; all blocks with a deadline."""

from __future__ import annotations

import array
import contextlib
import os
import select
import socket
import struct
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from gendriverd import etf
from gendriverd.etf import Atom
from gendriverd.recorder import Recorder

DEADLINE = 30.0  # seconds: for what must happen; only a failure waits so long

ALL = Atom("all")  # commands

LIMITS: dict[str, int] = {
    "frame": 16 << 20,
    "frame_ms": 30_000,
    "frames_bytes": 256 << 20,
    "depth": 128,
    "terms": 1_000_000,
    "bignum": 4096,
    "queue": 10_000,
    "connections": 64,
    "in_flight": 4096,
    "in_flight_bytes": 64 << 20,
    "unsent_bytes": 8 << 20,
    "unsent_ms": 30_000,
    "linger_ms": 2_000,
    "reply": 64 << 20,
}


class Peer:
    """A client's end of one connection: frames in, frames out."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        sock.settimeout(DEADLINE)
        self._buffer = b""

    def send(self, *terms: Any) -> None:
        self.sock.sendall(b"".join(etf.frame(term) for term in terms))

    def receive(self) -> Any:
        """The next frame's term; None at end of file."""
        head = self._take(4)
        if head is None:
            return None
        body = self._take(struct.unpack(">I", head)[0])
        assert body is not None, "end of file in mid-frame"
        return etf.decode(body)

    def unread(self, data: bytes) -> None:
        """Take back what was received from the socket itself, before anything else was."""
        self._buffer = data + self._buffer

    def has_more(self) -> bool:
        """Something has come that was not received."""
        return bool(self._buffer) or bool(select.select([self.sock], [], [], 0)[0])

    def receive_all(self) -> list[Any]:
        """Every frame up to the end of file."""
        frames = []
        while (frame := self.receive()) is not None:
            frames.append(frame)
        return frames

    def call(self, call_id: int, cmd: int, params: Any = None, opts: dict[Any, Any] | None = None) -> Any:
        """Send a call and return what comes next, without its tag and id when it is a reply."""
        self.send(call(call_id, cmd, params, opts))
        tag, got_id, term = self.receive()
        assert got_id == call_id
        return term if tag == "reply" else (tag, term)

    def done_sending(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.sock.close()

    def reset(self) -> None:
        """Be gone at once: TCP only."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def _take(self, size: int) -> bytes | None:
        while len(self._buffer) < size:
            data = self.sock.recv(1 << 20)
            if not data:
                assert not self._buffer, "end of file in mid-frame"
                return None
            self._buffer += data
        taken, self._buffer = self._buffer[:size], self._buffer[size:]
        return taken


def call(call_id: int, cmd: int, params: Any = None, opts: dict[Any, Any] | None = None) -> tuple[Any, ...]:
    if opts is not None:
        return (Atom("call"), call_id, cmd, params if params is not None else [], opts)
    if params is not None:
        return (Atom("call"), call_id, cmd, params)
    return (Atom("call"), call_id, cmd)


def cast(cmd: int, params: Any = None, opts: dict[Any, Any] | None = None) -> tuple[Any, ...]:
    return (Atom("cast"), *call(0, cmd, params, opts)[2:])


class HostProcess:
    """One host; as a context it is killed at the end if it is still there."""

    def __init__(
        self,
        host: Path,
        driver: Path,
        *,
        threads: int = 4,
        settings: dict[str, str] | None = None,
        recorded: bool = False,
        max_run: int = 0,
        max_run_of: dict[int, int] | None = None,
        max_abandoned: int = 0,
        short: int = 20_000,
        under: Sequence[str] = (),
        **limits: int,
    ) -> None:
        """`under`: a command that becomes the host, as a profiler."""
        numbers = {**LIMITS, **limits}
        self.recorder = Recorder(numbers["queue"], threads, numbers["connections"]) if recorded else None
        self.control, inner = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.control.settimeout(DEADLINE)
        self.messages: list[Any] = []  # received while waiting for something else
        self.output = b""
        self.process = subprocess.Popen(
            [*under, host],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            # Memory is measured: a sanitizer must not hold on to what was freed.
            env={**os.environ, "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=1"},
            preexec_fn=lambda: os.dup2(inner.fileno(), 3),  # noqa: PLW1509 - no threads here
            pass_fds=(3,) if inner.fileno() == 3 else (inner.fileno(), 3),
        )
        inner.close()
        self._conns = 0
        self._peers: list[Peer] = []
        self.kept: list[socket.socket] = []
        start = (
            Atom("start"),
            {
                Atom("name"): b"test",
                Atom("driver"): os.fsencode(driver),
                Atom("generation"): 1,
                Atom("threads"): threads,
                Atom("short"): short,
                Atom("max_run"): max_run,
                Atom("max_run_of"): {str(k).encode(): v for k, v in (max_run_of or {}).items()},
                Atom("max_abandoned"): max_abandoned,
                Atom("log_level"): Atom("debug"),
                Atom("settings"): {k.encode(): v.encode() for k, v in (settings or {}).items()},
                Atom("limits"): {Atom(k): v for k, v in numbers.items()},
            },
        )
        fds = [] if self.recorder is None else [self.recorder.fd]
        socket.send_fds(self.control, [etf.encode(start)], fds)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.control.close()
        if self.recorder is not None:
            self.recorder.close()
        for peer in self._peers:
            peer.close()
        for kept in self.kept:
            kept.close()
        if self.process.poll() is None:
            self.process.kill()
        rest, _ = self.process.communicate()
        self.output += rest or b""
        report = self.output.decode(errors="replace")
        assert "Sanitizer" not in report, report
        assert "runtime error:" not in report, report

    def tell(self, *message: Any) -> None:
        self.control.send(etf.encode(tuple(message)))

    def hear(self, tag: str) -> Any:
        """The next control message with this tag; others are kept in `messages`."""
        end = time.monotonic() + DEADLINE
        while True:
            for index, message in enumerate(self.messages):
                if message[0] == tag:
                    return self.messages.pop(index)
            assert time.monotonic() < end, f"no {tag!r} from the host; it said {self.messages!r}"
            data = self.control.recv(1 << 16)
            if not data:
                raise EOFError(f"the host ended; it said {self.messages!r}")
            self.messages.append(etf.decode(data))

    def ready(self) -> dict[Any, Any]:
        message = self.hear("ready")
        result: dict[Any, Any] = message[1]
        return result

    def connect(self, *, tcp: bool = False, kept: bool = False, allowed: Any = ALL) -> Peer:
        """A connection whose welcome has been read. `kept`: in `self.kept` is its other end, as in a daemon.
        `allowed`: the commands that it may ask for.
        """
        peer = self.offer(tcp=tcp, kept=kept, allowed=allowed)
        assert self.hear("adopted") == (Atom("adopted"), self._conns)
        assert peer.receive() == (Atom("welcome"), 1, {})
        return peer

    def refusal(self) -> str:
        """Offer a connection that is refused: why."""
        self.offer()
        tag, number, reason = self.hear("refused")
        assert (tag, number) == ("refused", self._conns)
        return str(reason)

    def offer(self, *, tcp: bool = False, kept: bool = False, allowed: Any = ALL) -> Peer:
        """One that is passed, whatever becomes of it."""
        outer, inner = _tcp_pair() if tcp else socket.socketpair()
        self._conns += 1
        message = (Atom("conn"), self._conns, b"test", etf.frame((Atom("welcome"), 1, {})), allowed)
        self.control.sendmsg(
            [etf.encode(message)],
            [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [inner.fileno()]))],
        )
        if kept:
            self.kept.append(inner)
        else:
            inner.close()
        self._peers.append(Peer(outer))
        return self._peers[-1]

    def stop(self, limit_ms: int = 20_000) -> int:
        with contextlib.suppress(BrokenPipeError):
            self.tell(Atom("stop"), limit_ms)
        return self.wait()

    def wait(self) -> int:
        """The exit status, as Popen gives it; reads the control channel meanwhile, as a daemon would."""
        with contextlib.suppress(EOFError, ConnectionResetError):
            self.hear("never said")
        self._read_output()
        return self.process.wait(DEADLINE)

    def _read_output(self) -> None:
        assert self.process.stdout is not None
        while select.select([self.process.stdout], [], [], DEADLINE)[0]:
            data = os.read(self.process.stdout.fileno(), 1 << 16)
            if not data:
                return
            self.output += data


def _tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        outer = socket.create_connection(server.getsockname())
        inner, _ = server.accept()
    inner.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return outer, inner


def resident(pid: int) -> int:
    """A process's resident memory, in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
