# SPDX-License-Identifier: MIT
"""The keys of a configuration: their files found and read, and the keyring that new clients are held against."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from gendriverd.auth import Grant, Key, Keyring
from gendriverd.errors import ConfigError
from gendriverd.key_file import OTHERS, OTHERS_OF_A_CREDENTIAL, read_key_file
from gendriverd.schema import Config

CREDENTIALS = "CREDENTIALS_DIRECTORY"  # systemd's, LoadCredential=


class Keys:
    """`ring` is in use, None without authentication; a reload puts another in its place."""

    def __init__(self, directory: Path, environ: Mapping[str, str]) -> None:
        self.ring: Keyring | None = None
        self._directory = directory  # the configuration's
        self._environ = environ

    def read(self, config: Config) -> Keyring | None:
        """What `config` says; it may block. Raises ConfigError, with a line for each file that will not do."""
        if config.daemon.auth == "none":
            return None
        grants: list[Grant] = []
        problems: list[ConfigError] = []
        for name, key in config.keys.items():
            try:
                secret = self._secret(key.file)
            except ConfigError as error:
                problems.append(ConfigError([f"[keys.{name}] {line}" for line in error.problems], error.exit_code))
            else:
                grants.append(Grant(Key(name, secret), None if key.instances is None else frozenset(key.instances)))
        if problems:
            lines = [line for problem in problems for line in problem.problems]
            raise ConfigError(lines, problems[0].exit_code)
        return Keyring(grants)

    def _secret(self, file: str) -> bytes:
        """A name without a / is a credential's, if there is one."""
        directory = self._environ.get(CREDENTIALS)
        if directory and "/" not in file and (Path(directory) / file).exists():
            return read_key_file(Path(directory) / file, others=OTHERS_OF_A_CREDENTIAL)
        return read_key_file(self._directory / file, others=OTHERS)
