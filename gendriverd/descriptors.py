# SPDX-License-Identifier: MIT
"""How many descriptors there are, and those that no client gets: for hosts that start, the admin socket, the front.

The kernel gives out the lowest free number first, so that a high one says how few are left.
"""

from __future__ import annotations

import contextlib
import errno
import resource

RESERVE = 64  # where so many are a quarter of all at most


def take_all() -> None:
    """Those that the hard limit allows: the soft one is for programs that use select(2). Hosts set their own."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # a kernel that does not take what it gave
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def check_for_client(fd: int) -> None:
    """Whether a client may keep it. Raises OSError, as the kernel does when there is none at all."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit != resource.RLIM_INFINITY and fd >= limit - min(RESERVE, limit // 4):
        raise OSError(errno.EMFILE, f"of {limit} descriptors the last are kept for hosts and the admin socket")
