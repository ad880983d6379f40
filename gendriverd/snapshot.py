# SPDX-License-Identifier: MIT
"""Snapshots: a driver is loaded from a copy of its file, named for its contents, in a directory of the daemon's own.

Overwriting a file that a process has mapped kills that process; a copy that nobody else writes to cannot be. The name
is the SHA-256, so a snapshot is made once, and gdb, valgrind and replay find the code that crashed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

KEPT = 64  # snapshots in the directory: those used least recently go
CHUNK = 1 << 20

Stamp = tuple[int, int, int, int]


@dataclass(frozen=True)
class Snapshot:
    """`file` is what a host loads: the snapshot of `original`, or the original where there is none."""

    file: str
    original: str
    trouble: str | None = None  # why there is none

    @property
    def library_path(self) -> str:
        """The directory in which its libraries may lie, as they would for the original; empty: where they are."""
        return "" if self.file == self.original else str(Path(self.original).resolve().parent)

    def exists(self) -> bool:
        return self.file == self.original or Path(self.file).exists()


def stamp_of(driver: str) -> Stamp | None:
    """Another when the file was replaced or written to."""
    try:
        found = Path(driver).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def take(driver: str, directory: str) -> Snapshot:
    """Copy the file, or find the copy. Directory empty: none is wanted. A file that cannot be read is left to the host,
    which says why.
    """
    if not directory or not os.access(driver, os.R_OK) or not Path(driver).is_file():
        return Snapshot(driver, driver)
    try:
        place = Path(directory)
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        if (trouble := _unfit(place)) is not None:
            return Snapshot(driver, driver, f"{directory} {trouble}")
        if os.geteuid() == 0:  # hosts have users of their own
            place.chmod(0o711)
        file = _find(Path(driver), place) or _copy(Path(driver), place)
        _tidy(place, file)
    except OSError as error:
        return Snapshot(driver, driver, f"{error.filename or directory}: {error.strerror}")
    return Snapshot(str(file), driver)


def _unfit(directory: Path) -> str | None:
    """Code of ours is not to be loaded from where somebody else may write."""
    about = directory.stat()
    if about.st_uid != os.geteuid() or about.st_mode & 0o022:
        return "is not this user's alone to write to"
    return "is mounted noexec" if os.statvfs(directory).f_flag & os.ST_NOEXEC else None


def _find(driver: Path, directory: Path) -> Path | None:
    """One that is there already."""
    with driver.open("rb") as source:
        file = directory / f"{hashlib.file_digest(source, 'sha256').hexdigest()}.so"
    if not file.is_file():
        return None
    os.utime(file)
    file.chmod(_mode())
    return file


def _copy(driver: Path, directory: Path) -> Path:
    """Hashed while it is copied: what the name says is what was written, even if the file changes meanwhile."""
    with tempfile.NamedTemporaryFile(dir=directory, prefix=".new-", delete=False) as copy:
        try:
            digest = hashlib.sha256()
            with driver.open("rb") as source:
                while chunk := source.read(CHUNK):
                    digest.update(chunk)
                    copy.write(chunk)
            file = directory / f"{digest.hexdigest()}.so"
            os.fchmod(copy.fileno(), _mode())
            copy.flush()
            Path(copy.name).rename(file)
        except BaseException:
            Path(copy.name).unlink(missing_ok=True)
            raise
    return file


def _mode() -> int:
    """Root's hosts are other users."""
    return 0o555 if os.geteuid() == 0 else 0o500


def _tidy(directory: Path, keep: Path) -> None:
    """The oldest go; a host that runs one has it mapped, and its keeper makes it again."""
    files = sorted((file for file in directory.glob("*.so") if file != keep), key=_age)
    for file in files[: max(0, len(files) + 1 - KEPT)]:
        with contextlib.suppress(OSError):
            file.unlink()


def _age(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0
