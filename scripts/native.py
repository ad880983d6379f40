# SPDX-License-Identifier: MIT
"""Compile the C parts: the host, drivers, C unit tests, fuzzers. The one place that knows the flags.

pip's build hook (hatch_build.py) and the Makefile both come here, so that what is tested is what is shipped. Needs only
Python and a C compiler ($CC, else cc, gcc or clang; $CFLAGS and $LDFLAGS are added). A driver's own #include lines say
which libraries it is linked with; where such a header is missing the driver is left out, and that is said.

Longer than others: what is tested must be compiled as what is shipped is, so all flags stand in one file.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import re
import shlex
import shutil
import struct
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOST = ROOT / "gendriverd" / "host"
INCLUDE = ROOT / "gendriverd" / "include"
BIN = ROOT / "gendriverd" / "_bin"
SHIPPED_DRIVERS = (ROOT / "examples/echo", ROOT / "examples/sum")
# Of the host: what unit tests and fuzzers link,
PURE = (
    *("etf.c", "envelope.c", "frame.c", "term_get.c", "term_put.c"),
    *("recorder.c", "stats.c", "lengths.c", "lanes.c", "sha256.c", "quarantine.c", "allowed.c"),
)
# and some of them more: what they leave out of it, as settings or the pool, they play themselves.
SANDBOX = ("sandbox.c", "landlock.c", "seccomp.c")
CHANNEL = ("control.c", *SANDBOX, "log.c", "running.c")
CONNECTION = (
    *(
        "conn.c",
        "conn_attend.c",
        "conn_clock.c",
        "conn_note.c",
        "conn_part.c",
        "conn_read.c",
        "conn_send.c",
        "conn_take.c",
    ),
    *("ids.c", "output.c", "queue.c", "request.c"),
)
ALSO = {
    "fuzz_control": CHANNEL,
    "test_control": CHANNEL,
    "test_sandbox": SANDBOX,
    "fuzz_stream": (*CHANNEL, "settings.c", *CONNECTION),
}
# In a program that includes faults.h these fail when it says so.
FAULTS = ("-Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=strndup,--wrap=strtod,--wrap=localeconv",)

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


def version() -> str:
    text = (ROOT / "gendriverd" / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r"""^__version__(?:: *[\w\[\]. ]+)? *= *["']([^"']+)["']""", text, re.MULTILINE)
    if not found:
        raise BuildError('gendriverd: gendriverd/__init__.py does not say __version__ = "..."')
    return found.group(1)


def host_sources() -> list[Path]:
    sources = sorted(HOST.glob("*.c"))
    if not sources:
        raise BuildError(f"gendriverd: no C sources of the host in {HOST}")
    return sources


def source_hash() -> str:
    """Names and bytes of the host's sources and of all headers: what --version and `ready` report."""
    digest = hashlib.sha256()
    for path in sorted([*HOST.glob("*.[ch]"), *INCLUDE.glob("**/*.h")], key=lambda p: p.relative_to(ROOT).as_posix()):
        digest.update(path.relative_to(ROOT / "gendriverd").as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


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


def build_host(tools: Toolchain, out: Path) -> None:
    exports = HOST / "exports.txt"
    visible = f"-Wl,--dynamic-list={exports}" if exports.exists() else "-rdynamic"
    sources = host_sources()
    if tools.variant in {"asan", "tsan"}:
        sources.append(ROOT / "scripts" / "sanitizer_options.c")
    compile_flags = [
        "-D_GNU_SOURCE",
        "-fPIE",
        f"-I{HOST}",
        f'-DGD_SOURCE="{source_hash()}"',
        f'-DGD_VERSION="{version()}"',
    ]
    link_flags = ["-pie", visible, *RELRO]
    inputs = [*sources, *HOST.glob("*.h"), *INCLUDE.glob("**/*.h"), *([exports] if exports.exists() else [])]
    with once(out, inputs, [*tools.cc, *tools.identity, *tools.link_extra, *compile_flags, *link_flags]) as stale:
        if stale:
            print(f"host: {shown(out)}", flush=True)
            link_program(tools, sources, out, compile_flags, link_flags)


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


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


def build_checks(tools: Toolchain, sources: Sequence[Path], out_dir: Path, canary: bool = False) -> list[Path]:
    """Programs of tests/unit_c or tests/fuzz, linked with the parts of the host that they are about."""
    with tempfile.TemporaryDirectory(prefix="gendriverd-build-") as scratch:
        return [build_check(tools, source, out_dir, Path(scratch), canary) for source in sources]


def build_check(tools: Toolchain, source: Path, out_dir: Path, scratch: Path, canary: bool = False) -> Path:
    """One of them; the objects, which they have in common, are in `scratch`. `canary`: with its planted bug."""
    out = out_dir / source.stem
    parts = [HOST / name for name in (*PURE, *ALSO.get(source.stem, ()))]
    if canary:
        sound, bugged = plant(source.stem, out_dir)
        parts[parts.index(sound)] = bugged
    flags = ["-D_GNU_SOURCE", "-DTURN_TERMS=7", f"-I{HOST}"]
    inputs = [source, *parts, *HOST.glob("*.h"), *INCLUDE.glob("**/*.h"), *source.parent.glob("*.h")]
    with once(out, inputs, [*tools.cc, *tools.identity, *tools.link_extra, *flags]) as stale:
        if stale:
            print(f"program: {shown(out)}", flush=True)
            faults = FAULTS if '"faults.h"' in source.read_text(encoding="utf-8") else ()
            link(tools, compile_all(tools, [source, *parts], flags, scratch), out, faults)
    return out


def plant(program: str, out_dir: Path) -> tuple[Path, Path]:
    """The source that a fuzzer's canary changes (tests/fuzz/canary.toml), and the changed copy."""
    canary = tomllib.loads((ROOT / "tests/fuzz/canary.toml").read_text(encoding="utf-8"))[program]
    sound = ROOT / "gendriverd" / canary["file"]
    text = sound.read_text(encoding="utf-8")
    if text.count(canary["old"]) != 1:
        raise BuildError(
            f"gendriverd: the canary of {program} does not fit {shown(sound)} any more: tests/fuzz/canary.toml"
        )
    bugged = out_dir / f"{program}-{sound.name}"
    bugged.parent.mkdir(parents=True, exist_ok=True)
    bugged.write_text(text.replace(canary["old"], canary["new"]), encoding="utf-8")
    return sound, bugged


def run_unit_tests(tools: Toolchain, out_dir: Path) -> None:
    """Every tests/unit_c/*.c but the tools, on the shared vectors; stops at the first that fails."""
    sources = sorted((ROOT / "tests/unit_c").glob("*.c"))
    for program in build_checks(tools, sources, out_dir):
        if program.name == "etf_verdict":
            continue
        print(f"{program.name}: ", end="", flush=True)
        done = subprocess.run([str(program), str(ROOT / "tests/vectors")], check=False, timeout=300)
        if done.returncode != 0:
            raise BuildError(f"gendriverd: {shown(program)} failed with {done.returncode}")


# How a fuzzer has a term of the shared vectors, if not as it is.
SEED: dict[str, Callable[[bytes], bytes]] = {
    "fuzz_etf": lambda data: data[1:],
    "fuzz_term_get": lambda data: bytes((4, 12, 13, 17, 17)) + data[1:],
    "fuzz_term_put": lambda data: b"\x40\0\x14" + bytes((len(data) % 256,)) + data[1:],
    "fuzz_control": lambda data: b"\0" + data,
    "fuzz_stream": lambda data: b"\0" + struct.pack(">I", len(data)) + data,
}


def seed_corpus(corpus: Path) -> None:
    """The shared vectors, as bytes: a fuzzer that begins with them need not find the format out."""
    corpus.mkdir(parents=True, exist_ok=True)
    seed = SEED.get(corpus.name, bytes)
    for name, length in (("terms.txt", 0), ("envelopes.txt", 0), ("frames.txt", 4)):
        for line in (ROOT / "tests/vectors" / name).read_text(encoding="utf-8").splitlines():
            if not line.startswith("#") and (fields := line.split("\t"))[1:]:
                data = seed(bytes.fromhex(fields[1])[length:])
                (corpus / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)


def build_fuzzers(tools: Toolchain, sources: Sequence[Path], out_dir: Path, canary: bool) -> None:
    """With sanitizers, or with `--variant coverage` without, and what they begin with."""
    variant = "coverage-fuzz" if tools.variant == "coverage" else "fuzz"
    for program in build_checks(replace(tools, variant=variant), sources, out_dir, canary):
        seed_corpus(out_dir / "corpus" / program.name)


def build_shipped(tools: Toolchain) -> None:
    """What a wheel holds: the host and the drivers that need nothing but a C compiler."""
    build_host(tools, BIN / "gendriver-host")
    build_drivers(tools, SHIPPED_DRIVERS, BIN / "drivers")


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="native.py", description="Compile the C parts of gendriverd.")
    parser.add_argument("what", choices=["shipped", "host", "drivers", "unit", "fuzz", "bench"])
    parser.add_argument("--out", type=Path, help="file (host) or directory (the others)")
    parser.add_argument("--variant", choices=sorted(VARIANTS), default="release")
    parser.add_argument("--canary", action="store_true", help="fuzzers, each with the bug that it must find")
    parser.add_argument("--strict", action="store_true", help="warnings are errors")
    parser.add_argument("sources", nargs="*", type=Path)
    return parser.parse_intermixed_args(arguments)


def main(arguments: Sequence[str]) -> int:
    options = parse(arguments)
    try:
        tools = Toolchain(find_compiler(), options.variant, options.strict)
        if options.what == "shipped":
            build_shipped(tools)
        elif options.out is None:
            raise BuildError(f"gendriverd: native.py {options.what} needs --out")
        elif options.what == "host":
            build_host(tools, options.out.resolve())
        elif options.what == "drivers":
            build_drivers(tools, [source.resolve() for source in options.sources], options.out.resolve())
        elif options.what == "bench":
            build_bench(tools, options.out.resolve())
        elif options.what == "unit" and options.sources:
            build_checks(tools, [source.resolve() for source in options.sources], options.out.resolve())
        elif options.what == "unit":
            run_unit_tests(tools, options.out.resolve())
        else:
            build_fuzzers(
                tools, [source.resolve() for source in options.sources], options.out.resolve(), options.canary
            )
    except BuildError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
