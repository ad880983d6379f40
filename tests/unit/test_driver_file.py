# SPDX-License-Identifier: MIT
"""Which drivers are loaded: by who can have written them, on whatever way they are reached, and by their SHA-256."""

from __future__ import annotations

import errno
import hashlib
import os
import pwd
import struct
from pathlib import Path

import pytest

from gendriverd.driver_file import ACCESS_LIST, _private, check_digest, check_written_by
from gendriverd.errors import LaunchError

ROOT = os.geteuid() == 0
needs_root = pytest.mark.skipif(not ROOT, reason="only root gives files away")
STRANGER = pwd.getpwnam("daemon")


@pytest.fixture
def driver(tmp_path: Path) -> Path:
    place = tmp_path / "lib"
    place.mkdir(mode=0o755)
    path = place / "x.so"
    path.write_bytes(b"code")
    path.chmod(0o644)
    return path


def trouble(path: Path, *trusted: str) -> str:
    with pytest.raises(LaunchError) as caught:
        check_written_by(str(path), trusted)
    assert caught.value.permanent
    return str(caught.value)


def test_what_only_we_can_write_is_loaded(driver: Path) -> None:
    check_written_by(str(driver), ())


@pytest.mark.parametrize(("mode", "who"), [(0o646, "others"), (0o666, "others")])
def test_a_file_that_others_can_write_is_not(driver: Path, mode: int, who: str) -> None:
    driver.chmod(mode)
    assert f"file {driver} can be written by {who} (mode {mode:04o})" in trouble(driver)


def test_nor_one_whose_directory_they_can(driver: Path) -> None:
    driver.parent.chmod(0o757)
    assert f"directory {driver.parent} can be written by others" in trouble(driver)


def test_but_where_only_the_owner_replaces_files(driver: Path) -> None:
    driver.parent.chmod(0o1777)
    check_written_by(str(driver), ())


def test_a_directory_further_up_counts(driver: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    assert f"directory {tmp_path} can be written" in trouble(driver)


def test_a_link_is_followed_and_where_it_lies_counts(driver: Path, tmp_path: Path) -> None:
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    (open_to_all / "x.so").symlink_to(driver)
    (tmp_path / "last").symlink_to("open/../open/x.so")
    check_written_by(str(tmp_path / "last"), ())
    open_to_all.chmod(0o777)
    assert f"directory {open_to_all} can be written" in trouble(tmp_path / "last")
    open_to_all.chmod(0o755)
    driver.chmod(0o666)
    assert f"file {driver} can be written" in trouble(tmp_path / "last")


def test_links_in_a_circle_and_files_that_are_not_there_are_the_hosts_to_report(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    check_written_by(str(tmp_path / "a"), ())
    check_written_by(str(tmp_path / "none.so"), ())


@needs_root
def test_another_users_file_takes_trust(driver: Path) -> None:
    os.chown(driver, STRANGER.pw_uid, -1)
    assert f"file {driver} belongs to {STRANGER.pw_name}" in trouble(driver)
    check_written_by(str(driver), [STRANGER.pw_name])
    check_written_by(str(driver), [str(STRANGER.pw_uid)])


@needs_root
def test_so_does_another_users_directory(driver: Path) -> None:
    os.chown(driver.parent, 12345678, -1)
    assert f"directory {driver.parent} belongs to user 12345678" in trouble(driver)


@needs_root
def test_a_group_of_ones_own_is_no_group(driver: Path) -> None:
    os.chown(driver, STRANGER.pw_uid, STRANGER.pw_gid)
    driver.chmod(0o664)
    check_written_by(str(driver), [STRANGER.pw_name])
    os.chown(driver, STRANGER.pw_uid, 12345678)
    assert "by its group (mode 0664)" in trouble(driver, STRANGER.pw_name)


def access_list(path: Path, name: str = ACCESS_LIST) -> None:
    """What setfacl -m u:1234:rw would write: the owner, this user, the group, what all but the owner may, others."""
    if not _private(path.stat()):
        pytest.skip("our files have no group of our own")
    entries = ((1, 6, -1), (2, 6, 1234), (4, 4, -1), (0x10, 6, -1), (0x20, 4, -1))
    value = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)
    try:
        os.setxattr(path, name, value)
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        pytest.skip("this file system has no access lists")


def test_one_who_is_let_in_by_an_access_list_is_a_writer(driver: Path) -> None:
    access_list(driver)
    mode = driver.stat().st_mode & 0o777
    assert mode == 0o664  # as if its group could
    assert f"file {driver} can be written by those in its access list (mode 0664): chmod go-w" in trouble(driver)
    driver.chmod(0o644)  # so nobody in it is a writer any more
    check_written_by(str(driver), ())


def test_so_it_is_with_a_directory(driver: Path) -> None:
    access_list(driver.parent)
    driver.parent.chmod(0o775)
    assert f"directory {driver.parent} can be written by those in its access list" in trouble(driver)


def test_a_list_for_what_is_yet_to_be_made_there_is_looked_at_when_it_is_made(driver: Path) -> None:
    access_list(driver.parent, "system.posix_acl_default")
    check_written_by(str(driver), ())
    made = driver.parent / "new.so"
    made.touch()
    assert made.stat().st_mode & 0o020
    assert "by those in its access list" in trouble(made)


def test_who_is_trusted_must_be_somebody(driver: Path) -> None:
    assert "driver_owners: there is no user 'no-such-user'" in trouble(driver, "no-such-user")


def test_another_file_than_was_meant_is_not_loaded(driver: Path) -> None:
    digest = hashlib.sha256(b"code").hexdigest()
    check_digest("x.so", str(driver), digest)
    check_digest("x.so", str(driver), None)
    with pytest.raises(LaunchError, match=f"driver x.so: its sha256 is {digest}, and {'0' * 64} is asked for"):
        check_digest("x.so", str(driver), "0" * 64)
    with pytest.raises(LaunchError, match=r"driver x\.so: No such file"):
        check_digest("x.so", str(driver.parent / "gone"), digest)
