# SPDX-License-Identifier: MIT
"""The Erlang client over TLS, with a real daemon and its front."""

import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from certificates import Authority
from running_daemon import RunningDaemon
from tests.system.conftest import Runtime
from tests.system.test_erlang import DEADLINE, passed

pytestmark = pytest.mark.timeout(DEADLINE + 60)


def test_the_erlang_client_speaks_tls_to_a_real_daemon(
    daemon: Callable[..., RunningDaemon], tmp_path: Path, otp25: Runtime
) -> None:
    authority = Authority(tmp_path)
    own = authority.issue("localhost", hosts=["localhost", "127.0.0.1"])
    anna = authority.issue("anna")
    asking = {"clients": "optional", "client_ca": authority.file}
    running = daemon(
        {"echo": {"driver": "echo.so", "threads": 4}},
        tls={"certificate": own.certificate, "key": own.key, **asking},
    )
    reload = [sys.executable, "-m", "gendriverd", "reload", "echo", "--admin", running.admin]
    env = {
        "GENDRIVERD_TLS_URL": running.tls_url,
        "GENDRIVERD_CA": str(authority.file),
        "GENDRIVERD_CERTIFICATE": str(anna.certificate),
        "GENDRIVERD_CERTIFICATE_KEY": str(anna.key),
        "GENDRIVERD_RELOAD": shlex.join(reload),
    }
    ok, of = passed(otp25.suites("tls_SUITE", cwd=tmp_path, seconds=DEADLINE, **env))
    assert ok == of == 6
    assert running.wait_event("tls_client")["certificate"] == ["CN=anna"]
