# SPDX-License-Identifier: MIT
"""The files of [tls]: each that will not do is one sentence, with the file; the others reach the front."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from certificates import Authority, Certificate
from gendriverd.errors import ConfigError, ExitCode
from gendriverd.schema import TlsConfig
from gendriverd.tls_files import FILE_MAX, Material, read_material


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def own(authority: Authority) -> Certificate:
    return authority.issue("own", hosts=["localhost"])


def read(directory: Path, own: Certificate, **more: object) -> Material:
    settings = {"certificate": str(own.certificate), "key": str(own.key), **more}
    material = read_material(TlsConfig(**settings), directory, {})  # type: ignore[arg-type]
    assert material is not None
    return material


def problem(directory: Path, own: Certificate, **more: object) -> str:
    with pytest.raises(ConfigError) as raised:
        read(directory, own, **more)
    return str(raised.value)


def test_without_a_certificate_there_is_nothing_to_read(tmp_path: Path) -> None:
    assert read_material(TlsConfig(), tmp_path, {}) is None


def test_a_fitting_pair_is_taken_and_its_last_day_known(tmp_path: Path, own: Certificate, authority: Authority) -> None:
    material = read(tmp_path, own, clients="required", client_ca=str(authority.file))
    assert material.until.endswith("GMT")
    with material.files() as fds:
        assert [os.pread(fd, 1 << 20, 0) for fd in fds] == [
            file.read_bytes() for file in (own.certificate, own.key, authority.file)
        ]
        for fd in fds:
            assert fcntl.fcntl(fd, fcntl.F_GET_SEALS) & fcntl.F_SEAL_WRITE
            with pytest.raises(PermissionError):
                os.write(fd, b"x")


def test_a_key_that_others_can_read_is_refused(tmp_path: Path, own: Certificate) -> None:
    own.key.chmod(0o640)
    assert (
        problem(tmp_path, own) == f"[tls] key: file {own.key}: its mode is 0640, so others have a hand in it: chmod 600"
    )


@pytest.mark.parametrize("which", ["certificate", "key", "client_ca"])
def test_a_file_of_another_user_is_refused(
    tmp_path: Path, own: Certificate, authority: Authority, give_away: Callable[[Path], None], which: str
) -> None:
    path = {"certificate": own.certificate, "key": own.key, "client_ca": authority.file}[which]
    give_away(path)
    said = problem(tmp_path, own, clients="required", client_ca=str(authority.file))
    assert f"[tls] {which}: file {path}: belongs to " in said


@pytest.mark.parametrize("mode", [0o664, 0o646])
def test_authorities_that_others_can_change_are_refused(
    tmp_path: Path, own: Certificate, authority: Authority, mode: int
) -> None:
    authority.file.chmod(mode)
    said = problem(tmp_path, own, clients="required", client_ca=str(authority.file))
    where = f"[tls] client_ca: file {authority.file}"
    assert said == f"{where}: its mode is {mode:04o}, so others have a hand in it: chmod go-w"


def test_where_no_descriptor_is_left_it_is_a_sentence(
    tmp_path: Path, own: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(*_: object) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(os, "memfd_create", none_left)
    assert problem(tmp_path, own) == "[tls]: its files cannot be tried: Too many open files"


def test_a_certificate_that_others_can_read_is_not(tmp_path: Path, own: Certificate) -> None:
    own.certificate.chmod(0o644)
    assert read(tmp_path, own).certificate == own.certificate.read_bytes()


def test_a_key_of_another_certificate(tmp_path: Path, own: Certificate, authority: Authority) -> None:
    other = authority.issue("other")
    mixed = Certificate(own.certificate, other.key)
    assert problem(tmp_path, mixed) == f"[tls] key: file {other.key}: is not that of the certificate {own.certificate}"


def test_a_key_with_a_passphrase_is_asked_of_nobody(tmp_path: Path, authority: Authority) -> None:
    locked = authority.issue("locked", password=b"secret")
    assert problem(tmp_path, locked).endswith("is encrypted, and there is nobody to ask for its passphrase")


@pytest.mark.parametrize(("days", "why"), [(-1, "certificate has expired"), (400, "")])
def test_an_expired_certificate(tmp_path: Path, authority: Authority, days: int, why: str) -> None:
    issued = authority.issue("x", days=days)
    if not why:
        assert read(tmp_path, issued).until
    else:
        assert problem(tmp_path, issued) == f"[tls] certificate: file {issued.certificate}: {why}"


@pytest.mark.parametrize(
    "text", [b"", b"no PEM", b"-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n", b"\xff" * 99]
)
def test_what_is_no_pem(tmp_path: Path, own: Certificate, authority: Authority, text: bytes) -> None:
    garbage = tmp_path / "garbage"
    garbage.touch(0o600)
    garbage.write_bytes(text)
    about = f"file {garbage}: holds no"
    assert f"[tls] certificate: {about} certificate in PEM" in problem(tmp_path, Certificate(garbage, own.key))
    assert f"[tls] key: {about} private key in PEM" in problem(tmp_path, Certificate(own.certificate, garbage))
    said = problem(tmp_path, own, clients="optional", client_ca=str(garbage))
    assert said == f"[tls] client_ca: {about} certificate in PEM"


def test_all_that_is_missing_is_said_at_once(tmp_path: Path) -> None:
    nothing = Certificate(tmp_path / "c", tmp_path / "k")
    assert problem(tmp_path, nothing).splitlines() == [
        f"[tls] certificate: file {tmp_path}/c: cannot be read: No such file or directory",
        f"[tls] key: file {tmp_path}/k: cannot be read: No such file or directory",
    ]


def test_a_file_that_is_none_or_has_no_end(tmp_path: Path, own: Certificate) -> None:
    assert "is not a regular file" in problem(tmp_path, Certificate(tmp_path, own.key))
    own.certificate.write_bytes(bytes(FILE_MAX + 1))
    assert f"has more than {FILE_MAX} bytes" in problem(tmp_path, own)


def test_a_bare_name_is_a_credential_of_systemd(tmp_path: Path, own: Certificate) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    own.key.rename(credentials / "tls.key")
    (credentials / "tls.key").chmod(0o440)
    config = TlsConfig(certificate=own.certificate.name, key="tls.key")
    assert read_material(config, tmp_path, {"CREDENTIALS_DIRECTORY": str(credentials)})
    with pytest.raises(ConfigError, match=r"tls\.key: cannot be read") as raised:
        read_material(config, tmp_path, {})
    assert raised.value.exit_code == ExitCode.CONFIG
