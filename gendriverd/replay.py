# SPDX-License-Identifier: MIT
"""`gendriverd replay`: the request of a report once more, alone, in a fresh host. Does it crash again?

The host is the ordinary one, or runs under gdb or valgrind. It is spoken to as a daemon would
(docs/control-channel.md), with a client's connection of our own on which the one request is sent.
"""

from __future__ import annotations

import array
import base64
import contextlib
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from gendriverd import erlterm, etf, passing
from gendriverd.errors import GendriverdError
from gendriverd.etf import Atom
from gendriverd.launch import find_driver, find_host, host_environment
from gendriverd.log import TEXT_MAX, clean_text
from gendriverd.reports import Report, find
from gendriverd.schema import Config
from gendriverd.snapshot import Snapshot
from gendriverd.start import Plan, start_message

MESSAGE_MAX = 64 * 1024
REPLY_MAX = 1 << 28
LINE_MAX = TEXT_MAX  # bytes of one that is shown
LAST_LINES = 2.0  # seconds for them, where something that it left holds its output open
PART = b"\x83h\3w\4part"
UNDER: dict[str, Sequence[str]] = {
    "gdb": ("gdb", "-q", "--batch", "-ex", "run", "-ex", "backtrace full", "-ex", "info registers", "--args"),
    "valgrind": ("valgrind", "--error-exitcode=99", "--track-origins=yes"),
}


ON_DESCRIPTOR_3 = "import os, sys; os.dup2(int(sys.argv[1]), 3); os.execvp(sys.argv[2], sys.argv[2:])"


class ReplayError(GendriverdError):
    """It cannot be replayed: why, in one sentence."""


def replay(config: Config, wanted: str, *, under: str | None, driver: str | None, host: str, timeout: float) -> int:
    """1: it crashed again; 0: it did not, and the reply is printed. Raises ReplayError, LaunchError."""
    report = find(Path(config.daemon.reports_dir), wanted)
    if report is None:
        raise ReplayError(f"no report {wanted!r} in {config.daemon.reports_dir}; gendriverd reports lists them")
    frame = _frame(report)
    name = str(report["instance"])
    instance = config.instances.get(name)
    if instance is None:
        raise ReplayError(f"the configuration has no instance {name!r} any more: its settings are not known")
    path = driver or _as_it_was(report) or find_driver(instance.driver, config.daemon.driver_path)
    ends = instance.model_copy(update={"on_hang": "restart"})  # if it hangs again, that is to be seen
    start = start_message(Plan(name, ends, config.daemon), Snapshot(path, driver or str(report["driver"])), 0)
    if under is not None:  # what watches it does more than a driver may
        del start[Atom("sandbox")]
    command = [*UNDER.get(under or "", ()), str(find_host(host or config.daemon.host)), f"instance={name}"]
    print(clean_text(f"replaying {report['id']} on {path}"), flush=True)
    environment = host_environment(library_path=str(Path(report["driver"]).parent))
    if under == "asan":
        environment |= _asan(environment)
    return _verdict(*_run(command, environment, start, frame, timeout, watched=under is not None), report)


