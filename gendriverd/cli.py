# SPDX-License-Identifier: MIT
"""The gendriverd command: which part does what it is told, and that no traceback ever reaches its user.

Imports are where they are used: `--help` does not wait for trio and pydantic.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from gendriverd.cli_arguments import parser
from gendriverd.errors import ConfigError, ExitCode, GendriverdError

SWITCH_INTERVAL = 0.0005  # seconds that the writers of logs and reports may hold up the event loop
# Of [daemon], what can be said outside the file too, and what separates its parts in the environment.
SETTINGS = (("listen", ","), ("driver_path", ":"), ("log_level", ""), ("log_format", ""), ("host", ""), ("admin", ""))


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code; every failure is one sentence on standard error."""
    try:
        options = parser().parse_args(argv)
        return int(RUNS[options.command](options))
    except GendriverdError as error:
        for line in error.problems if isinstance(error, ConfigError) else [str(error)]:
            _complain(line)
        return int(error.exit_code)
    except KeyboardInterrupt:
        return 128 + 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or the interpreter complains when it flushes
        return int(ExitCode.FAILED)
    except Exception as error:  # noqa: BLE001 (the root: a user gets a sentence, not a traceback)
        if os.environ.get("GENDRIVERD_DEBUG"):
            traceback.print_exc()
        _complain(f"internal error: {_innermost(error)!r} (GENDRIVERD_DEBUG=1 shows where)")
        return int(ExitCode.FAILED)


def _complain(sentence: str) -> None:
    """A host's or a file's words may be in it."""
    from gendriverd.log import clean_text

    print(clean_text(f"gendriverd: {sentence}"), file=sys.stderr)


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


RUNS: dict[str, Callable[[argparse.Namespace], int]] = {
    "serve": _serve,
    "check": _check,
    "reload": _reload,
    "status": _status,
    "call": _call,
    "reports": _reports,
    "replay": _replay,
    "cflags": _cflags,
}


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
