# SPDX-License-Identifier: MIT
"""A key's file: looked at before it is believed. What is in it is never said, whatever is wrong with it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from gendriverd.auth import SECRET_MAX, SECRET_MIN
from gendriverd.errors import ConfigError, ExitCode

OTHERS = 0o077
OTHERS_OF_A_CREDENTIAL = 0o027  # systemd lets our user in by an ACL, and its mask shows as the group's r


def read_key_file(path: Path, *, others: int = OTHERS) -> bytes:
    """The bytes, without one newline at the end. Raises ConfigError, also when a bit of `others` is set in its mode."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe must not make us wait
    except OSError as error:
        code = ExitCode.NO_PERMISSION if isinstance(error, PermissionError) else ExitCode.CONFIG
        raise ConfigError([f"key file {path}: cannot be read: {error.strerror}"], code) from None
    except ValueError:
        raise ConfigError([f"key file {str(path)!r}: no path"]) from None
    try:
        return _checked(path, fd, others)
    finally:
        os.close(fd)


def _checked(path: Path, fd: int, others: int) -> bytes:
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        raise ConfigError([f"key file {path}: is not a regular file"])
    mode = stat.S_IMODE(found.st_mode)
    if mode & others:
        raise ConfigError([f"key file {path}: its mode is {mode:04o}, so others have a hand in it: chmod 600"])
    secret = os.read(fd, SECRET_MAX + 3).removesuffix(b"\n").removesuffix(b"\r")
    if not SECRET_MIN <= len(secret) <= SECRET_MAX:
        size = f"{len(secret)} bytes" if len(secret) <= SECRET_MAX else "more"
        raise ConfigError(
            [f"key file {path}: a key is {SECRET_MIN} to {SECRET_MAX} bytes without the newline at its end, not {size}"]
        )
    return secret
