# SPDX-License-Identifier: MIT
"""A driver that is replayed prints for whoever looks on, and gets no hold of the terminal."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from running_daemon import RunningDaemon
from test_crash import SEGV
from test_reports import die

# The other end is the session's terminal, as a person's is.
IN_A_TERMINAL = """import fcntl, os, sys, termios
os.setsid()
fcntl.ioctl(1, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, "-m", "gendriverd", *sys.argv[1:]])
"""


def in_a_terminal(*arguments: str) -> str:
    """What it shows, to its end."""
    ours, theirs = os.openpty()
    command = [sys.executable, "-c", IN_A_TERMINAL, *arguments]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, pass_fds=[]) as process:
        os.close(theirs)
        shown = b""
        try:
            while data := os.read(ours, 65536):
                shown += data
        except OSError:  # EIO: nobody has it any more
            pass
        finally:
            os.close(ours)
        assert process.wait(60) == 0, shown
    return shown.decode()


def test_it_is_not_the_drivers(daemon: Callable[..., RunningDaemon], drivers: Path, tmp_path: Path) -> None:
    die(daemon, drivers, SEGV, reports="full")
    config = str(tmp_path / "daemon-1/gendriverd.toml")
    driver = str(drivers / "test/terminal.so")
    shown = in_a_terminal("replay", "last", "--config", config, "--driver", driver)
    assert "seen \\x1b]0;taken\\x07" in shown
    assert "\x1b" not in shown
    assert '"000 0"' in shown