def _asan(environment: dict[str, str]) -> dict[str, str]:
    """The host itself is built without: its runtime must come first."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise ReplayError("--asan needs gcc, which knows where its libasan.so is")
    found = subprocess.run([compiler, "-print-file-name=libasan.so"], capture_output=True, text=True, check=False)
    runtime = found.stdout.strip()
    if not Path(runtime).is_absolute():
        raise ReplayError(f"{compiler} has no libasan.so")
    options = ":".join(filter(None, [environment.get("ASAN_OPTIONS"), "detect_leaks=0", "allow_user_segv_handler=0"]))
    return {"LD_PRELOAD": runtime, "ASAN_OPTIONS": options}


def _as_it_was(report: Report) -> str | None:
    """The snapshot that was loaded, if it is still there."""
    loaded = report.get("loaded")
    return loaded if loaded and loaded != report["driver"] and Path(loaded).exists() else None


def _frame(report: Report) -> bytes:
    """The request as it came, but for its id and options; where it took parts, it takes them all."""
    culprit = report.get("culprit")
    if culprit is None:
        raise ReplayError(f"{report.get('id')} names no request: {report.get('culprit_unknown')}")
    if not culprit.get("params"):
        raise ReplayError(
            f"{report.get('id')} holds no bytes of its request ({culprit.get('params_bytes')} bytes):"
            ' only with [daemon] reports = "full" they are kept, up to 1 MiB'
        )
    options = etf.encode({Atom("parts"): 0xFFFFFFFF} if culprit.get("parts") else {})[1:]
    params = base64.b64decode(culprit["params"])
    body = b"\x83h\5w\4calla\0b" + struct.pack(">i", culprit["command"]) + params + options
    return struct.pack(">I", len(body)) + body


def _run(
    command: Sequence[str],
    environment: dict[str, str],
    start: dict[Any, Any],
    frame: bytes,
    timeout: float,
    *,
    watched: bool,
) -> tuple[bytes, int | None]:
    """What came back on the connection, and how the process ended. What watches it stays in our session."""
    control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    client, served = socket.socketpair()
    passing.refuse(control)
    passing.refuse(client)
    until = time.monotonic() + timeout
    with control, client, _shown() as output:
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-c", ON_DESCRIPTOR_3, str(theirs.fileno()), *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=not watched,
                pass_fds=[theirs.fileno()],
                env=environment,
            )
        try:
            with served:
                _hand_over(control, start, served, until)
            client.sendall(frame)
            said = _until_answered(client, until)
        finally:
            with contextlib.suppress(OSError):
                control.send(etf.encode((Atom("stop"), 1000)))
            control.close()
            code = _end(process)
    return said, code


@contextlib.contextmanager
def _shown() -> Iterator[int]:
    """Where the host prints to: a thread shows it, and what it said last before this ends."""
    ours, theirs = socket.socketpair()
    passing.refuse(ours)
    with ours:
        thread = threading.Thread(target=_show, args=(ours.makefile("rb"),), daemon=True)
    thread.start()
    try:
        yield theirs.fileno()
    finally:
        theirs.close()
        thread.join(LAST_LINES)


def _show(output: IO[bytes]) -> None:
    """What it prints, but for what a terminal would obey: its driver may have written it."""
    with output, contextlib.suppress(BrokenPipeError):  # nobody reads on
        while line := output.readline(LINE_MAX):
            print(clean_text(line.decode(errors="backslashreplace").rstrip("\n").expandtabs()), flush=True)


def _hand_over(control: socket.socket, start: dict[Any, Any], served: socket.socket, until: float) -> None:
    control.send(etf.encode((Atom("start"), start)))
    _hear(control, "ready", until)
    message = etf.encode((Atom("conn"), 1, b"replay", b"", Atom("all")))
    control.sendmsg([message], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [served.fileno()]))])
    _hear(control, "adopted", until)


def _hear(control: socket.socket, wanted: str, until: float) -> None:
    while True:
        control.settimeout(max(0.1, until - time.monotonic()))
        try:
            data = control.recv(MESSAGE_MAX)
        except OSError as error:
            raise ReplayError(f"the host did not get as far as {wanted!r}: {error}") from error
        if not data:
            raise ReplayError(f"the host ended before it said {wanted!r}: the driver does not start")
        match _message(data):
            case ("refuse", bytes() as why):
                raise ReplayError(f"the host refuses the driver: {why.decode(errors='replace')}")
            case (tag, *_) if tag == wanted:
                return


def _message(data: bytes) -> Any:
    """Its driver may have said it in its place."""
    try:
        return etf.decode(data)
    except etf.EtfError as error:
        raise ReplayError(f"the host said what is no message: {error}") from None


def _until_answered(client: socket.socket, until: float) -> bytes:
    """The first frame that is no part, without its length; empty: the end came first."""
    data = b""
    while True:
        while len(data) >= 4 and len(data) >= (end := 4 + struct.unpack(">I", data[:4])[0]):
            frame, data = data[4:end], data[end:]
            if not frame.startswith(PART):
                return frame
        if len(data) > REPLY_MAX:
            raise ReplayError(f"an answer of more than {REPLY_MAX >> 20} MiB: none that a driver gives")
        client.settimeout(max(0.1, until - time.monotonic()))
        try:
            chunk = client.recv(1 << 20)
        except TimeoutError:
            raise ReplayError("no answer and no crash in this time; --timeout allows more") from None
        except OSError:
            chunk = b""
        if not chunk:
            return b""
        data += chunk


def _end(process: subprocess.Popen[bytes]) -> int | None:
    try:
        return process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return None


def _verdict(said: bytes, code: int | None, report: Report) -> int:
    sys.stdout.flush()
    if not said:
        print(clean_text(f"it crashed again (exit status {code}); before: {report.get('reason')}"))
        return 1
    print(f"it did not crash: {erlterm.format(_answered(said))}")
    return 1 if code == 99 else 0  # valgrind has found something


def _answered(frame: bytes) -> etf.Term:
    """Its driver may have said it in its place."""
    try:
        match etf.decode(frame):
            case (_, _, answer):
                return answer
    except etf.EtfError as error:
        raise ReplayError(f"it did not crash, and its answer is no term that can be shown: {error}") from None
    raise ReplayError("it did not crash, and what it said is no answer")
