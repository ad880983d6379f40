# SPDX-License-Identifier: MIT
"""A gendriverd for the length of a `with` block: started means listening and every instance ready; left means gone.

Used by the tests and by the demo. Blocking, with one thread that reads the daemon's log; never sleeps: it waits for log
events, which the daemon writes as JSON lines on its standard error.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any

Event = dict[str, Any]

LIKE_SYSTEMD = """import fcntl, os, sys
moved = [fcntl.fcntl(int(fd), fcntl.F_DUPFD, 100) for fd in sys.argv[1].split(",")]
for to, fd in enumerate(moved, 3):
    os.dup2(fd, to)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(moved)))
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""
START_SECONDS = 30.0
STOP_SECONDS = 30.0
FINDINGS = ("ERROR: AddressSanitizer", "ERROR: LeakSanitizer", "WARNING: ThreadSanitizer", "runtime error: ")


class DaemonTrouble(AssertionError):
    """The daemon did not do what was waited for; the text ends with its log."""


class RunningDaemon:
    """A daemon and the log it has written so far."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str], passed: Sequence[int] = ()) -> None:
        self.events: list[Event] = []
        self.lines: list[str] = []
        self._told = False
        self.may_be_forced = False  # a second signal was sent
        self.killed = False  # by kill_daemon
        self._changed = threading.Condition()
        self._ended = False
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=dict(env),
            text=True,
            errors="replace",
            pass_fds=passed,
        )
        self._reader = threading.Thread(target=self._read, name="daemon log", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as log:
            for line in log:
                with self._changed:
                    self.lines.append(line.rstrip("\n"))
                    if event := parsed(line):
                        self.events.append(event)
                    self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    @property
    def pid(self) -> int:
        return self.process.pid

    def log(self) -> str:
        return "\n".join(self.lines)

    def wait_until(self, what: str, found: Callable[[list[Event]], bool], seconds: float = START_SECONDS) -> None:
        """Until `found(events)`; an error when the daemon ends first, or the time does."""
        with self._changed:
            done = self._changed.wait_for(lambda: found(self.events) or self._ended, seconds)
            if not done or not found(self.events):
                why = "the daemon ended" if self._ended else f"not within {seconds:g} s"
                raise DaemonTrouble(f"waiting for {what}: {why}. Its log:\n{self.log()}")

    def wait_event(self, name: str, seconds: float = START_SECONDS, *, since: int = 0, **fields: object) -> Event:
        """The first event of this name and with these fields, from the `since`-th event on."""

        def matches(event: Event) -> bool:
            return event.get("event") == name and all(event.get(key) == value for key, value in fields.items())

        told = " ".join([name, *(f"{key}={value!r}" for key, value in fields.items())])
        self.wait_until(told, lambda events: any(map(matches, events[since:])), seconds)
        return next(filter(matches, self.events[since:]))

    def addresses(self) -> list[str]:
        return [str(event["address"]) for event in self.events if event.get("event") == "listening"]

    @property
    def tcp_url(self) -> str:
        return next(address for address in self.addresses() if address.startswith("tcp://"))

    @property
    def tls_url(self) -> str:
        return next(address for address in self.addresses() if address.startswith("tls://"))

    @property
    def unix_url(self) -> str:
        return next(address for address in self.addresses() if address.startswith("unix:"))

    @property
    def admin(self) -> str:
        """The path of its admin socket."""
        return str(self.wait_event("admin_listening")["address"]).removeprefix("unix:")

    def host_pid(self, instance: str) -> int:
        """The process of the instance's newest host."""
        started = [e for e in self.events if e.get("event") == "host_started" and e.get("instance") == instance]
        return int(started[-1]["pid"])

    def terminate(self) -> None:
        """SIGTERM, once: a second one would force it."""
        if not self._told and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self._told = True

    def stop(self) -> None:
        """SIGTERM; then exit code 0, no process left behind, no sanitizer's report."""
        family = descendants(self.pid)
        self.terminate()
        try:
            code = self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise DaemonTrouble(f"the daemon did not stop within {STOP_SECONDS:g} s. Its log:\n{self.log()}") from None
        left = [process for process in family if process.alive()]
        for process in left:
            process.kill()
        self._reader.join(STOP_SECONDS)
        if code != (-signal.SIGKILL if self.killed else 0):
            raise DaemonTrouble(f"the daemon ended with {code}. Its log:\n{self.log()}")
        if not self.may_be_forced and any(event["event"] == "stopping_forced" for event in self.events):
            raise DaemonTrouble(f"the daemon had to be forced to stop. Its log:\n{self.log()}")
        if left:
            raise DaemonTrouble(f"the daemon left processes behind: {left}. Its log:\n{self.log()}")
        if findings := [line for line in self.lines if any(mark in line for mark in FINDINGS)]:
            raise DaemonTrouble(f"a sanitizer reported: {findings[0]}\nThe daemon's log:\n{self.log()}")

    def kill_daemon(self) -> None:
        """SIGKILL for the daemon alone; its hosts should leave by themselves."""
        self.killed = True
        self.process.kill()
        self.process.wait(STOP_SECONDS)

    def kill(self) -> None:
        """For the way out after a failure: the daemon and all below it."""
        family = descendants(self.pid)
        self.process.kill()
        self.process.wait()
        for process in family:
            process.kill()


