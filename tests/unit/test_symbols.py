# SPDX-License-Identifier: MIT
"""Names of functions, of files that a report names: a driver may have put anything in their place."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ASK = """import sys
from pathlib import Path
from gendriverd.symbols import Symbols
print(Symbols(Path(sys.argv[1])).name(8))"""


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    (tmp_path / "text").write_text("no code")
    for path in (pipe, tmp_path, tmp_path / "text", tmp_path / "missing", Path("/dev/zero")):
        command = [sys.executable, "-c", ASK, str(path)]
        asked = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
        assert asked.stdout == "None\n"
