# SPDX-License-Identifier: MIT
"""What a front that was taken over could still do: nothing but serve. Tried by a process that has confined itself."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from certificates import Authority
from gendriverd.schema import TlsConfig
from gendriverd.tls_files import read_material
from passed_sockets import lingering, rights

__all__ = ["lingering"]

FILES = {"open a file", "list a directory", "make a file", "open the daemon's memory"}  # Landlock's alone to forbid
# Says of each attempt whether it has failed. The parent's memory is what the daemon's would be.
TRY = """
import ctypes, fcntl, json, os, socket, struct, sys
from gendriverd import passing
from gendriverd.tls_context import make_context, of_descriptor
from gendriverd.tls_front.confine import confine
certificate, key, memory, confined = map(int, sys.argv[1:])
parent = os.getppid()
held_daemon = os.pidfd_open(parent)
libc = ctypes.CDLL(None, use_errno=True)
word = ctypes.create_string_buffer(8)
class Vector(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))
near, far = Vector(ctypes.addressof(word), 8), Vector(memory, 8)
def must(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), "refused")
attempts = {
    "open a file": lambda: open("/etc/passwd"),
    "list a directory": lambda: os.listdir("/"),
    "make a file": lambda: open("/dev/null", "w"),
    "open the daemon's memory": lambda: open(f"/proc/{parent}/mem"),
    "read the daemon's memory": lambda: must(
        libc.process_vm_readv(parent, ctypes.byref(near), 1, ctypes.byref(far), 1, 0)),
    "trace the daemon": lambda: must(libc.ptrace(0x4206, parent, None, None)),
    "signal the daemon": lambda: os.kill(parent, 0),
    "take a descriptor of the daemon": lambda: must(libc.syscall(438, held_daemon, 0, 0)),
    "have the daemon signalled": lambda: fcntl.fcntl(held[0], fcntl.F_SETOWN, parent),
    "choose the signal": lambda: fcntl.fcntl(held[0], fcntl.F_SETSIG, 15),
    "have it signalled by an older call": lambda: fcntl.ioctl(held[0], 0x8901, struct.pack("i", parent)),
    "make a socket that waits when it is closed": lambda: tcp.setsockopt(
        socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 3600)),
    "run a program": lambda: os.execv("/bin/true", ["true"]),
    "fork": lambda: os._exit(0) if os.fork() == 0 else None,
    "make a TCP socket": lambda: socket.socket(),
    "make a unix socket": lambda: socket.socket(socket.AF_UNIX),
    "make a pair that can be connected elsewhere": lambda: socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM),
}
held = socket.socketpair()
can_refuse = passing.refuse(held[0])
tcp = socket.socket()
by = (0, 0)
if confined:
    by = confine()
else:
    for what in ("trace the daemon", "run a program", "fork"):
        del attempts[what]
refused = {}
for what, attempt in attempts.items():
    try:
        attempt()
        refused[what] = False
    except OSError:
        refused[what] = True
make_context(of_descriptor(certificate), of_descriptor(key), None, "none")
pair = socket.socketpair()
pair[0].send(b"x")
tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
tcp.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
assert passing.refuse(pair[0]) == can_refuse
print(json.dumps({"held": by, "refused": refused}))
"""


# Reads what came with a descriptor, of a socket that waits for an hour when it is closed: by this read.
READ = """
import socket, sys
from gendriverd.passing import limit_waits
from gendriverd.tls_front.confine import confine
limit_waits()
confine()
print(socket.socket(fileno=int(sys.argv[1])).recv(100).decode(), flush=True)
"""


@dataclass(frozen=True)
class Tried:
    landlock: int
    seccomp: bool
    refused: dict[str, bool]


def attempt(directory: Path, *, confined: bool) -> Tried:
    own = Authority(directory).issue("own")
    material = read_material(TlsConfig(certificate=str(own.certificate), key=str(own.key)), directory, {})
    assert material is not None
    secret = b"a secret"
    with material.files() as fds:
        command = [sys.executable, "-I", "-c", TRY, *map(str, fds), str(id(secret)), str(int(confined))]
        done = subprocess.run(command, pass_fds=fds, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    landlock, seccomp = said["held"]
    return Tried(landlock, bool(seccomp), said["refused"])


def test_every_way_out_is_refused_and_what_it_serves_with_is_left(tmp_path: Path) -> None:
    tried = attempt(tmp_path, confined=True)
    assert tried.seccomp
    assert len(tried.refused) == 17
    open_ones = {what for what, refused in tried.refused.items() if not refused}
    assert open_ones <= (set() if tried.landlock else FILES)


@pytest.mark.skipif(os.geteuid() != 0, reason="the system may forbid the half of it anyhow")
def test_a_process_that_has_not_confined_itself_can_do_it_all(tmp_path: Path) -> None:
    """Else the test above would say nothing."""
    tried = attempt(tmp_path, confined=False)
    assert [what for what, refused in tried.refused.items() if refused] == []


def test_what_cannot_be_refused_holds_it_up_no_longer(lingering: socket.socket) -> None:
    """Where the kernel is too old to refuse it."""
    ours, front = socket.socketpair()
    with ours, front:
        ours.sendmsg([b"read"], rights(lingering.fileno()))
        os.close(lingering.detach())
        command = [sys.executable, "-I", "-c", READ, str(front.fileno())]
        done = subprocess.run(
            command, pass_fds=[front.fileno()], capture_output=True, text=True, check=False, timeout=30
        )
    assert (done.stdout, done.stderr, done.returncode) == ("read\n", "", 0)
