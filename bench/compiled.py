# SPDX-License-Identifier: MIT
"""The C programs of the suite, compiled into build/bench when their sources have changed.

Run by itself: all of them, into the directory named, for make check.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

from native import BIN, build_host
from native_drivers import build_drivers
from toolchain import HOST, INCLUDE, ROOT, Toolchain, find_compiler, link_program, once, run

BENCH = ROOT / "bench"
BUILT = ROOT / "build" / "bench"
RECORDING = ("stats_add", "slot_set", "slot_done", "slot_check", "recorder_loop")
OF_THE_HOST = (
    *("etf.c", "etf_leaf.c", "etf_text.c", "envelope.c", "frame.c"),
    *("term_get.c", "term_get_number.c", "term_get_text.c"),
    *("term_put.c", "term_put_number.c", "term_put_text.c"),
)


def program(name: str, sources: list[Path], directory: Path = BUILT) -> Path:
    """Compiled with the host's own flags, or a comparison would be one of compilers."""
    tools = replace(Toolchain(find_compiler()), strict=True)
    flags = ["-D_GNU_SOURCE", f"-I{HOST}", f"-I{BENCH}"]
    out = directory / name
    inputs = [*sources, *BENCH.glob("*.h"), *HOST.glob("*.h"), *INCLUDE.glob("**/*.h")]
    with once(out, inputs, [*tools.cc, *tools.identity, *tools.link_extra, *flags]) as stale:
        if stale:
            link_program(tools, sources, out, flags)
    return out


def load(directory: Path = BUILT) -> Path:
    return program("load", [BENCH / "load.c", BENCH / "dial.c"], directory)


def loop(directory: Path = BUILT) -> Path:
    return program("loop", [BENCH / "loop.c", *(HOST / name for name in OF_THE_HOST)], directory)


def host() -> Path:
    """The host as it is shipped; or, as everywhere, the one that $GENDRIVERD_HOST names."""
    if named := os.environ.get("GENDRIVERD_HOST"):
        return Path(named).absolute()
    out = BIN / "gendriver-host"
    build_host(Toolchain(find_compiler()), out)
    return out


def host_without_records() -> Path:
    """The host with neither recorder nor statistics: the linker leads their functions to empty ones. The stores that
    conn_request.c and worker.c make into a request's slot remain, and so do looks at the clock."""
    wraps = tuple(f"-Wl,--wrap={name}" for name in RECORDING)
    out = BUILT / "gendriver-host-without-records"
    tools = Toolchain(find_compiler())
    extra = BUILT / "without_records.o"
    source = BENCH / "without_records.c"
    BUILT.mkdir(parents=True, exist_ok=True)
    run([*tools.cc, *tools.flags, "-fPIE", "-c", str(source), "-o", str(extra)])
    build_host(replace(tools, link_extra=(*tools.link_extra, *wraps, str(extra))), out)
    return out


def driver(name: str) -> Path:
    """One of the examples."""
    return _driver(ROOT / "examples" / name)


def counted() -> Path:
    """The bench's own, whose sums the loop runs even under a profiler."""
    return _driver(BENCH / "counted.c")


def gate() -> Path:
    """The tests' driver whose calls wait until they are let through."""
    return _driver(ROOT / "tests/drivers/gate.c")


def _driver(origin: Path) -> Path:
    build_drivers(Toolchain(find_compiler()), [origin], BUILT / "drivers")
    return BUILT / "drivers" / f"{origin.stem}.so"


if __name__ == "__main__":
    for build in (load, loop):
        build(Path(sys.argv[1]).absolute())
