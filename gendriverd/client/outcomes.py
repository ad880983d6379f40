# SPDX-License-Identifier: MIT
"""What can become of a call besides the driver's own term: the service's word, and why a connection is refused."""

from __future__ import annotations

from typing import Final, Literal, get_args

NotRun = Literal[
    "overloaded",
    "expired",
    "cancelled",
    "draining",
    "unavailable",
    "not_run",
    "bad_request",
    "quarantined",
    "forbidden",
]
MayHaveRun = Literal["crashed", "interrupted", "timeout", "bad_reply", "undecodable", "disconnected"]
FailedReason = NotRun | MayHaveRun

NOT_RUN: Final[frozenset[str]] = frozenset(get_args(NotRun))
REASONS: Final[dict[str, FailedReason]] = {name: name for name in (*get_args(NotRun), *get_args(MayHaveRun))}

_REFUSED = {
    "unknown_instance": "the daemon has no instance of that name",
    "unavailable": "its driver failed, or did not start in time; the daemon's log says why",
    "bad_hello": "the daemon did not take the handshake",
    "bad_version": "the daemon speaks another version of the protocol",
    "auth": "the daemon does not take this key, or not for this instance",
    "busy": "too many handshakes or connections at once",
    "draining": "the daemon is stopping",
}
_NOT_TRUSTED = {
    "key_needed": "the daemon asks for a key, and this client has none",
    "not_offered": "the daemon asks for no key, and this client has one: it may not be the daemon that is meant",
    "bad_proof": "what answers did not prove that it knows the key: it is not the daemon that is meant",
    "unknown_method": "the daemon asks for an authentication that this client does not know",
}


def retryable(reason: str) -> bool:
    """True: the call never started, and can be made again. False: it may have run."""
    return reason in NOT_RUN


class ClientError(Exception):
    """Anything the client raises on its own account."""


class Failed(ClientError):
    """The service's word on a call (docs/protocol.md): never the driver's, which is a return value."""

    def __init__(self, reason: FailedReason) -> None:
        ran = "it never started" if retryable(reason) else "it may have run"
        super().__init__(f"the call failed: {reason} ({ran})")
        self.reason: FailedReason = reason

    @property
    def retryable(self) -> bool:
        """See `retryable`."""
        return retryable(self.reason)


class CallTimeout(ClientError, TimeoutError):
    """The caller's own time passed without an answer: the call may have run."""


class Refused(ClientError):
    """The daemon refuses the connection: `reason` is one of docs/protocol.md."""

    def __init__(self, instance: str, reason: str) -> None:
        super().__init__(f"instance {instance!r} was refused: {reason}: {_REFUSED.get(reason, 'no further word')}")
        self.reason = reason


class AuthFailed(Refused):
    """This client refuses the daemon: `reason` is key_needed, not_offered, bad_proof or unknown_method."""

    def __init__(self, instance: str, reason: str) -> None:
        ClientError.__init__(self, f"instance {instance!r} was not asked for: {reason}: {_NOT_TRUSTED[reason]}")
        self.reason = reason


class Unreachable(ClientError):
    """Nobody answers at the address, or what answers is no gendriverd."""


class UnknownCommand(ClientError, LookupError):
    """A command's name that the driver does not have."""
