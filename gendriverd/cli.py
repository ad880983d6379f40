# SPDX-License-Identifier: MIT
"""The gendriverd command: what it takes, which part does it, and that no traceback ever reaches its user.

Imports are where they are used: `--help` does not wait for trio and pydantic.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from gendriverd import DRIVER_ABI, PROTOCOL, __version__
from gendriverd.errors import ExitCode, GendriverdError

DEFAULT_CONFIG = "/etc/gendriverd/gendriverd.toml"
DEFAULT_CONNECT = "tcp://127.0.0.1:9900"

TIMEOUT_MAX = 1_000_000
SWITCH_INTERVAL = 0.0005  # seconds that the writers of logs and reports may hold up the event loop
# Of [daemon], what can be said outside the file too, and what separates its parts in the environment.
SETTINGS = (("listen", ","), ("driver_path", ":"), ("log_level", ""), ("log_format", ""), ("host", ""), ("admin", ""))
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
    raw = argparse.RawDescriptionHelpFormatter
    top = argparse.ArgumentParser(
        prog="gendriverd",
        description="Hosts C drivers for Erlang and Elixir outside the VM: each in a process of its own.",
        epilog=EPILOG,
        formatter_class=raw,
    )
    top.add_argument("--version", action=_Version, nargs=0, help="versions of gendriverd, its protocol and its host")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)

    serve = commands.add_parser("serve", help="run the daemon", description="Run the daemon until SIGTERM or Ctrl-C.")
    _add_config(serve)
    serve.add_argument("--listen", metavar="URL", action="append", help="tcp://HOST:PORT or unix:/PATH; repeatable")
    serve.add_argument("--admin", metavar="PATH", help="the socket that reload and status ask; empty: none")
    serve.add_argument("--log-format", choices=["auto", "json", "console"], help="auto: json unless on a terminal")
    serve.add_argument("--log-level", choices=["debug", "info", "warning", "error"])
    serve.set_defaults(run=_serve)

    check = commands.add_parser(
        "check",
        help="say what is wrong with a configuration and its drivers",
        description="Read the configuration, start each instance's driver in a host until it is ready, stop it again."
        " Says everything that is wrong; exit code 78 then.",
    )
    _add_config(check)
    check.set_defaults(run=_check, listen=None, log_format=None, log_level=None)

    _add_reload_and_status(commands)

    call = commands.add_parser(
        "call",
        help="call a driver from the shell",
        description="Call a command of an instance and print its reply.",
        epilog="examples:\n  gendriverd call sum 1 '[1,2,3,4]'\n  gendriverd call echo echo '{hello, <<\"world\">>}'\n",
        formatter_class=raw,
    )
    call.add_argument("--connect", metavar="URL", default=DEFAULT_CONNECT, help="where it listens (%(default)s)")
    call.add_argument("--ca", metavar="FILE", type=Path, help="tls://: who may sign its certificate (the system's)")
    call.add_argument("--cert", metavar="FILE", type=Path, help="tls://: our certificate and its key, in PEM")
    call.add_argument("--timeout", metavar="S", type=_seconds, default=5.0, help="seconds to wait (%(default)s)")
    call.add_argument("--key", metavar="N", type=_key, help="requests with one key run in order on one worker")
    call.add_argument(
        "--key-file",
        metavar="NAME=FILE",
        type=_key_file,
        help="the key that both ends prove they know",
    )
    call.add_argument("--cast", action="store_true", help="do not wait for an answer")
    call.add_argument("instance", metavar="INSTANCE")
    call.add_argument("cmd", metavar="CMD", help="a command's number, or its name")
    call.add_argument("term", metavar="TERM", nargs="?", help="the params, an Erlang term")
    call.set_defaults(run=_call)

    reports = commands.add_parser(
        "reports",
        help="how hosts died, and which request did it",
        description="List the reports of hosts that died, oldest first, or show one.",
        epilog="examples:\n  gendriverd reports\n  gendriverd reports show last\n",
        formatter_class=raw,
    )
    _add_config(reports)
    reports.add_argument("--dir", metavar="DIR", type=Path, help="where they are (the configuration's reports_dir)")
    reports.add_argument("action", nargs="?", choices=["show"], help="show one: ID, what it begins with, or `last`")
    reports.add_argument("id", nargs="?", metavar="ID")
    reports.set_defaults(run=_reports)

    replay = commands.add_parser(
        "replay",
        help="run the request of a report again",
        description="Run the request that a report names once more, alone, in a fresh host: without the daemon, without"
        " Erlang. Ends with 1 if it crashes again, with 0 if not.",
        epilog="examples:\n  gendriverd replay last --gdb\n"
        "  git bisect run sh -c 'make && gendriverd replay last --driver ./x.so'\n",
        formatter_class=raw,
    )
    _add_config(replay)
    replay.add_argument("id", metavar="ID", help="the report's id, what it begins with, or `last`")
    under = replay.add_mutually_exclusive_group()
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
    replay.add_argument("--driver", metavar="FILE", help="another build of the driver (the one that crashed)")
    replay.add_argument("--host", metavar="FILE", default="", help="another build of gendriver-host")
    replay.add_argument("--timeout", metavar="S", type=_seconds, default=60.0, help="seconds to wait (%(default)s)")
    replay.set_defaults(run=_replay, under=None)

    cflags = commands.add_parser(
        "cflags",
        help="compiler flags for building a driver",
        description="Print what a C compiler needs to build a driver.",
    )
    cflags.add_argument("--legacy", action="store_true", help="for a driver of the original (needs erlang-dev)")
    cflags.set_defaults(run=_cflags)
    return top


def _add_reload_and_status(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    reload = commands.add_parser(
        "reload",
        help="give instances that differ new hosts",
        description="Let the running daemon read its configuration anew: instances that differ get new hosts, and no"
        " call is lost. Returns when they are ready or have failed. With anything wrong in the configuration, nothing"
        " changes.",
    )
    _add_admin(reload, timeout=60.0)
    reload.add_argument("instance", metavar="INSTANCE", nargs="?", help="this one alone, whether it differs or not")
    reload.set_defaults(run=_reload)

    status = commands.add_parser(
        "status",
        help="how the running daemon's instances are",
        description="Ask the running daemon how its instances are. Ends with 0 when all are running.",
    )
    _add_admin(status, timeout=10.0)
    status.add_argument("instance", metavar="INSTANCE", nargs="?", help="this one alone, and what its commands cost")
    status.add_argument("--json", action="store_true", help="all that the daemon answers")
    status.set_defaults(run=_status)


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code; every failure is one sentence on standard error."""
    try:
        options = parser().parse_args(argv)
        run: Callable[[argparse.Namespace], int] = options.run
        return int(run(options))
    except GendriverdError as error:
        for line in str(error).splitlines():
            print(f"gendriverd: {line}", file=sys.stderr)
        return int(error.exit_code)
    except KeyboardInterrupt:
        return 128 + 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or the interpreter complains when it flushes
        return int(ExitCode.FAILED)
    except Exception as error:  # noqa: BLE001 (the root: a user gets a sentence, not a traceback)
        if os.environ.get("GENDRIVERD_DEBUG"):
            traceback.print_exc()
        print(f"gendriverd: internal error: {_innermost(error)!r} (GENDRIVERD_DEBUG=1 shows where)", file=sys.stderr)
        return int(ExitCode.FAILED)


