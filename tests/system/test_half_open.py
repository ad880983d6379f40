# SPDX-License-Identifier: MIT
"""A client whose link is cut, and of which nothing is ever heard again: its connection ends all the same."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from certificates import Authority
from running_daemon import RunningDaemon
from tests.system.split_network import ON_BRIDGE, NoNetwork, ip, split_network

SECONDS = 2  # the least that keepalive may be
DEADLINE = 60.0

CLIENT = """import ssl, sys
from gendriverd.client import connect
url, ca = sys.argv[1:]
with connect(url, "echo", tls=ssl.create_default_context(cafile=ca) if url.startswith("tls") else None):
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
def client_in(namespace: str, url: str, ca: Path) -> Iterator[None]:
    command = ["ip", "netns", "exec", namespace, sys.executable, "-c", CLIENT, url, str(ca)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "connected\n"
            yield
        finally:
            process.kill()


@pytest.mark.parametrize("kind", ["tcp", "tls"])
def test_a_client_whose_link_is_cut_is_noticed_and_one_that_is_idle_is_not(
    network: str, daemon: Callable[..., RunningDaemon], tmp_path: Path, kind: str
) -> None:
    authority = Authority(tmp_path)
    own = authority.issue("own", hosts=[f"{ON_BRIDGE}2"])
    tls = {"listen": [f"tcp://{ON_BRIDGE}2:0"], "certificate": str(own.certificate), "key": str(own.key)}
    settings = {"listen": [f"tcp://{ON_BRIDGE}2:0", "tcp://127.0.0.1:0"], "insecure": True, "keepalive": f"{SECONDS}s"}
    running = daemon(
        {"echo": {"driver": "echo.so"}}, settings=settings, tls=tls, under=["ip", "netns", "exec", f"{network}-b"]
    )
    url, ca = running.tls_url if kind == "tls" else running.tcp_url, authority.file
    with client_in(f"{network}-a", url, ca), client_in(f"{network}-c", url, ca):
        ip("-n", f"{network}-hub", "link", "set", "dev", "a", "down")
        gone = running.wait_event("client_closed", DEADLINE)
        assert gone["reason"] == {"tcp": "peer_gone", "tls": "peer_closed"}[kind]  # by the front
        assert gone["peer"].startswith(f"{kind}://{ON_BRIDGE}1:")
        assert sum(event["event"] == "client_closed" for event in running.events) == 1
