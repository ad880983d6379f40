# SPDX-License-Identifier: MIT
"""The Erlang client over TLS, with a real daemon behind a front that ends it."""

import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from running_daemon import RunningDaemon
from tests.system.conftest import ROOT, Runtime, compiled
from tests.system.test_erlang import DEADLINE, passed

HERE = Path(__file__).resolve().parent
pytestmark = pytest.mark.timeout(DEADLINE + 60)


@contextmanager
def front(certificate: Path, port: int) -> Iterator[str]:
    """Its address."""
    command = [sys.executable, str(HERE / "tls_front.py"), str(certificate), str(port)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield f"tls://127.0.0.1:{int(process.stdout.readline())}"
            process.stdin.close()
            assert process.wait(30) == 0
        finally:
            process.kill()


def test_the_erlang_client_speaks_tls_to_a_real_daemon(
    daemon: Callable[..., RunningDaemon], tmp_path: Path, otp25: Runtime
) -> None:
    make = f'gen_driver_tls_front:write("{tmp_path}/front.pem", "{tmp_path}/ca.pem"), halt().'
    compiled(tmp_path, ROOT / "erlang/test/gen_driver_tls_front.erl")
    assert otp25.run("-pa", tmp_path, "-eval", make, cwd=tmp_path, seconds=60).returncode == 0
    running = daemon({"echo": {"driver": "echo.so", "threads": 4}})
    reload = [sys.executable, "-m", "gendriverd", "reload", "echo", "--admin", running.admin]
    with front(tmp_path / "front.pem", int(running.tcp_url.rpartition(":")[2])) as url:
        env = {
            "GENDRIVERD_TLS_URL": url,
            "GENDRIVERD_CA": str(tmp_path / "ca.pem"),
            "GENDRIVERD_RELOAD": shlex.join(reload),
        }
        ok, of = passed(otp25.suites("tls_SUITE", cwd=tmp_path, seconds=DEADLINE, **env))
    assert ok == of == 5