def overrides(options: argparse.Namespace, environ: Mapping[str, str]) -> dict[tuple[str, ...], tuple[str, object]]:
    """Settings of [daemon] said outside the file: (where, value). Flags win over the environment."""
    said: dict[tuple[str, ...], tuple[str, object]] = {}

    def here(key: str, value: object) -> object:
        """Paths in the file are relative to it; these, as any argument, to where the command runs."""
        if key == "driver_path" and isinstance(value, list):
            return [str(Path(path).absolute()) for path in value]
        named = key in {"host", "admin"} and isinstance(value, str) and value
        return str(Path(named).absolute()) if named else value

    for key, separator in SETTINGS:
        name = f"GENDRIVERD_{key.upper()}"
        text = environ.get(name, "")
        if text:
            value: object = [part for part in text.split(separator) if part] if separator else text
            said["daemon", key] = (name, here(key, value))
        flag = getattr(options, key, None)
        if flag is not None:
            said["daemon", key] = (f"--{key.replace('_', '-')}", here(key, flag))
    return said


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


def _serve(options: argparse.Namespace) -> int:
    import faulthandler

    import trio

    from gendriverd.config import load
    from gendriverd.daemon import Daemon
    from gendriverd.log import Writer, configure, get_log

    _fill_standard_descriptors()
    said = overrides(options, os.environ)
    config = load(options.config, said)
    writer = Writer()
    faulthandler.enable(2)  # where it hung, when a watchdog ends it with SIGABRT
    sys.setswitchinterval(SWITCH_INTERVAL)
    configure(config.daemon.log_level, config.daemon.log_format, writer=writer)
    try:
        daemon = Daemon(config, options.config, get_log(), load=lambda: load(options.config, said))
        trio.run(daemon.run)
    except ExceptionGroup as group:
        raise _innermost(group) from group
    finally:
        writer.close()
    return ExitCode.OK


