# SPDX-License-Identifier: MIT
"""Compile unit tests and fuzzers in C with the parts of the host that they are about, and run the unit tests."""

from __future__ import annotations

import hashlib
import struct
import subprocess
import tempfile
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from toolchain import HOST, INCLUDE, ROOT, BuildError, Toolchain, compile_all, link, once, shown

# Of the host: what unit tests and fuzzers link,
PURE = (
    *("etf.c", "etf_leaf.c", "etf_text.c", "envelope.c", "frame.c"),
    *("term_get.c", "term_get_number.c", "term_get_text.c"),
    *("term_put.c", "term_put_number.c", "term_put_text.c"),
    *("recorder.c", "stats.c", "lengths.c", "lanes.c", "sha256.c", "quarantine.c", "allowed.c"),
)
# and some of them more: what they leave out of it, as settings or the pool, they play themselves.
SANDBOX = ("sandbox.c", "landlock.c", "seccomp.c")
CHANNEL = ("control.c", "control_parse.c", *SANDBOX, "log.c", "running.c")
CONNECTION = (
    *(
        "conn.c",
        "conn_answer.c",
        "conn_attend.c",
        "conn_clock.c",
        "conn_note.c",
        "conn_part.c",
        "conn_read.c",
        "conn_request.c",
        "conn_room.c",
        "conn_send.c",
        "conn_take.c",
    ),
    *("ids.c", "output.c", "queue.c", "request.c"),
)
ALSO = {
    "fuzz_control": CHANNEL,
    "test_control": CHANNEL,
    "test_control_parse": CHANNEL,
    "test_control_start": CHANNEL,
    "test_room": ("conn_room.c",),
    "test_sandbox": SANDBOX,
    "test_take": ("conn_take.c",),
    "fuzz_stream": (*CHANNEL, "settings.c", *CONNECTION),
}
# In a program that includes faults.h these fail when it says so.
FAULTS = ("-Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=strndup,--wrap=strtod,--wrap=localeconv",)


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
