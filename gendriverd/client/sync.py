# SPDX-License-Identifier: MIT
"""The plain blocking face: one socket, one request at a time, safe to share between threads."""

from __future__ import annotations

import contextlib
import math
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from gendriverd.auth import Key
from gendriverd.client import protocol
from gendriverd.client.commands import command_number
from gendriverd.client.credit import credit_of
from gendriverd.client.outcomes import CallTimeout, ClientError, Failed
from gendriverd.client.protocol import ProtocolError, Welcome
from gendriverd.client.sync_link import HOST_WORD, BlockingLink, EndedError, StuckError
from gendriverd.client.sync_stream import Stream
from gendriverd.client.tls import trust
from gendriverd.etf import EtfError, Term


class Client:
    """A connection to one instance; `connect` makes it. After its end the next request connects anew."""

    def __init__(
        self,
        url: str,
        instance: str,
        *,
        connect_timeout: float = protocol.CONNECT_TIMEOUT,
        key: tuple[str, bytes] | None = None,
        tls: ssl.SSLContext | None = None,
        max_frame: int = protocol.MAX_FRAME,
    ) -> None:
        self.url = url
        self.instance = instance
        self.connect_timeout = connect_timeout
        self._key = None if key is None else Key(*key)
        self._tls = trust(url, tls)
        self._max_frame = max_frame
        self._lock = threading.Lock()  # guards everything below
        self._link: BlockingLink | None = self._connected(connect_timeout)

    @property
    def welcome(self) -> Welcome:
        """What the instance told about itself on the connection last made."""
        with self._lock:
            return self._open_link().welcome

    def call(
        self,
        cmd: int | str,
        params: Term = None,
        *,
        timeout: float | None = None,
        key: int | None = None,
        trace: bytes | None = None,
    ) -> Term:
        """The driver's term. Else Failed, CallTimeout, UnknownCommand; when connecting, Unreachable or Refused.

        params None means that none are sent: the driver sees [] (undefined is sent as Atom("undefined")). timeout in
        seconds, for ever when None; key: requests with one key run in order on one worker. EtfError and ClientError:
        params that are no term, or that the host would not take; nothing was sent.
        """
        sent = [] if params is None else params
        time_left = TimeLeft(timeout)
        with self._alone(time_left):
            link = self._open_link(time_left)
            number = command_number(cmd, link.welcome)
            call_id = link.next_id()
            frame = protocol.call(call_id, number, sent, protocol.options(time_left.seconds(), key, trace))
            return self._exchange(link, protocol.fitting(frame, link.welcome), call_id, time_left)

    def cast(self, cmd: int | str, params: Term = None, *, key: int | None = None, trace: bytes | None = None) -> None:
        """Hand the request to the socket; nothing is heard of it. Failed: it did not take it."""
        sent = [] if params is None else params
        with self._lock:
            link = self._open_link()
            frame = protocol.cast(command_number(cmd, link.welcome), sent, protocol.options(None, key, trace))
            try:
                link.send(protocol.fitting(frame, link.welcome), time.monotonic() + self.connect_timeout)
            except (OSError, StuckError):
                self._drop()
                raise Failed("disconnected") from None
            except (ClientError, EtfError):  # nothing was sent
                raise
            except BaseException:  # a Ctrl-C: perhaps in the middle of a frame
                self._drop()
                raise

    def stream(
        self,
        cmd: int | str,
        params: Term = None,
        *,
        window: int = 16,
        timeout: float | None = None,
        key: int | None = None,
        trace: bytes | None = None,
    ) -> Stream:
        """The parts that a call yields, one after the other; then `result` is what `call` would have returned.

        On a connection of its own, which is closed at the end: so other requests do not wait for it. The driver is at
        most `window` parts ahead. timeout: seconds for each part, and for the end. Raises as `call` does, and so does
        the iteration; after Failed or CallTimeout no part follows.
        """
        link = self._connected(self.connect_timeout)
        try:
            options = protocol.options(None, key, trace, parts=credit_of(window))
            number = command_number(cmd, link.welcome)
            call = protocol.call(link.next_id(), number, [] if params is None else params, options)
            return Stream(link, protocol.fitting(call, link.welcome), window, timeout)
        except BaseException:
            link.close()
            raise

    def ping(self, *, timeout: float = 5.0) -> float:
        """Seconds until the host's loop answered."""
        time_left = TimeLeft(timeout)
        with self._alone(time_left):
            link = self._open_link(time_left)
            began = time.monotonic()
            ping_id = link.next_id()
            self._exchange(link, protocol.ping(ping_id), ping_id, time_left)
            return time.monotonic() - began

    def close(self) -> None:
        """Idempotent; a later request connects anew. A request under way in another thread fails as `disconnected`."""
        link = self._link
        if link is not None:
            with contextlib.suppress(OSError):
                link.socket.shutdown(socket.SHUT_RDWR)
        with self._lock:
            self._drop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextlib.contextmanager
    def _alone(self, time_left: TimeLeft) -> Iterator[None]:
        """Other threads' requests come first, and their time is this one's too."""
        left = time_left.seconds()
        if not self._lock.acquire(timeout=-1 if left is None else left + HOST_WORD):
            raise CallTimeout(f"another thread's request took the {time_left.timeout:g} s")
        try:
            yield
        finally:
            self._lock.release()

    def _open_link(self, time_left: TimeLeft | None = None) -> BlockingLink:
        if self._link is None or self._link.leaving():
            self._drop()
            left = time_left.seconds() if time_left is not None else None
            limit = self.connect_timeout if left is None else min(self.connect_timeout, left + HOST_WORD)
            self._link = self._connected(limit)
        return self._link

    def _connected(self, timeout: float) -> BlockingLink:
        return BlockingLink(self.url, self.instance, timeout, self._key, self._tls, self._max_frame)

    def _forget(self, link: BlockingLink, call_id: int) -> None:
        try:
            link.forget(call_id)
        except BaseException:
            self._drop()
            raise

    def _drop(self) -> None:
        if self._link is not None:
            self._link.socket.close()
        self._link = None

    def _exchange(self, link: BlockingLink, frame: bytes, wanted: int, time_left: TimeLeft) -> Term:
        timeout, until = time_left.timeout, time_left.until
        try:
            link.send(frame, until)
            answer = link.wait_for(wanted, until)
        except StuckError:
            self._drop()
            raise CallTimeout(f"the request was not taken within {timeout:g} s") from None
        except TimeoutError as exc:
            if exc.errno is not None:  # the kernel's: it has given the connection up
                self._drop()
                raise Failed("disconnected") from None
            self._forget(link, wanted)
            raise CallTimeout(f"no answer within {timeout:g} s") from None
        except ProtocolError as exc:  # what it was is said along
            self._drop()
            raise Failed("disconnected") from exc
        except OSError:
            self._drop()
            raise Failed("disconnected") from None
        except EndedError as exc:
            self._drop()
            raise Failed(exc.reason) from None
        except BaseException:  # a Ctrl-C: perhaps in the middle of a frame
            self._drop()
            raise
        if answer.failed is not None:
            raise Failed(answer.failed)
        return answer.term


