# SPDX-License-Identifier: MIT
"""Starting gendriver-host, or the front of TLS: its file descriptors, environment and session; and its death, which is
what waitid says.

posix_spawn puts the control channel on descriptor 3 without running Python between fork and exec. The process is held
by a pidfd, so a signal cannot hit a stranger that got its number. Whatever it left in its process group is killed
before it is reaped, while the number is still taken.
"""

from __future__ import annotations

import contextlib
import os
import resource
import secrets
import signal
import socket
import sys
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import trio

from gendriverd import passing
from gendriverd.channel import Channel, make_pair
from gendriverd.errors import LaunchError

CHANNEL_FD = 3
NUMBER = "GENDRIVERD_HOST_NUMBER"  # in a host's environment: whose a process is that a driver has started
ENVIRONMENT = frozenset({"PATH", "HOME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "LD_PRELOAD"})
FRONT_ENVIRONMENT = frozenset({"LD_LIBRARY_PATH", "OPENSSL_CONF", "OPENSSL_MODULES"})
ENVIRONMENT_PREFIXES = ("LC_", "MALLOC_", "ASAN_", "LSAN_", "TSAN_", "UBSAN_", "LLVM_PROFILE_", "GCOV_")


living: dict[
    int, str
] = {}  # the hosts and fronts that are not reaped, process id to number; as children, the process's own


class Exit(NamedTuple):
    """How a host ended: by itself with `code`, or by `signal`."""

    code: int | None
    signal: str | None
    core: bool = False  # the kernel has written one, or handed it over

    def __str__(self) -> str:
        if self.code is None and self.signal is None:
            return "ended, nobody knows how"
        return f"exit code {self.code}" if self.signal is None else f"killed by {self.signal}"


class Host:
    """A running gendriver-host, or front. Reap it with wait(), then close(). `maps`: its /proc/PID/maps, or -1."""

    def __init__(self, pid: int, pidfd: int, channel: Channel, output: int) -> None:
        self.pid = pid
        self.maps = _open_maps(pid)
        self.channel = channel
        self._pidfd = pidfd
        self._output = trio.lowlevel.FdStream(output)
        self._exit: Exit | None = None
        self.usage: resource.struct_rusage | None = None  # when it is reaped

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError, OSError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    async def wait(self) -> Exit:
        """Until it is dead and reaped; by one task at a time."""
        if self._exit is None:
            self._exit = await self._reap()
        return self._exit

    async def _reap(self) -> Exit:
        await trio.lowlevel.wait_readable(self._pidfd)  # dead: what follows does not block
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        try:
            _, status, self.usage = os.wait4(self.pid, 0)  # noqa: ASYNC222 (it is dead, and its number still taken)
        except ChildProcessError:  # somebody else has reaped it
            return Exit(None, None)
        finally:
            living.pop(self.pid, None)
        if os.WIFEXITED(status):
            return Exit(os.WEXITSTATUS(status), None)
        return Exit(None, signal_name(os.WTERMSIG(status)), os.WCOREDUMP(status))

    async def read_output(self) -> bytes:
        """Some of what it prints; empty at the end."""
        try:
            return bytes(await self._output.receive_some(16384))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return b""

    def discard(self) -> None:
        """End one that was not needed, and reap it: a process in start, which dies at once."""
        self.kill()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)
        living.pop(self.pid, None)
        self.close()

    def close(self) -> None:
        """Everything but the process; a host that still lives sees the end of its channel and leaves."""
        self.channel.close()
        self._output.close()
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
        if self.maps >= 0:
            os.close(self.maps)
            self.maps = -1


def find_host(setting: str, environ: Mapping[str, str] = os.environ) -> Path:
    """The executable: the setting, $GENDRIVERD_HOST, or the one shipped. Raises LaunchError."""
    named = setting or environ.get("GENDRIVERD_HOST", "")
    path = Path(named) if named else shipped("gendriver-host")
    if _is_file(path) and os.access(path, os.X_OK):
        return path.absolute()
    if named:
        raise LaunchError(f"{path} is not an executable file (setting host, or GENDRIVERD_HOST)", permanent=True)
    raise LaunchError(f"gendriver-host is missing from this installation ({path})", permanent=True)


def find_driver(driver: str, driver_path: tuple[str, ...]) -> str:
    """A driver with a directory is what it says; a bare name is looked up. Raises LaunchError."""
    if "/" in driver:
        return driver
    places = [Path(directory) for directory in driver_path] + [shipped("drivers")]
    for place in places:
        if _is_file(place / driver):
            return str(place / driver)
    raise LaunchError(f"driver {driver}: not found in {', '.join(map(str, places))}", permanent=True)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name too long, a directory that may not be read
        return False


def shipped(name: str) -> Path:
    """A file of the package's own."""
    return Path(str(resources.files("gendriverd"))) / "_bin" / name


def host_environment(environ: Mapping[str, str] = os.environ, library_path: str = "") -> dict[str, str]:
    """What a driver may know of the daemon's environment: an allowed list, so that no secret leaks by default.
    `library_path`: a directory for LD_LIBRARY_PATH, after those that are there.
    """
    env = {key: value for key, value in environ.items() if key in ENVIRONMENT or key.startswith(ENVIRONMENT_PREFIXES)}
    if library_path:
        env["LD_LIBRARY_PATH"] = ":".join(filter(None, [env.get("LD_LIBRARY_PATH"), library_path]))
    return env


def launch(executable: Path, name: str, generation: int, library_path: str = "") -> Host:
    """Start a host; it waits for {start, Map} on its channel. Raises LaunchError."""
    environment = host_environment(library_path=library_path)
    environment |= {"GENDRIVERD_INSTANCE": name, "GENDRIVERD_GENERATION": str(generation)}
    host = start_process(executable, [f"instance={name}"], environment)  # for ps; "--version" would be a lawful name
    host.channel.refuse_descriptors()
    return host


def launch_front(environ: Mapping[str, str] = os.environ) -> Host:
    """Start the front that ends TLS; it waits for {start, N, Map} on its channel. Raises LaunchError."""
    environment = {key: value for key, value in environ.items() if key in FRONT_ENVIRONMENT}
    cache = [f"-Xpycache_prefix={sys.pycache_prefix}"] if sys.pycache_prefix else []
    return start_process(Path(sys.executable), ["-I", *cache, "-m", "gendriverd.tls_front"], environment)


def start_process(executable: Path, arguments: list[str], environment: dict[str, str]) -> Host:
    """Whatever is started: with its channel, its output, a session and a number of its own. Raises LaunchError."""
    number = secrets.token_hex(16)  # not to be guessed: what a driver starts may say what it likes
    try:
        host = _spawn(executable, arguments, {**environment, NUMBER: number})
    except OSError as error:
        raise LaunchError(f"cannot start {executable}: {error.strerror}", permanent=False) from error
    living[host.pid] = number
    return host


def _spawn(executable: Path, arguments: list[str], environment: dict[str, str]) -> Host:
    with contextlib.ExitStack() as undo:
        channel, theirs = make_pair()
        undo.callback(channel.close)
        with theirs:
            # No pipe: whoever splices into one keeps it locked, and us in a read that nothing can interrupt.
            ours, output = socket.socketpair()
            undo.callback(ours.close)
            passing.refuse(ours)
            with output:
                pid = _posix_spawn(executable, arguments, environment, theirs, output.fileno())
        pidfd = _hold(pid)
        undo.pop_all()
        return Host(pid, pidfd, channel, ours.detach())


def _posix_spawn(
    executable: Path, arguments: list[str], environment: dict[str, str], channel: socket.socket, output: int
) -> int:
    """Descriptors 0 to 3 as the host expects them; Python opens all others close-on-exec."""
    return os.posix_spawn(
        executable,
        [str(executable), *arguments],
        environment,
        file_actions=[
            (os.POSIX_SPAWN_DUP2, output, 1),
            (os.POSIX_SPAWN_DUP2, output, 2),
            (os.POSIX_SPAWN_DUP2, channel.fileno(), CHANNEL_FD),
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        ],
        setsid=True,
        setsigmask=[],
        setsigdef=[signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD],
    )


def _hold(pid: int) -> int:
    try:
        return os.pidfd_open(pid)
    except OSError:  # no descriptor left: a process that nobody could watch must not run
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise


def _open_maps(pid: int) -> int:
    """While it waits for its start message: afterwards it is not dumpable, and so not ours to look into."""
    try:
        return os.open(f"/proc/{pid}/maps", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return -1


def signal_name(number: int) -> str:
    """As SIGSEGV."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
