# SPDX-License-Identifier: MIT
"""What the gendriverd command takes: its commands, their flags and arguments, and the help that says so."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TypeAlias

from gendriverd import DRIVER_ABI, PROTOCOL, __version__
from gendriverd.errors import GendriverdError

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001 (it has no other name)
RAW = argparse.RawDescriptionHelpFormatter

DEFAULT_CONFIG = "/etc/gendriverd/gendriverd.toml"
DEFAULT_CONNECT = "tcp://127.0.0.1:9900"

TIMEOUT_MAX = 1_000_000
EPILOG = """\
examples:
  gendriverd check --config my.toml                      is it right, do its drivers load?
  gendriverd serve --config my.toml                      run it; Ctrl-C drains and stops
  gendriverd status                                      how are its instances?
  gendriverd reload                                      what changed gets new hosts; no call is lost
  gendriverd call sum 1 '[1,2,3,4]'                      call command 1 of the instance sum
  cc $(gendriverd cflags) -shared -o mine.so mine.c      build a driver

environment (flags win over it, it wins over the file):
  GENDRIVERD_LISTEN        addresses, separated by commas
  GENDRIVERD_DRIVER_PATH   directories, separated by colons
  GENDRIVERD_ADMIN         the socket that reload and status ask
  GENDRIVERD_LOG_LEVEL, GENDRIVERD_LOG_FORMAT, GENDRIVERD_HOST
  GENDRIVERD_DEBUG=1       show a traceback when gendriverd itself fails

