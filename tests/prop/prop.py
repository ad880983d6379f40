# SPDX-License-Identifier: MIT
"""The Erlang client's promises, checked on scripts that PropEr makes up, against a real daemon (prop_client.erl).

    python tests/prop/prop.py CASES [COUNTEREXAMPLE]

The second argument runs a counterexample of before again. Ends with 1 when a promise is broken.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

from running_daemon import running_daemon  # noqa: E402 (its path is set above)

THREADS = 4  # as prop_case.erl has it
SECONDS_A_CASE = 1


def main(cases: int, again: str, directory: Path) -> int:
    ebin = directory / "ebin"
    ebin.mkdir()
    subprocess.run(["rebar3", "compile"], cwd=ROOT / "erlang", check=True, capture_output=True)
    subprocess.run(["erlc", "-Werror", "-o", ebin, *sorted(HERE.glob("*.erl"))], check=True)
    code = [ebin, *(ROOT / "erlang/_build/default/lib").glob("*/ebin")]
    ledger, gate, found = directory / "ledger", directory / "gate", ROOT / "build/prop/counterexample"
    gate.write_bytes(bytes(8))
    settings = {"ledger": str(ledger), "gate": str(gate)}
    instance = {"driver": ROOT / "build/drivers/test/ledger.so", "threads": THREADS, "settings": settings}
    with running_daemon(directory, {"ledger": instance}, settings={"log_level": "info"}) as daemon:
        port = urlsplit(daemon.tcp_url).port
        arguments = f'[{port}, "{ledger}", "{gate}", {cases}, "{found}", "{again}"]'
        command: list[str | Path] = ["erl", "-noshell", "-pa", *code, "-eval", f"prop_client:main({arguments})."]
        return subprocess.run(command, check=False, timeout=120 + cases * SECONDS_A_CASE).returncode


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="gendriverd-prop-") as temporary:
        sys.exit(main(int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "", Path(temporary)))
