# SPDX-License-Identifier: MIT
"""The keys of a configuration: their files found and read, and the keyring that new clients are held against."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from gendriverd.auth import Commands, Grant, Key, Keyring
from gendriverd.errors import ConfigError
from gendriverd.key_file import find, read_key_file
from gendriverd.schema import Config, KeyConfig


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
        problems: list[ConfigError] = []
        grants = [grant_of(name, key, self._secrets(name, key, problems)) for name, key in config.keys.items()]
        if problems:
            lines = [line for problem in problems for line in problem.problems]
            raise ConfigError(lines, problems[0].exit_code)
        return Keyring(grants)

    def _secrets(self, name: str, key: KeyConfig, problems: list[ConfigError]) -> tuple[Key, ...]:
        """Of all its files; what is wrong with one is added to `problems`."""
        found: list[Key] = []
        for file in key.file:
            try:
                found.append(Key(name, self._secret(file)))
            except ConfigError as error:
                problems.append(ConfigError([f"[keys.{name}] {line}" for line in error.problems], error.exit_code))
        return tuple(found)

    def _secret(self, file: str) -> bytes:
        path, others = find(file, self._directory, self._environ)
        return read_key_file(path, others=others)


def grant_of(name: str, config: KeyConfig, keys: tuple[Key, ...]) -> Grant:
    """A table of commands opens the instances that it names, and no others."""
    said = config.commands
    certificates = frozenset(config.certificates)
    if isinstance(said, dict):
        return Grant(name, keys, certificates, instances={each: _set(commands) for each, commands in said.items()})
    commands = _set(said)
    if config.instances is None:
        return Grant(name, keys, certificates, commands)
    return Grant(name, keys, certificates, instances=dict.fromkeys(config.instances, commands))


def _set(commands: tuple[str | int, ...] | None) -> Commands:
    return None if commands is None else frozenset(commands)
