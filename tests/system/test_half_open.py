# SPDX-License-Identifier: MIT
"""A client whose link is cut, and of which nothing is ever heard again: its connection ends all the same."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from running_daemon import RunningDaemon
from tests.system.split_network import ON_BRIDGE, NoNetwork, ip, split_network

SECONDS = 2  # the least that keepalive may be
DEADLINE = 60.0

CLIENT = """import sys
from gendriverd.client import connect
with connect(sys.argv[1], "echo"):
    print("connected", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def network() -> Iterator[str]:
    try:
        with split_network() as prefix:
            yield prefix
    except NoNetwork as why:
        pytest.skip(str(why))


@contextmanager
def client_in(namespace: str, url: str) -> Iterator[None]:
    command = ["ip", "netns", "exec", namespace, sys.executable, "-c", CLIENT, url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "connected\n"
            yield
        finally:
            process.kill()


def test_a_client_whose_link_is_cut_is_noticed_and_one_that_is_idle_is_not(
    network: str, daemon: Callable[..., RunningDaemon]
) -> None:
    settings = {"listen": [f"tcp://{ON_BRIDGE}2:0", "tcp://127.0.0.1:0"], "insecure": True, "keepalive": f"{SECONDS}s"}
    running = daemon({"echo": {"driver": "echo.so"}}, settings=settings, under=["ip", "netns", "exec", f"{network}-b"])
    url = running.tcp_url
    with client_in(f"{network}-a", url), client_in(f"{network}-c", url):
        ip("-n", f"{network}-hub", "link", "set", "dev", "a", "down")
        gone = running.wait_event("client_closed", DEADLINE)
        assert gone["reason"] == "peer_gone"
        assert gone["peer"].startswith(f"tcp://{ON_BRIDGE}1:")
        assert sum(event["event"] == "client_closed" for event in running.events) == 1