class ProcessSeen:
    """A process that cannot be mistaken for a later one of the same number."""

    def __init__(self, pid: int, born: str, name: str) -> None:
        self.pid, self.born, self.name = pid, born, name

    def __repr__(self) -> str:
        return f"{self.name}[{self.pid}]"

    def alive(self) -> bool:
        now = stat_of(self.pid)
        return now is not None and now.born == self.born and now.state != "Z"

    def kill(self) -> None:
        if self.alive():
            os.kill(self.pid, signal.SIGKILL)


class Stat:
    """What /proc/PID/stat says."""

    def __init__(self, text: str) -> None:
        head, tail = text.rsplit(")", 1)
        fields = tail.split()
        self.name = head.split("(", 1)[1]
        self.state, self.parent, self.born = fields[0], int(fields[1]), fields[19]


def stat_of(pid: int) -> Stat | None:
    try:
        return Stat(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace"))
    except (FileNotFoundError, ProcessLookupError):
        return None


def descendants(root: int) -> list[ProcessSeen]:
    """Every process below `root`, now."""
    children: dict[int, list[ProcessSeen]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and (stat := stat_of(int(entry.name))):
            children.setdefault(stat.parent, []).append(ProcessSeen(int(entry.name), stat.born, stat.name))
    found: list[ProcessSeen] = []
    todo = [root]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += [process.pid for process in below]
    return found


def open_files(pid: int) -> dict[Path, str]:
    """A process's descriptors in /proc, and what each is open on; without those that it has closed meanwhile."""
    found = {}
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            found[fd] = str(fd.readlink())
    return found


def parsed(line: str) -> Event | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) else None


def toml(value: object) -> str:
    """A value as TOML; JSON's strings are TOML's basic strings."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{json.dumps(str(key))} = {toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(str(value) if isinstance(value, Path) else value)


def configuration(
    daemon: Mapping[str, object],
    instances: Mapping[str, Mapping[str, object]],
    keys: Mapping[str, Mapping[str, object]] = MappingProxyType({}),
    tls: Mapping[str, object] = MappingProxyType({}),
) -> str:
    """The text of a configuration file."""
    named = {"instances": {name: as_we_are(instance) for name, instance in instances.items()}, "keys": keys}
    tables = {"daemon": daemon, "tls": tls}
    for kind, each in named.items():
        tables |= {f"{kind}.{json.dumps(name)}": settings for name, settings in each.items()}
    lines = []
    for table, settings in tables.items():
        lines += [f"[{table}]", *(f"{key} = {toml(value)}" for key, value in settings.items()), ""]
    return "\n".join(lines)


def as_we_are(instance: Mapping[str, object]) -> Mapping[str, object]:
    """Hosts of a daemon that runs as root stay root, unless something is said of their user: temporary directories are
    for us alone.
    """
    sandbox = instance.get("sandbox", {})
    if os.geteuid() != 0 or not isinstance(sandbox, Mapping) or "user" in sandbox:
        return instance
    return {**instance, "sandbox": {**sandbox, "user": "root"}}


@contextmanager
def running_daemon(
    directory: Path,
    instances: Mapping[str, Mapping[str, object]],
    *,
    settings: Mapping[str, object] | None = None,
    keys: Mapping[str, Mapping[str, object]] = MappingProxyType({}),
    tls: Mapping[str, object] = MappingProxyType({}),
    arguments: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    expect_ready: Sequence[str] | None = None,
    passed: Sequence[int] = (),
    under: Sequence[str] = (),
    user: int | None = None,
) -> Iterator[RunningDaemon]:
    """A daemon with these instances, on a free loopback port and a unix socket; `settings` are those of [daemon],
    `keys` the tables of [keys], `tls` those of [tls]: with any, it listens for TLS on a free port too.

    `passed`: descriptors of listening sockets, which stand instead, as systemd passes them. `under`: a command that
    becomes the daemon, as `ip netns exec NAME`. `user`: its number, where it is not to be ours.
    The configuration is written to `directory`; the socket lies elsewhere, as its path must be short. Waits for the
    instances named in `expect_ready`: all when it is not given.
    """
    with tempfile.TemporaryDirectory(prefix="gendriverd-") as short:
        listen = ["tcp://127.0.0.1:0", f"unix:{short}/gendriverd.sock"]
        path = directory / "gendriverd.toml"
        host = os.environ.get("GENDRIVERD_HOST", "")
        own = {
            "listen": listen,
            "admin": f"{short}/admin.sock",
            "log_format": "json",
            "log_level": "debug",
            "host": host,
            "reports_dir": directory / "reports",
            "snapshots_dir": directory / "drivers",
        }
        encrypted = {"listen": ["tcp://127.0.0.1:0"], **tls} if tls else {}
        path.write_text(configuration({**own, **(settings or {})}, instances, keys, encrypted), encoding="utf-8")
        if user is not None:
            under = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", *under]
            for each in (short, directory):
                os.chown(each, user, user)
        wrapper = ["-c", LIKE_SYSTEMD, ",".join(map(str, passed))] if passed else []
        command = [*under, sys.executable, *wrapper, "-m", "gendriverd", "serve", "--config", str(path), *arguments]
        # The environment wins over the file: nothing of it may get into a test that has said otherwise.
        clean = {name: value for name, value in os.environ.items() if not name.startswith("GENDRIVERD_")}
        daemon = RunningDaemon(command, {**clean, **(env or {})}, passed)
        try:
            daemon.wait_until(
                "listening", lambda _: len(daemon.addresses()) >= len(passed or listen) + bool(tls and not passed)
            )
            for name in instances if expect_ready is None else expect_ready:
                daemon.wait_event("instance_ready", instance=name)
            yield daemon
        except BaseException:
            daemon.kill()
            raise
        daemon.stop()
