# SPDX-License-Identifier: MIT
"""The daemon's end of a control channel: messages out, some with a client's socket; checked messages in.

docs/control-channel.md says what the messages are, messages.py which of them a host may say.
"""

from __future__ import annotations

import array
import contextlib
import errno
import socket
from collections.abc import Callable, Sequence

import trio

from gendriverd import etf, passing
from gendriverd.errors import BadMessage, HostGone
from gendriverd.etf import Atom, EtfError, Term
from gendriverd.farewell import drop
from gendriverd.messages import LOG_HEAD, LogLine, Message, parse

MESSAGE_MAX = 64 * 1024
LIMITS = etf.Limits(depth=8, terms=4096, bignum=9)


def make_pair() -> tuple[Channel, socket.socket]:
    """The daemon's end, and the one that a host inherits."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    return Channel(ours), theirs


class Channel:
    """One task may receive; any may send. Sending waits while the host does not read: bound it."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._socket = trio.socket.from_stdlib_socket(end)
        self._sending = trio.Lock()

    def close(self) -> None:
        self._socket.close()

    def refuse_descriptors(self) -> None:
        """Of one that has none to pass."""
        passing.refuse(self._end)

    def send_first(self, *message: Term, passed: int | Sequence[int] | None = None) -> None:
        """Before any other, a few: there is room, and nobody needs to wait. Raises HostGone."""
        try:
            self._end.sendmsg([_encoded(message)], [] if passed is None else _descriptor(passed))
        except OSError as error:
            raise HostGone(_why(error)) from error

    async def send(self, *message: Term, passed: int | Sequence[int] | None = None) -> None:
        """Raises HostGone. `passed`: descriptors of which the host gets a copy."""
        data, ancillary = _encoded(message), [] if passed is None else _descriptor(passed)
        async with self._sending:
            try:
                await self._socket.sendmsg([data], ancillary)
            except (OSError, trio.ClosedResourceError) as error:
                raise HostGone(_why(error)) from error

    async def send_conn(self, conn: int, peer: str, welcome: bytes, allowed: list[int] | None, client: int) -> None:
        """`allowed`: the commands that it may ask for; None: all."""
        commands = Atom("all") if allowed is None else list[Term](allowed)
        await self.send(Atom("conn"), conn, peer.encode("utf-8", "backslashreplace"), welcome, commands, passed=client)

    async def receive(self, logs: Callable[[], bool] = lambda: True) -> Message | None:
        """The next message. Raises HostGone at the end, BadMessage for anything that is none. `logs` says whether a log
        line is wanted just now: one that is not is None, and costs no more than to receive it.
        """
        data, _, flags = await self._receive(0)
        _check_whole(data, flags)
        is_log = data.startswith(LOG_HEAD)
        if is_log and not logs():
            return None
        message = parse(_decoded(data))
        if isinstance(message, LogLine) and not is_log:
            raise BadMessage("a log line that does not begin as one")
        return message

    async def receive_term(self, descriptors: int = 0) -> tuple[Term, list[int]]:
        """The same, not looked at, with at most so many descriptors, which are the caller's then."""
        data, fds, flags = await self._receive(descriptors)
        with contextlib.ExitStack() as undo:
            for fd in fds:
                undo.callback(drop, fd)
            _check_whole(data, flags)
            term = _decoded(data)
            undo.pop_all()
        return term, fds

    async def _receive(self, descriptors: int) -> tuple[bytes, list[int], int]:
        try:
            return await self._receive_packet(descriptors)
        except (OSError, trio.ClosedResourceError) as error:
            raise HostGone(_why(error)) from error

    async def _receive_packet(self, descriptors: int) -> tuple[bytes, list[int], int]:
        """A host that left without having read all of ours is said to have reset the channel, once and before what it
        had sent: that is still there.
        """
        room = socket.CMSG_LEN(descriptors * 4) if descriptors else 0
        try:
            data, ancillary, flags, _ = await self._socket.recvmsg(MESSAGE_MAX, room)
        except ConnectionResetError:
            data, ancillary, flags, _ = await self._socket.recvmsg(MESSAGE_MAX, room)
        fds = array.array("i")
        for _, kind, rights in ancillary:
            if kind == socket.SCM_RIGHTS:
                fds.frombytes(rights[: len(rights) - len(rights) % fds.itemsize])
        return data, list(fds), flags


def _check_whole(data: bytes, flags: int) -> None:
    if flags & socket.MSG_CTRUNC:
        raise BadMessage("a message with a descriptor too many")  # the kernel has closed it: there was no room for it
    if flags & socket.MSG_TRUNC:
        raise BadMessage(f"a message of more than {MESSAGE_MAX} bytes")
    if not data:
        raise HostGone("end of file")


def _decoded(data: bytes) -> Term:
    try:
        return etf.decode(data, LIMITS)
    except EtfError as error:
        raise BadMessage(f"a message that is no term: {error.reason}") from error


def _encoded(message: tuple[Term, ...]) -> bytes:
    data = etf.encode(message)
    if len(data) > MESSAGE_MAX:
        raise ValueError(f"a control message of {len(data)} bytes; {MESSAGE_MAX} is the most")
    return data


def _descriptor(passed: int | Sequence[int]) -> list[tuple[int, int, array.array[int]]]:
    fds = [passed] if isinstance(passed, int) else passed
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]


def _why(error: BaseException) -> str:
    number = getattr(error, "errno", None)
    return errno.errorcode.get(number, str(number)) if number else "closed here"