def _check(options: argparse.Namespace) -> int:
    from gendriverd.check import check_drivers
    from gendriverd.config import load
    from gendriverd.keys import Keys
    from gendriverd.tls_files import read_material
    from gendriverd.users import owner_numbers, user_numbers

    config = load(options.config, overrides(options, os.environ))
    directory = options.config.absolute().parent
    Keys(directory, os.environ).read(config)
    user_numbers(config.daemon.unix_users)
    owner_numbers(config.daemon.unix_owner)
    read_material(config.tls, directory, os.environ)
    return check_drivers(config)


def _reload(options: argparse.Namespace) -> int:
    from gendriverd.cli_admin import run_reload

    return run_reload(_admin(options), options.instance, options.timeout)


def _status(options: argparse.Namespace) -> int:
    from gendriverd.cli_admin import run_status

    return run_status(_admin(options), options.instance, options.timeout, as_json=options.json)


def _admin(options: argparse.Namespace) -> str:
    """Where the daemon is asked. Named by a flag or the environment, the configuration is not read."""
    from gendriverd.config import load_admin

    named = overrides(options, os.environ).get(("daemon", "admin"))
    return str(named[1]) if named is not None else load_admin(options.config)


def _call(options: argparse.Namespace) -> int:
    from gendriverd.cli_call import run_call, trusted

    return run_call(
        options.connect,
        options.instance,
        options.cmd,
        options.term,
        options.timeout,
        options.key,
        options.cast,
        options.key_file,
        trusted(options.connect, options.ca, options.cert),
    )


def _reports(options: argparse.Namespace) -> int:
    from gendriverd.cli_reports import list_reports, show_report
    from gendriverd.config import load

    directory: Path = options.dir or Path(load(options.config).daemon.reports_dir)
    if options.action is None:
        return list_reports(directory)
    return show_report(directory, options.id or "last")


def _replay(options: argparse.Namespace) -> int:
    from gendriverd.config import load
    from gendriverd.replay import replay

    options.listen = options.log_format = options.log_level = None
    host = options.host
    options.host = None
    config = load(options.config, overrides(options, os.environ))
    return replay(config, options.id, under=options.under, driver=options.driver, host=host, timeout=options.timeout)


def _cflags(options: argparse.Namespace) -> int:
    from gendriverd.cflags import cflags

    print(cflags(legacy=options.legacy))
    return ExitCode.OK


def _fill_standard_descriptors() -> None:
    """Started without 0, 1 or 2, a socket of ours would get that number and a driver's output."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(fd)
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8")  # noqa: SIM115 (for the life of the process)


def _innermost(error: Exception) -> Exception:
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
