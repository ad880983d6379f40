# SPDX-License-Identifier: MIT
"""What can go wrong, as types: each says one sentence, and the exit code when it ends the command."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from enum import IntEnum


class ExitCode(IntEnum):
    """Of the command, after sysexits.h: what an init system or a script can act on."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_RUNNING = 3  # of status alone, as init scripts have it
    UNAVAILABLE = 69
    NO_PERMISSION = 77
    CONFIG = 78


class GendriverdError(Exception):
    """Trouble that has a sentence for the user; everything else is a bug of ours."""

    exit_code = ExitCode.FAILED


class ConfigError(GendriverdError):
    """All that is wrong with a configuration, one line a problem."""

    exit_code = ExitCode.CONFIG

    def __init__(self, problems: Sequence[str], exit_code: ExitCode = ExitCode.CONFIG) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)
        self.exit_code = exit_code


class ListenError(GendriverdError):
    """An address cannot be listened on."""

    exit_code = ExitCode.UNAVAILABLE

    def __init__(self, sentence: str, exit_code: ExitCode = ExitCode.UNAVAILABLE) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code


class AddressTaken(ListenError):
    """Another process answers there."""


def listen_error(address: str, error: OSError) -> ListenError:
    """What socket(2), bind(2) or listen(2) said of it."""
    denied = error.errno in {errno.EACCES, errno.EPERM}
    why = {errno.EADDRINUSE: "the address is in use; is gendriverd running already?"}.get(error.errno or 0)
    code = ExitCode.NO_PERMISSION if denied else ExitCode.UNAVAILABLE
    return ListenError(f"cannot listen on {address}: {why or os.strerror(error.errno or 0)}", code)


class UnknownInstance(GendriverdError):
    """A person named an instance that is not there."""


class LaunchError(GendriverdError):
    """A host could not be started. `permanent`: trying again cannot help (no such driver)."""

    def __init__(self, sentence: str, *, permanent: bool) -> None:
        super().__init__(sentence)
        self.permanent = permanent


class HostGone(GendriverdError):
    """The other end of a control channel is closed."""


class BadMessage(GendriverdError):
    """A host said something that is no message of docs/control-channel.md."""


class HandshakeRefused(GendriverdError):
    """A client is not let in; `reason` is a word of docs/protocol.md, `why` is for the log alone."""

    def __init__(self, reason: str, why: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.why = why


class ClientGone(GendriverdError):
    """A client left before its handshake was over."""
