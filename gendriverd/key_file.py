# SPDX-License-Identifier: MIT
"""A key's file: looked at before it is believed, its owner too, who could put another key into it. What is in it is
never said, whatever is wrong with it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from gendriverd.auth import SECRET_MAX, SECRET_MIN
from gendriverd.errors import ConfigError, ExitCode
from gendriverd.users import user_name

OTHERS = 0o077
WRITERS = 0o022  # of what is no secret
OTHERS_OF_A_CREDENTIAL = 0o027  # systemd lets our user in by an ACL, and its mask shows as the group's r
CREDENTIALS = "CREDENTIALS_DIRECTORY"  # systemd's, LoadCredential=


def find(file: str, directory: Path, environ: Mapping[str, str]) -> tuple[Path, int]:
    """Where it is, and which bits of its mode must not be set. A name without a / is a credential's, if there is one;
    else it lies in `directory`.
    """
    credentials = environ.get(CREDENTIALS)
    if credentials and "/" not in file and (Path(credentials) / file).exists():
        return Path(credentials) / file, OTHERS_OF_A_CREDENTIAL
    return directory / file, OTHERS


def read_key_file(path: Path, *, others: int = OTHERS) -> bytes:
    """The bytes, without one newline at the end. Raises ConfigError, also when a bit of `others` is set in its mode."""
    secret = read_file(path, "key file", SECRET_MAX + 2, others=others)
    secret = secret.removesuffix(b"\n").removesuffix(b"\r")
    if not SECRET_MIN <= len(secret) <= SECRET_MAX:
        size = f"{len(secret)} bytes" if len(secret) <= SECRET_MAX else "more"
        raise ConfigError(
            [f"key file {path}: a key is {SECRET_MIN} to {SECRET_MAX} bytes without the newline at its end, not {size}"]
        )
    return secret


def read_file(path: Path, what: str, most: int, *, others: int) -> bytes:
    """Of a regular file of root's or our own, at most one byte more than `most`. `what` it is, is for the sentence.
    Raises ConfigError.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe must not make us wait
    except OSError as error:
        code = ExitCode.NO_PERMISSION if isinstance(error, PermissionError) else ExitCode.CONFIG
        raise ConfigError([f"{what} {path}: cannot be read: {error.strerror}"], code) from None
    except ValueError:
        raise ConfigError([f"{what} {str(path)!r}: no path"]) from None
    try:
        return _checked(path, what, fd, most, others)
    finally:
        os.close(fd)


def _checked(path: Path, what: str, fd: int, most: int, others: int) -> bytes:
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        raise ConfigError([f"{what} {path}: is not a regular file"])
    if found.st_uid not in {0, os.geteuid()}:
        whose = f"belongs to {user_name(found.st_uid)}, who is neither root nor us ({user_name(os.geteuid())})"
        raise ConfigError([f"{what} {path}: {whose}: chown"])
    mode = stat.S_IMODE(found.st_mode)
    if mode & others:
        chmod = "chmod go-w" if others == WRITERS else "chmod 600"
        raise ConfigError([f"{what} {path}: its mode is {mode:04o}, so others have a hand in it: {chmod}"])
    return os.read(fd, most + 1)
