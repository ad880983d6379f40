# SPDX-License-Identifier: MIT
"""Key files: what is read of them, what is refused, and that what is in them is never said."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from gendriverd.config import load
from gendriverd.errors import ConfigError, HandshakeRefused
from gendriverd.key_file import read_key_file
from gendriverd.keys import Keys

TEXT = b"s3cr3t-" * 6


def key_file(path: Path, content: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


@pytest.mark.parametrize(
    ("content", "secret"),
    [
        (TEXT, TEXT),
        (TEXT + b"\n", TEXT),
        (TEXT + b"\r\n", TEXT),
        (TEXT + b"\n\n", TEXT + b"\n"),
        (bytes(range(32)), bytes(range(32))),
        (b"k" * 1024 + b"\r\n", b"k" * 1024),
    ],
)
def test_a_key_is_its_files_bytes_without_one_newline(tmp_path: Path, content: bytes, secret: bytes) -> None:
    assert read_key_file(key_file(tmp_path / "k", content)) == secret


@pytest.mark.parametrize(
    ("content", "size"), [(b"", "not 0 bytes"), (b"s" * 31 + b"\n", "not 31 bytes"), (b"s" * 1025, "not more")]
)
def test_a_key_of_a_wrong_size_is_named_with_its_file(tmp_path: Path, content: bytes, size: str) -> None:
    with pytest.raises(ConfigError, match=f"key file {tmp_path}/k: a key is 32 to 1024 bytes .*{size}"):
        read_key_file(key_file(tmp_path / "k", content))


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o644, 0o777])
def test_a_file_that_others_have_a_hand_in_is_refused_and_named_with_its_mode(tmp_path: Path, mode: int) -> None:
    with pytest.raises(ConfigError, match=f"key file {tmp_path}/k: its mode is 0{mode:o}") as refused:
        read_key_file(key_file(tmp_path / "k", TEXT, mode))
    assert "s3cr3t" not in str(refused.value)


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_a_file_of_ones_own_is_taken(tmp_path: Path, mode: int) -> None:
    assert read_key_file(key_file(tmp_path / "k", TEXT, mode)) == TEXT


def test_a_file_of_another_user_is_refused_however_closed_it_is(
    tmp_path: Path, give_away: Callable[[Path], None]
) -> None:
    path = key_file(tmp_path / "k", TEXT)
    give_away(path)
    with pytest.raises(ConfigError, match=f"key file {path}: belongs to .*, who is neither root nor us") as refused:
        read_key_file(path)
    assert "s3cr3t" not in str(refused.value)


def test_what_is_no_file_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    (tmp_path / "directory").mkdir(0o700)
    for name in ("pipe", "directory"):
        with pytest.raises(ConfigError, match=f"key file {tmp_path}/{name}: is not a regular file"):
            read_key_file(tmp_path / name)
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        read_key_file(tmp_path / "none")


def configured(directory: Path, *files: str) -> Path:
    tables = "".join(f"[keys.key-{n}]\nfile = '{file}'\n" for n, file in enumerate(files))
    path = directory / "c.toml"
    path.write_text("[daemon]\nauth = 'hmac'\n[instances.sum]\ndriver = 'sum.so'\n" + tables)
    return path


def test_every_key_that_will_not_do_is_said_at_once(tmp_path: Path) -> None:
    key_file(tmp_path / "open", TEXT, 0o644)
    key_file(tmp_path / "short", b"x")
    key_file(tmp_path / "good", TEXT)
    path = configured(tmp_path, "open", "./short", "good", "none")
    with pytest.raises(ConfigError) as wrong:
        Keys(tmp_path, {}).read(load(path))
    assert [problem.split(":")[0] for problem in wrong.value.problems] == [
        f"[keys.key-{n}] key file {tmp_path}/{name}" for n, name in ((0, "open"), (1, "short"), (3, "none"))
    ]


def test_paths_start_where_the_configuration_lies_and_names_are_credentials_first(tmp_path: Path) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    key_file(credentials / "a", b"c" * 32, 0o440)  # as systemd's, which our user reads by an ACL
    key_file(tmp_path / "a", b"f" * 32)
    key_file(tmp_path / "b", b"g" * 32)
    keys = Keys(tmp_path, {"CREDENTIALS_DIRECTORY": str(credentials)})
    assert [keys._secret(file) for file in ("a", "./a", "b")] == [b"c" * 32, b"f" * 32, b"g" * 32]
    assert Keys(tmp_path, {})._secret("a") == b"f" * 32
    (credentials / "a").chmod(0o444)
    with pytest.raises(ConfigError, match="its mode is 0444"):
        keys._secret("a")
    absolute = load(configured(tmp_path, "./a", "a", "/k")).keys
    assert [key.file for key in absolute.values()] == [(f"{tmp_path}/a",), ("a",), ("/k",)]


def test_a_key_opens_the_instances_that_its_table_names(tmp_path: Path) -> None:
    key_file(tmp_path / "a", TEXT)
    path = configured(tmp_path, "a")
    path.write_text(path.read_text() + "instances = []\n")
    ring = Keys(tmp_path, {}).read(load(path))
    assert ring is not None
    assert ring.knows("key-0")
    with pytest.raises(HandshakeRefused):
        ring.admit("key-0", "sum", b"", b"", b"")
    assert "s3cr3t" not in repr(load(path))


def test_without_authentication_no_file_is_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text("")
    assert Keys(tmp_path, {}).read(load(path)) is None
