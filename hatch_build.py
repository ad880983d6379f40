# SPDX-License-Identifier: MIT
"""pip's build hook: compiles the host and the two small drivers into gendriverd/_bin, for wheel and editable alike.

What is compiled is in scripts/native.py, with which flags in scripts/toolchain.py. The wheel holds a program but no
extension module, hence the tag: any Python 3, this platform.
"""

from __future__ import annotations

import importlib
import sys
import sysconfig
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class NativeHook(BuildHookInterface):  # type: ignore[type-arg]
    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        if not sys.platform.startswith("linux"):
            raise SystemExit(f"gendriverd: its host runs on Linux only, not on {sys.platform}")
        native = load_native(Path(self.root))
        try:
            native.build_shipped(native.Toolchain(native.find_compiler()))
        except native.BuildError as error:
            raise SystemExit(str(error)) from None
        build_data["pure_python"] = False
        build_data["tag"] = "py3-none-" + sysconfig.get_platform().replace("-", "_").replace(".", "_")


def load_native(root: Path) -> ModuleType:
    """scripts/native.py: a build backend does not have the project on its path, nor what lies beside that file."""
    sys.path.insert(0, str(root / "scripts"))
    try:
        return importlib.import_module("native")
    except ModuleNotFoundError as error:
        raise SystemExit(f"gendriverd: scripts/{error.name}.py is missing from this source tree") from None
