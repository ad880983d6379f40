# SPDX-License-Identifier: MIT
"""`gendriverd cflags`: what a C compiler must be told to build a driver."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

from gendriverd.errors import GendriverdError

ASK = 'io:format("~s~n~s~n", [code:root_dir(), code:lib_dir(erl_interface)]), halt().'
PLACES = ("/usr/lib/erlang/usr", "/usr/local/lib/erlang/usr", "/usr")  # of include/ei.h and lib/libei.a


def cflags(*, legacy: bool) -> str:
    """One line for a shell: cc $(gendriverd cflags) -shared -o mine.so mine.c"""
    include = Path(str(resources.files("gendriverd"))) / "include"
    flags = [f"-I{include}", "-fPIC"]
    if legacy:
        flags += _legacy_flags()
    return " ".join(flags)


def _legacy_flags() -> list[str]:
    """Drivers written for the original include erl_driver.h and ei.h, and link -lei. Raises GendriverdError."""
    places = list(_places())
    includes = [place / "include" for place in places if (place / "include").is_dir()]
    libraries = [place / "lib" for place in places if (place / "lib" / "libei.a").is_file()]
    missing = [name for name in ("ei.h", "erl_driver.h") if not any((place / name).is_file() for place in includes)]
    if missing or not libraries:
        what = ", ".join([*missing, *([] if libraries else ["libei.a"])])
        raise GendriverdError(f"{what} not found: install Erlang's C headers (Debian: apt-get install erlang-dev)")
    used = [place for place in includes if (place / "ei.h").is_file() or (place / "erl_driver.h").is_file()]
    used = [place for place in used if place != Path("/usr/include")]  # the compiler's own
    return [*(f"-I{place}" for place in dict.fromkeys(used)), f"-L{libraries[0]}", "-lei"]


def _places() -> Iterator[Path]:
    erl = shutil.which("erl")
    if erl is not None:
        try:
            command = [erl, "-noshell", "-eval", ASK]
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
        except (OSError, subprocess.TimeoutExpired):
            done = None
        lines = done.stdout.splitlines() if done is not None and done.returncode == 0 else []
        if len(lines) >= 2:
            yield Path(lines[0]) / "usr"
            yield Path(lines[1])
    yield from map(Path, PLACES)
