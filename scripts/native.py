# SPDX-License-Identifier: MIT
"""Compile the C parts: the host, drivers, C unit tests, fuzzers. The one door to them.

pip's build hook (hatch_build.py) and the Makefile both come here, so that what is tested is what is shipped. The
compiler and its flags are in toolchain.py, drivers and their libraries in native_drivers.py,
unit tests and fuzzers in native_checks.py.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from native_checks import build_checks, build_fuzzers, run_unit_tests
from native_drivers import build_bench, build_drivers
from toolchain import (
    HOST,
    INCLUDE,
    RELRO,
    ROOT,
    VARIANTS,
    BuildError,
    Toolchain,
    find_compiler,
    link_program,
    once,
    shown,
)

BIN = ROOT / "gendriverd" / "_bin"
SHIPPED_DRIVERS = (ROOT / "examples/echo", ROOT / "examples/sum")


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