exit codes: 0 done, 1 failed, 2 usage, 3 status: no daemon, 69 address not available, 77 not permitted, 78 configuration
"""


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="gendriverd",
        description="Hosts C drivers for Erlang and Elixir outside the VM: each in a process of its own.",
        epilog=EPILOG,
        formatter_class=RAW,
    )
    top.add_argument("--version", action=_Version, nargs=0, help="versions of gendriverd, its protocol and its host")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for add in (_add_serve, _add_check, _add_reload, _add_status, _add_call, _add_reports, _add_replay, _add_cflags):
        add(commands)
    return top


def _add_serve(commands: Commands) -> None:
    command = commands.add_parser("serve", help="run the daemon", description="Run the daemon until SIGTERM or Ctrl-C.")
    _add_config(command)
    command.add_argument("--listen", metavar="URL", action="append", help="tcp://HOST:PORT or unix:/PATH; repeatable")
    command.add_argument("--admin", metavar="PATH", help="the socket that reload and status ask; empty: none")
    command.add_argument("--log-format", choices=["auto", "json", "console"], help="auto: json unless on a terminal")
    command.add_argument("--log-level", choices=["debug", "info", "warning", "error"])


def _add_check(commands: Commands) -> None:
    command = commands.add_parser(
        "check",
        help="say what is wrong with a configuration and its drivers",
        description="Read the configuration, start each instance's driver in a host until it is ready, stop it again."
        " Says everything that is wrong; exit code 78 then.",
    )
    _add_config(command)
    command.set_defaults(listen=None, log_format=None, log_level=None)


def _add_reload(commands: Commands) -> None:
    command = commands.add_parser(
        "reload",
        help="give instances that differ new hosts",
        description="Let the running daemon read its configuration anew: instances that differ get new hosts, and no"
        " call is lost. Returns when they are ready or have failed. With anything wrong in the configuration, nothing"
        " changes.",
    )
    _add_admin(command, timeout=60.0)
    command.add_argument("instance", metavar="INSTANCE", nargs="?", help="this one alone, whether it differs or not")


def _add_status(commands: Commands) -> None:
    command = commands.add_parser(
        "status",
        help="how the running daemon's instances are",
        description="Ask the running daemon how its instances are. Ends with 0 when all are running.",
    )
    _add_admin(command, timeout=10.0)
    command.add_argument("instance", metavar="INSTANCE", nargs="?", help="this one alone, and what its commands cost")
    command.add_argument("--json", action="store_true", help="all that the daemon answers")


def _add_call(commands: Commands) -> None:
    command = commands.add_parser(
        "call",
        help="call a driver from the shell",
        description="Call a command of an instance and print its reply.",
        epilog="examples:\n  gendriverd call sum 1 '[1,2,3,4]'\n  gendriverd call echo echo '{hello, <<\"world\">>}'\n",
        formatter_class=RAW,
    )
    command.add_argument("--connect", metavar="URL", default=DEFAULT_CONNECT, help="where it listens (%(default)s)")
    command.add_argument("--ca", metavar="FILE", type=Path, help="tls://: who may sign its certificate (the system's)")
    command.add_argument("--cert", metavar="FILE", type=Path, help="tls://: our certificate and its key, in PEM")
    command.add_argument("--timeout", metavar="S", type=_seconds, default=5.0, help="seconds to wait (%(default)s)")
    command.add_argument("--key", metavar="N", type=_key, help="requests with one key run in order on one worker")
    command.add_argument(
        "--key-file",
        metavar="NAME=FILE",
        type=_key_file,
        help="the key that both ends prove they know",
    )
    command.add_argument("--cast", action="store_true", help="do not wait for an answer")
    command.add_argument("instance", metavar="INSTANCE")
    command.add_argument("cmd", metavar="CMD", help="a command's number, or its name")
    command.add_argument("term", metavar="TERM", nargs="?", help="the params, an Erlang term")


def _add_reports(commands: Commands) -> None:
    command = commands.add_parser(
        "reports",
        help="how hosts died, and which request did it",
        description="List the reports of hosts that died, oldest first, or show one.",
        epilog="examples:\n  gendriverd reports\n  gendriverd reports show last\n",
        formatter_class=RAW,
    )
    _add_config(command)
    command.add_argument("--dir", metavar="DIR", type=Path, help="where they are (the configuration's reports_dir)")
    command.add_argument("action", nargs="?", choices=["show"], help="show one: ID, what it begins with, or `last`")
    command.add_argument("id", nargs="?", metavar="ID")


def _add_replay(commands: Commands) -> None:
    command = commands.add_parser(
        "replay",
        help="run the request of a report again",
        description="Run the request that a report names once more, alone, in a fresh host: without the daemon, without"
        " Erlang. Ends with 1 if it crashes again, with 0 if not.",
        epilog="examples:\n  gendriverd replay last --gdb\n"
        "  git bisect run sh -c 'make && gendriverd replay last --driver ./x.so'\n",
        formatter_class=RAW,
    )
    _add_config(command)
    command.add_argument("id", metavar="ID", help="the report's id, what it begins with, or `last`")
    under = command.add_mutually_exclusive_group()
    under.add_argument("--gdb", dest="under", action="store_const", const="gdb", help="print a backtrace of the crash")
    under.add_argument(
        "--valgrind", dest="under", action="store_const", const="valgrind", help="look for wrong accesses"
    )
    under.add_argument(
        "--asan",
        dest="under",
        action="store_const",
        const="asan",
        help="with AddressSanitizer; --driver is built for it",
    )
    command.add_argument("--driver", metavar="FILE", help="another build of the driver (the one that crashed)")
    command.add_argument("--host", metavar="FILE", default="", help="another build of gendriver-host")
    command.add_argument("--timeout", metavar="S", type=_seconds, default=60.0, help="seconds to wait (%(default)s)")
    command.set_defaults(under=None)


def _add_cflags(commands: Commands) -> None:
    command = commands.add_parser(
        "cflags",
        help="compiler flags for building a driver",
        description="Print what a C compiler needs to build a driver.",
    )
    command.add_argument("--legacy", action="store_true", help="for a driver of the original (needs erlang-dev)")


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print(version())
        parser.exit()


def version() -> str:
    import subprocess

    from gendriverd.launch import find_host

    own = f"gendriverd {__version__}, protocol {PROTOCOL}, driver interface {DRIVER_ABI}"
    try:
        host = find_host("")
        done = subprocess.run([host, "--version"], capture_output=True, text=True, check=False, timeout=10)
    except (GendriverdError, OSError, subprocess.TimeoutExpired) as error:
        return f"{own}\ngendriver-host: {error}"
    return f"{own}\n{done.stdout.strip()}"


def _add_config_file(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--config", metavar="FILE", type=Path, default=Path(DEFAULT_CONFIG), help="the configuration (%(default)s)"
    )


def _add_config(command: argparse.ArgumentParser) -> None:
    _add_config_file(command)
    command.add_argument(
        "--driver-path", metavar="DIR", action="append", help="where drivers given by bare name are; may be repeated"
    )


def _add_admin(command: argparse.ArgumentParser, timeout: float) -> None:
    _add_config_file(command)
    command.add_argument("--admin", metavar="PATH", help="the daemon's admin socket (what the configuration says)")
    command.add_argument("--timeout", metavar="S", type=_seconds, default=timeout, help="seconds to wait (%(default)s)")


def _key(text: str) -> int:
    if not re.fullmatch("[0-9]{1,10}", text) or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"a key is 0 to 4294967295, not {text!r:.40}")
    return int(text)


def _key_file(text: str) -> tuple[str, Path]:
    name, separator, file = text.partition("=")
    if not (name and separator and file):
        raise argparse.ArgumentTypeError("a key is named with its file: NAME=FILE")
    return name, Path(file)


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds <= TIMEOUT_MAX:
        raise argparse.ArgumentTypeError(f"a timeout is 0 to {TIMEOUT_MAX} seconds")
    return seconds
