# SPDX-License-Identifier: MIT
"""atheris on one target of targets.py: python.py [--canary] TARGET [libFuzzer's options and corpora].

With --canary it fuzzes a copy of gendriverd that has the target's bug of canary.toml in it.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import tomllib
from pathlib import Path

import atheris

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent


def plant(name: str) -> Path:
    """A folder with the package as it would be with the bug. SystemExit: it does not fit any more."""
    canary = tomllib.loads((HERE / "canary.toml").read_text(encoding="utf-8"))[name]
    copy = ROOT / "build" / "canary" / name
    shutil.copytree(ROOT / "gendriverd", copy / "gendriverd", dirs_exist_ok=True, ignore=shutil.ignore_patterns("_bin"))
    source = copy / "gendriverd" / canary["file"]
    text = source.read_text(encoding="utf-8")
    if text.count(canary["old"]) != 1:
        sys.exit(f"python.py: the canary of {name} does not fit {canary['file']} any more: tests/fuzz/canary.toml")
    source.write_text(text.replace(canary["old"], canary["new"]), encoding="utf-8")
    return copy


def main(arguments: list[str]) -> None:
    canary = arguments[0] == "--canary"
    name, *options = arguments[canary:]
    sys.path[:0] = [str(plant(name) if canary else ROOT), str(HERE)]
    with atheris.instrument_imports(include=["gendriverd", "erlang", "tomllib"]):
        import targets
    if name not in targets.TARGETS:
        sys.exit(f"python.py: no target {name!r}; there are {', '.join(targets.TARGETS)}")
    scratch = ROOT / "build" / "fuzz" / "tmp"  # atheris ends the process at once: nothing is tidied up
    scratch.mkdir(parents=True, exist_ok=True)
    tempfile.tempdir = str(scratch)
    again = f"{sys.executable} {Path(__file__)} {name}"  # how libFuzzer starts itself, to merge
    atheris.Setup([again, *options], targets.TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
