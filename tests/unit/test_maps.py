# SPDX-License-Identifier: MIT
"""What is read of a host's /proc/PID/maps, which its driver can make as long as it likes."""

from __future__ import annotations

import os
from pathlib import Path

from gendriverd.reports import MAPS_BYTES, modules

CODE = "{:x}-{:x} r-xp 00001000 08:01 4711 {:>26}/lib/{}.so\n"


def read(tmp_path: Path, text: str) -> list[tuple[int, int, int, str]]:
    maps = tmp_path / "maps"
    maps.write_text(text)
    fd = os.open(maps, os.O_RDONLY)
    try:
        return modules(fd)
    finally:
        os.close(fd)


def test_code_is_found_by_its_rights_and_its_file(tmp_path: Path) -> None:
    text = CODE.format(0x1000, 0x2000, "", "one") + "3000-4000 rw-p 00000000 00:00 0 [heap]\n"
    text += "5000-6000 r-xp 00000000 00:00 0 [vdso]\n" + CODE.format(0x7000, 0x8000, "", "with blank")
    assert read(tmp_path, text) == [
        (0x1000, 0x2000, 0x1000, "/lib/one.so"),
        (0x7000, 0x8000, 0x1000, "/lib/with blank.so"),
    ]


def test_no_more_is_read_than_may_be_and_no_name_is_cut(tmp_path: Path) -> None:
    name = "n" * 8000
    lines = [CODE.format(at, at + 1, "", name) for at in range(0x1000, 0x1000 + 200)]
    assert sum(map(len, lines)) > MAPS_BYTES
    found = read(tmp_path, "".join(lines))
    assert 100 < len(found) <= MAPS_BYTES // 8000
    assert {file for *_, file in found} == {f"/lib/{name}.so"}
    few = read(tmp_path, "".join(lines[:3]) + lines[3][:-100])
    assert len(few) == 3
