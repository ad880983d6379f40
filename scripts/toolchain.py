# SPDX-License-Identifier: MIT
"""A C compiler, the flags of everything that is compiled here, and how programs are made with them.

Whatever is built of C comes through here, so that what is tested is compiled as what is shipped is. Needs only Python
and a C compiler ($CC, else cc, gcc or clang; $CFLAGS and $LDFLAGS are added).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOST = ROOT / "gendriverd" / "host"
INCLUDE = ROOT / "gendriverd" / "include"

STRICT = ("-Wall", "-Wextra", "-Werror")
COMMON = ("-std=gnu11", "-g", "-pthread", "-fno-omit-frame-pointer", f"-ffile-prefix-map={ROOT}=.")
HARDENED = ("-O2", "-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2", "-fstack-protector-strong")
COUNTED = ("-O0", "-fprofile-instr-generate", "-fcoverage-mapping")
VARIANTS = {
    "release": HARDENED,
    "asan": ("-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-DGD_ASAN"),
    "tsan": ("-O1", "-fsanitize=thread", "-DGD_TSAN"),
    "fuzz": ("-O1", "-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=undefined"),
    "coverage": COUNTED,
    "coverage-fuzz": (*COUNTED, "-fsanitize=fuzzer"),
}
RELRO = ("-Wl,-z,relro,-z,now",)
WHOLE_PROGRAM = ("-O3", "-flto=auto")  # a seventh less time a request; where it cannot be had, it is as good without


class BuildError(Exception):
    """One sentence for the person who builds."""


@dataclass(frozen=True)
class Toolchain:
    """A compiler, a variant, and whether warnings are errors."""

    cc: tuple[str, ...]
    variant: str = "release"
    strict: bool = False
    extra: tuple[str, ...] = field(default_factory=lambda: tuple(shlex.split(os.environ.get("CFLAGS", ""))))
    link_extra: tuple[str, ...] = field(default_factory=lambda: tuple(shlex.split(os.environ.get("LDFLAGS", ""))))

    @property
    def flags(self) -> tuple[str, ...]:
        return (*self.identity, *(STRICT if self.strict else ()))

    @property
    def identity(self) -> tuple[str, ...]:
        """What decides about the result; warnings do not."""
        whole = WHOLE_PROGRAM if self.variant == "release" and optimizes_at_link_time(self.cc) else ()
        return (*COMMON, *VARIANTS[self.variant], *whole, f"-I{INCLUDE}", *self.extra)


@cache
def optimizes_at_link_time(cc: tuple[str, ...]) -> bool:
    """Whether it can: gcc mostly, clang only where its linker has the plugin."""
    with tempfile.TemporaryDirectory(prefix="gendriverd-build-") as scratch:
        command = [*cc, *WHOLE_PROGRAM, "-x", "c", "-", "-o", f"{scratch}/none"]
        done = subprocess.run(command, input=b"int main(void) { return 0; }", capture_output=True, check=False)
    return done.returncode == 0


def find_compiler() -> tuple[str, ...]:
    """$CC, or the first of cc, gcc and clang on PATH."""
    chosen = os.environ.get("CC")
    for candidate in [chosen] if chosen else ["cc", "gcc", "clang"]:
        command = shlex.split(candidate)
        if command and shutil.which(command[0]):
            return tuple(command)
    if chosen:
        raise BuildError(f"gendriverd: the C compiler named by CC ({chosen}) was not found")
    raise BuildError(
        "gendriverd: its host is a C program and no C compiler (cc, gcc or clang) was found; install one "
        "(Debian: apt-get install gcc libc6-dev) or name one in CC"
    )


def run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    sys.stderr.write(done.stderr)
    if done.returncode != 0:
        raise BuildError(f"gendriverd: this command failed with {done.returncode}: {shlex.join(command)}")


@contextmanager
def once(out: Path, inputs: Iterable[Path], command: Sequence[str]) -> Iterator[bool]:
    """True when `out` must be made: a stamp beside it says what it was made of. One builder at a time."""
    digest = hashlib.sha256("\0".join(command).encode())
    for path in sorted(inputs):
        digest.update(path.as_posix().encode() + b"\0" + path.read_bytes())
    out.parent.mkdir(parents=True, exist_ok=True)
    stamp = out.parent / f".{out.name}.stamp"
    with (out.parent / f".{out.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stale = not out.exists() or not stamp.exists() or stamp.read_text() != digest.hexdigest()
        yield stale
        if stale:
            stamp.write_text(digest.hexdigest())


def link_program(
    tools: Toolchain, sources: Sequence[Path], out: Path, compile_flags: Sequence[str], link_flags: Sequence[str] = ()
) -> None:
    """Compile the sources side by side, link them to `out`, and put it in place in one step."""
    with tempfile.TemporaryDirectory(prefix="gendriverd-build-") as scratch:
        link(tools, compile_all(tools, sources, compile_flags, Path(scratch)), out, link_flags)


def compile_all(tools: Toolchain, sources: Sequence[Path], flags: Sequence[str], directory: Path) -> list[Path]:
    """Compile to objects in `directory`, side by side; what is there already is not compiled again."""
    objects = [directory / f"{hashlib.sha256(bytes(source)).hexdigest()[:8]}-{source.stem}.o" for source in sources]
    missing = [(str(source), str(made)) for source, made in zip(sources, objects, strict=True) if not made.exists()]
    compiler = [*tools.cc, *tools.flags, *flags]
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        list(pool.map(lambda each: run([*compiler, "-c", each[0], "-o", each[1]]), missing))
    return objects


def link(tools: Toolchain, objects: Sequence[Path], out: Path, flags: Sequence[str]) -> None:
    fresh = out.with_name(f".{out.name}.new")
    run([*tools.cc, *tools.flags, *map(str, objects), "-o", str(fresh), *flags, *tools.link_extra])
    fresh.replace(out)


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)
