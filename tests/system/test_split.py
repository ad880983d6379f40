# SPDX-License-Identifier: MIT
"""Nodes in a network that is split and heals: one of them, of OTP 25, reaches the daemon through the others only."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from running_daemon import RunningDaemon
from tests.system.conftest import Runtime
from tests.system.split_network import BESIDE, NoNetwork, split_network

DEADLINE = 180

pytestmark = pytest.mark.timeout(DEADLINE + 60)


@pytest.fixture
def network() -> Iterator[str]:
    try:
        with split_network() as prefix:
            yield prefix
    except NoNetwork as why:
        pytest.skip(str(why))


def test_calls_go_through_another_node_and_survive_a_split(
    network: str, daemon: Callable[..., RunningDaemon], runtime: Runtime, otp25: Runtime, tmp_path: Path
) -> None:
    listen = {"listen": [f"tcp://{BESIDE}2:0", "tcp://127.0.0.1:0"], "insecure": True}
    running = daemon({"sum": {"driver": "sum.so"}}, settings=listen, under=["ip", "netns", "exec", f"{network}-b"])
    env = {"GENDRIVERD_URL": running.tcp_url, "GENDRIVERD_NETWORK": network, "GENDRIVERD_ERL_OF_A": str(otp25.erl)}
    done = runtime.suites("split_SUITE", cwd=tmp_path, seconds=DEADLINE, **env)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"TEST COMPLETE, 5 ok, 0 failed(, 0 skipped)? of 5 test cases", done.stdout), done.stdout
