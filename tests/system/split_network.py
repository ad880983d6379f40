# SPDX-License-Identifier: MIT
"""A network that can be split, of Linux network namespaces: hosts a, b and c on one bridge, each on a link of its own.

    a 10.77.1.1 ──┐
    b 10.77.1.2 ──┼── bridge        b 10.77.2.2 ─── c 10.77.2.3, where a has no way to
    c 10.77.1.3 ──┘

All of it lies in namespaces whose names begin with one prefix, the bridge too, and so goes with them.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

ON_BRIDGE = "10.77.1."
BESIDE = "10.77.2."


class NoNetwork(Exception):
    """Why there can be none here, in one sentence."""


def ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


@contextmanager
def split_network() -> Iterator[str]:
    """The prefix: host a is the namespace PREFIX-a; its link is cut by `ip -n PREFIX-hub link set dev a down`."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        raise NoNetwork("network namespaces want root and iproute2")
    prefix = f"gendriverd{os.getpid()}"
    hub = f"{prefix}-hub"
    with ExitStack() as stack:
        try:
            for name in ("hub", "a", "b", "c"):
                ip("netns", "add", f"{prefix}-{name}")
                stack.callback(ip, "netns", "del", f"{prefix}-{name}")
            ip("-n", hub, "link", "add", "name", "bridge", "type", "bridge")
        except RuntimeError as error:
            raise NoNetwork(f"not permitted here: {error}") from error
        ip("-n", hub, "link", "set", "dev", "bridge", "up")
        for number, name in enumerate("abc", 1):
            host = f"{prefix}-{name}"
            ip("-n", hub, "link", "add", "name", name, "type", "veth", "peer", "name", "net", "netns", host)
            ip("-n", hub, "link", "set", "dev", name, "master", "bridge", "up")
            address(host, "net", f"{ON_BRIDGE}{number}")
            ip("-n", host, "link", "set", "dev", "lo", "up")
        b, c = f"{prefix}-b", f"{prefix}-c"
        ip("-n", b, "link", "add", "name", "beside", "type", "veth", "peer", "name", "beside", "netns", c)
        address(b, "beside", f"{BESIDE}2")
        address(c, "beside", f"{BESIDE}3")
        yield prefix


def address(host: str, link: str, ip4: str) -> None:
    ip("-n", host, "addr", "add", f"{ip4}/24", "dev", link)
    ip("-n", host, "link", "set", "dev", link, "up")