class TimeLeft:
    """A request's: `until` is when its caller stops to wait, a little after its time, for the host's word."""

    def __init__(self, timeout: float | None) -> None:
        self.timeout = None if timeout is None or timeout == math.inf else timeout
        self.until = None if self.timeout is None else time.monotonic() + self.timeout + HOST_WORD

    def seconds(self) -> float | None:
        """At least 0; None: for ever."""
        return None if self.until is None else max(0.0, self.until - HOST_WORD - time.monotonic())


def connect(
    url: str,
    instance: str,
    *,
    connect_timeout: float = protocol.CONNECT_TIMEOUT,
    key: tuple[str, bytes] | None = None,
    tls: ssl.SSLContext | None = None,
    max_frame: int = protocol.MAX_FRAME,
) -> Client:
    """Connect and shake hands. Unreachable or Refused when that fails; ValueError for a malformed URL.

    `key`: name and secret that the daemon knows too; both ends prove it, on every connection. ValueError: no key.
    `tls`: for a URL tls://HOST:PORT, whom to trust and who we are; None: the authorities that the system trusts.
    `max_frame`: bytes of an answer, or of a part of one; above, the connection is given up. ValueError: out of range.
    """
    return Client(url, instance, connect_timeout=connect_timeout, key=key, tls=tls, max_frame=max_frame)
