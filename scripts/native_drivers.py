# SPDX-License-Identifier: MIT
"""Compile drivers, and what they are compared with, with the libraries that their own #include lines ask for.

Where such a header is missing the driver is left out, and that is said.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from toolchain import INCLUDE, RELRO, ROOT, Toolchain, link_program, once, shown


@dataclass(frozen=True)
class Library:
    """What a driver that includes a header is linked with, and where Debian keeps it."""

    package: str
    flags: tuple[str, ...]


LIBRARIES = {
    "zlib.h": Library("zlib1g-dev", ("-lz",)),
    "sqlite3.h": Library("libsqlite3-dev", ("-lsqlite3",)),
    "ei.h": Library("erlang-dev", ("-lei",)),
    "erl_driver.h": Library("erlang-dev", ()),
    "erl_nif.h": Library("erlang-dev", ()),
    "math.h": Library("libc6-dev", ("-lm",)),
}


def erlang_paths() -> tuple[str, ...]:
    """Where an Erlang outside the compiler's own directories keeps ei and erl_driver.h."""
    erl = shutil.which("erl")
    if erl is None:
        return ()
    ask = 'io:format("~s~n~s~n", [code:root_dir(), code:lib_dir(erl_interface)]), halt().'
    done = subprocess.run([erl, "-noshell", "-eval", ask], capture_output=True, text=True, check=False, timeout=60)
    root, interface, *_ = [*done.stdout.splitlines(), "", ""]
    places = [f"{root}/usr", f"{root}/erts", interface]
    return tuple(
        flag
        for place in places
        for flag, path in ((f"-I{place}/include", Path(place, "include")), (f"-L{place}/lib", Path(place, "lib")))
        if done.returncode == 0 and path.is_dir()
    )


@dataclass(frozen=True)
class Needs:
    """What a driver asks for, by its own #include lines."""

    compile: tuple[str, ...]
    link: tuple[str, ...]
    missing: tuple[str, ...]


def needs_of(tools: Toolchain, sources: Sequence[Path]) -> Needs:
    text = "\n".join(source.read_text(encoding="utf-8") for source in sources)
    names = re.findall(r'^[ \t]*#[ \t]*include[ \t]*[<"]([^>"]+)[>"]', text, re.MULTILINE)
    wanted = [name for name in LIBRARIES if name in names]
    paths = erlang_paths() if {"ei.h", "erl_driver.h", "erl_nif.h"} & set(wanted) else ()
    libraries = [flag for name in wanted for flag in LIBRARIES[name].flags]
    includes = tuple(flag for flag in paths if flag.startswith("-I"))
    missing = tuple(name for name in wanted if not has_header(tools, name, includes))
    return Needs(includes, (*(flag for flag in paths if flag.startswith("-L")), *libraries), missing)


def has_header(tools: Toolchain, name: str, includes: Sequence[str]) -> bool:
    command = [*tools.cc, *includes, "-x", "c", "-include", name, "-fsyntax-only", "/dev/null"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def build_driver(tools: Toolchain, origin: Path, out_dir: Path) -> bool:
    """Compile a file, or a directory's files, to out_dir/NAME.so. False, and a sentence, when a library is missing."""
    sources = sorted(origin.glob("*.c")) if origin.is_dir() else [origin]
    name = origin.stem
    needs = needs_of(tools, sources)
    if needs.missing:
        packages = sorted({LIBRARIES[header].package for header in needs.missing})
        headers = ", ".join(needs.missing)
        print(f"driver: {name} left out: {headers} not found (Debian: {' '.join(packages)})", flush=True)
        return False
    compile_flags = ["-fPIC", *needs.compile]
    if name.startswith("legacy"):
        compile_flags.append(f"-DDRIVER_NAME={name}")
    link_flags = ["-shared", *needs.link, *RELRO]
    out = out_dir / f"{name}.so"
    inputs = [*sources, *INCLUDE.glob("**/*.h"), *sources[0].parent.glob("*.[ch]")]
    with once(out, inputs, [*tools.cc, *tools.identity, *tools.link_extra, *compile_flags, *link_flags]) as stale:
        if stale:
            print(f"driver: {shown(out)}", flush=True)
            link_program(tools, sources, out, compile_flags, link_flags)
    return True


def build_drivers(tools: Toolchain, origins: Sequence[Path], out_dir: Path) -> int:
    """How many were built. All that can be are, side by side."""
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        return sum(pool.map(lambda origin: build_driver(tools, origin, out_dir), origins))


def build_peer(tools: Toolchain, source: Path, out_dir: Path) -> bool:
    """What gendriverd is compared with: a program, or a shared object. False when a library is missing."""
    headers = [*source.parent.glob("*.h"), *source.parent.parent.glob("*.h")]
    named = set(re.findall(r'#include "(?:../)?([^"]+)"', source.read_text(encoding="utf-8")))
    needs = needs_of(tools, [source, *(header for header in headers if header.name in named)])
    if needs.missing:
        packages = sorted({LIBRARIES[header].package for header in needs.missing})
        print(f"peer: {source.stem} left out: {', '.join(needs.missing)} not found (Debian: {' '.join(packages)})")
        return False
    shared = "\nmain(" not in source.read_text(encoding="utf-8")
    out = out_dir / (f"{source.stem}.so" if shared else source.stem)
    compile_flags = ["-D_GNU_SOURCE", "-fPIC" if shared else "-fPIE", *needs.compile]
    link_flags = ["-shared" if shared else "-pie", *needs.link, *RELRO]
    with once(out, [source, *headers], [*tools.cc, *tools.identity, *compile_flags, *link_flags]) as stale:
        if stale:
            print(f"peer: {shown(out)}", flush=True)
            link_program(tools, [source], out, compile_flags, link_flags)
    return True


def build_bench(tools: Toolchain, out_dir: Path) -> None:
    """The bench's driver, and every peer that can be had here."""
    build_drivers(tools, [ROOT / "bench/driver.c"], out_dir)
    for source in sorted((ROOT / "bench/peers").glob("*.c")):
        build_peer(tools, source, out_dir)
