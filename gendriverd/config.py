# SPDX-License-Identifier: MIT
"""Reading a configuration from a TOML file with drop-ins, all that is wrong with it at once; its shape is schema.py.

Files in conf.d/ beside the main file are merged over it in name order: tables merge, anything else is replaced. Every
problem names the file and the line that said it.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from gendriverd.errors import ConfigError, ExitCode
from gendriverd.schema import (
    Config,
    DaemonConfig,
    InstanceConfig,
    KeyConfig,
    Limits,
    Restart,
    Sandbox,
    Section,
    TlsConfig,
)
from gendriverd.toml_places import KeyPath, place_of, places

DEFAULT_PATH = Path("/etc/gendriverd/gendriverd.toml")
SOCKET_PATH_MAX = 107  # bytes: the kernel's bound

Table = dict[str, Any]


@dataclass
class Source:
    """Where the keys of a merged table were said; flags and environment have no line."""

    main: Path
    files: list[tuple[Path, dict[KeyPath, int]]] = field(default_factory=list)
    said: Mapping[KeyPath, str] = field(default_factory=lambda: MappingProxyType({}))

    def where(self, path: KeyPath) -> str:
        """FILE:LINE of the last file that said this key, or what holds it."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.said:
                return self.said[path[:length]]
            for file, found in reversed(self.files):
                if path[:length] in found:
                    return f"{file}:{place_of(found, path)}"
        return str(self.main)


def load(path: Path, overrides: Mapping[KeyPath, tuple[str, object]] = MappingProxyType({})) -> Config:
    """Read, merge, check. `overrides`: (origin, value) by key path, from flags and environment. Raises ConfigError."""
    return validate(*_read(path, overrides))


def load_admin(path: Path, overrides: Mapping[KeyPath, tuple[str, object]] = MappingProxyType({})) -> str:
    """Where the daemon of this configuration is asked, whatever else is wrong with it. Raises ConfigError."""
    merged, source = _read(path, overrides)
    daemon = merged.get("daemon", {})
    if isinstance(daemon, dict):
        daemon = {key: value for key, value in daemon.items() if key == "admin"}
    return validate({"daemon": daemon}, source).daemon.admin


def _read(path: Path, overrides: Mapping[KeyPath, tuple[str, object]]) -> tuple[Table, Source]:
    source = Source(path, said={key: origin for key, (origin, _) in overrides.items()})
    merged: Table = {}
    problems: list[str] = []
    for file in [path, *sorted((path.parent / "conf.d").glob("*.toml"))]:
        try:
            text = file.read_text(encoding="utf-8")
            _merge(merged, tomllib.loads(text))
            source.files.append((file, places(text)))
        except OSError as error:
            denied = isinstance(error, PermissionError)
            code = ExitCode.NO_PERMISSION if denied else ExitCode.CONFIG
            raise ConfigError([f"{file}: cannot be read: {error.strerror}"], code) from error
        except ValueError as error:  # an integer of thousands of digits is one too
            problems.append(_syntax_problem(file, error))
        except RecursionError:
            problems.append(f"{file}: is nested too deep")
    if problems:
        raise ConfigError(problems)
    for key, (_, value) in overrides.items():
        table = merged.setdefault(key[0], {})
        if isinstance(table, dict):  # else it is refused below
            table[key[1]] = value
    return merged, source


def validate(table: Table, source: Source) -> Config:
    """A Config, or one ConfigError with a line for everything that is wrong."""
    try:
        config = Config.model_validate(table)
    except ValidationError as error:
        details = error.errors(include_url=False)
        problems = [f"{source.where(_key_path(each))}: {_sentence(each)}" for each in details]
        raise ConfigError(sorted(set(problems), key=_by_line)) from None
    config = _with_absolute_paths(config, source.main.absolute().parent)
    problems = [f"{source.where(key)}: {text}" for key, text in _contradictions(config)]
    if problems:
        raise ConfigError(problems)
    return config


def _with_absolute_paths(config: Config, directory: Path) -> Config:
    """Relative paths start where the main file lies."""

    def beneath(path: str) -> str:
        return os.path.normpath(directory / path)

    def absolute(path: str) -> str:
        return beneath(path) if "/" in path else path

    def each(instance: InstanceConfig) -> InstanceConfig:
        paths = {key: tuple(map(beneath, getattr(instance.sandbox, key))) for key in ("read", "write")}
        sandbox = instance.sandbox.model_copy(update=paths)
        return instance.model_copy(update={"driver": absolute(instance.driver), "sandbox": sandbox})

    instances = {name: each(instance) for name, instance in config.instances.items()}
    keys = {name: key.model_copy(update={"file": tuple(map(absolute, key.file))}) for name, key in config.keys.items()}
    paths = {
        "driver_path": tuple(map(beneath, config.daemon.driver_path)),
        "host": absolute(config.daemon.host),
        "admin": config.daemon.admin and beneath(config.daemon.admin),
        "reports_dir": beneath(config.daemon.reports_dir),
        "snapshots_dir": beneath(config.daemon.snapshots_dir),
    }
    daemon = config.daemon.model_copy(update=paths)
    files = {name: absolute(getattr(config.tls, name)) for name in ("certificate", "key", "client_ca")}
    tls = config.tls.model_copy(update=files)
    return config.model_copy(update={"instances": instances, "keys": keys, "daemon": daemon, "tls": tls})


def _by_line(problem: str) -> tuple[str, int, str]:
    match = re.match(r"(.*?):(\d+): ", problem)
    return (match[1], int(match[2]), problem) if match else (problem, 0, problem)


def _merge(under: Table, over: Table) -> None:
    for key, value in over.items():
        if isinstance(value, dict) and isinstance(under.get(key), dict):
            _merge(under[key], value)
        else:
            under[key] = value


def _syntax_problem(file: Path, error: ValueError) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"{file}: is not UTF-8 text (byte {error.start})"
    match = re.fullmatch(r"(.*) \(at line (\d+), column (\d+)\)", str(error), re.DOTALL)
    return f"{file}:{match[2]}: {match[1]} (column {match[3]})" if match else f"{file}: {error}"


def _contradictions(config: Config) -> Iterator[tuple[KeyPath, str]]:
    """What is wrong only together."""
    if len(set(config.daemon.listen)) != len(config.daemon.listen):
        yield ("daemon", "listen"), "[daemon] listen names an address twice"
    if config.daemon.admin in {address.path for address in config.daemon.listen if address.path}:
        yield ("daemon", "admin"), "[daemon] admin is one of the addresses in listen"
    if len(os.fsencode(config.daemon.admin)) > SOCKET_PATH_MAX:
        yield ("daemon", "admin"), f"[daemon] admin is longer than the {SOCKET_PATH_MAX} bytes of a socket's path"
    yield from _about_keys(config)
    yield from _about_tls(config)
    yield from _about_writing(config)
    for name, instance in config.instances.items():
        limits = instance.limits
        if limits.in_flight_bytes < limits.frame:
            problem = f"in_flight_bytes ({limits.in_flight_bytes}) is less than one frame ({limits.frame})"
            yield ("instances", name, "limits", "in_flight_bytes"), f"[instances.{name}.limits] {problem}"
        if limits.frames_bytes < limits.frame:
            problem = f"frames_bytes ({limits.frames_bytes}) is less than one frame ({limits.frame})"
            yield ("instances", name, "limits", "frames_bytes"), f"[instances.{name}.limits] {problem}"
        if not instance.overlap and instance.processes + instance.spares > 1:
            problem = "overlap = false is for a driver that cannot run twice: processes must be 1 and spares 0"
            yield ("instances", name, "overlap"), f"[instances.{name}] {problem}"
        if instance.sandbox.profile == "none" and (instance.sandbox.read or instance.sandbox.write):
            problem = 'read and write bound nothing where profile = "none"'
            yield ("instances", name, "sandbox"), f"[instances.{name}.sandbox] {problem}"


def _about_writing(config: Config) -> Iterator[tuple[KeyPath, str]]:
    """What a driver could put a link, or a file of its own, in place of. The directory itself it cannot replace."""
    for writer, instance in config.instances.items():
        for directory in instance.sandbox.write:
            whose = f"lies in {directory!r}, which [instances.{writer}.sandbox] write lets a driver change"
            for key, path in _looked_up(config):
                if _lies_in(Path(path), Path(directory), itself=key[0] == "daemon"):
                    advice = (
                        "name that directory, or another" if key[-1] in {"read", "write"} else "it belongs elsewhere"
                    )
                    yield key, f"[{'.'.join(key[:-1])}] {key[-1]}: {path!r} {whose}: {advice}"


def _looked_up(config: Config) -> Iterator[tuple[KeyPath, str]]:
    """The paths that decide what hosts may do, and what is loaded."""
    for name, instance in config.instances.items():
        for key in ("read", "write"):
            for path in getattr(instance.sandbox, key):
                yield ("instances", name, "sandbox", key), path
        if "/" in instance.driver and instance.sha256 is None:
            yield ("instances", name, "driver"), instance.driver
    for key in ("reports_dir", "snapshots_dir"):
        yield ("daemon", key), getattr(config.daemon, key)


def _lies_in(path: Path, directory: Path, *, itself: bool) -> bool:
    """As both are written, or as they are found: the last part of `path` may be a link by now. `itself`: or is it."""
    ways = (path, directory), (path.parent.resolve() / path.name, directory.resolve())
    return any(one.is_relative_to(other) and (itself or one != other) for one, other in ways)


def _about_keys(config: Config) -> Iterator[tuple[KeyPath, str]]:
    """Keys that are not asked for would leave a daemon open that seems not to be."""
    if config.daemon.auth == "hmac" and not config.keys:
        yield ("daemon", "auth"), '[daemon] auth = "hmac" needs keys: [keys.NAME] with file = "PATH"'
    yield from _about_certificates(config)
    if config.daemon.auth == "none" and config.keys:
        problem = '[keys] are not asked for: [daemon] auth = "none" lets everybody in; "hmac" asks for them'
        yield ("keys", next(iter(config.keys))), problem
    for name, key in config.keys.items():
        table = key.commands if isinstance(key.commands, dict) else {}
        for setting, instance in [*(("instances", i) for i in key.instances or ()), *(("commands", i) for i in table)]:
            if instance not in config.instances:
                near = difflib.get_close_matches(instance, config.instances, n=1, cutoff=0.5)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                problem = f"[keys.{name}] {setting} names {instance!r}, and there is no such instance{hint}"
                yield ("keys", name, setting), problem
        if isinstance(key.commands, dict) and key.instances is not None and set(key.instances) != set(table):
            odd = min(set(key.instances) ^ set(table))
            problem = f"[keys.{name}] commands is a table, so it names what instances does: one of them lacks {odd!r}"
            yield ("keys", name, "commands"), problem


def _about_certificates(config: Config) -> Iterator[tuple[KeyPath, str]]:
    owners: dict[str, str] = {}
    for name, key in config.keys.items():
        if not key.file and not key.certificates:
            yield ("keys", name), f"[keys.{name}] needs a setting 'file', or 'certificates'"
        if key.certificates and config.tls.clients == "none":
            problem = 'certificates are asked of nobody: [tls] clients = "optional" or "required" does, with client_ca'
            yield ("keys", name, "certificates"), f"[keys.{name}] {problem}"
        for certificate in key.certificates:
            owner = owners.setdefault(certificate, name)
            if owner != name:
                problem = f"[keys.{name}] certificates names {certificate!r}, which is of [keys.{owner}] already"
                yield ("keys", name, "certificates"), problem


def _about_tls(config: Config) -> Iterator[tuple[KeyPath, str]]:
    """Each part of it is of no use without the others."""
    tls = config.tls
    if len(set(tls.listen)) != len(tls.listen):
        yield ("tls", "listen"), "[tls] listen names an address twice"
    if both := [str(each) for each in tls.listen if each.port and each in config.daemon.listen]:
        yield ("tls", "listen"), f"[tls] listen names {both[0]}, which is one of [daemon] listen"
    if (tls.listen or tls.key) and not tls.certificate:
        yield ("tls",), "[tls] needs a setting 'certificate'"
    if tls.certificate and not tls.key:
        yield ("tls",), "[tls] needs a setting 'key'"
    if tls.clients != "none" and not tls.client_ca:
        yield ("tls", "clients"), f'[tls] clients = "{tls.clients}" needs client_ca: who may sign their certificates'
    if tls.clients == "none" and tls.client_ca:
        problem = (
            'client_ca is not asked for: clients = "none" takes those without a certificate; "required" asks for one'
        )
        yield ("tls", "client_ca"), f"[tls] {problem}"


def _is_of_a_name(error: ErrorDetails) -> bool:
    """Of a key's or an instance's: pydantic puts "[key]" behind it, which may be a setting, too."""
    table, *rest = error["loc"]
    return table in {"keys", "instances"} and rest[1:] == ["[key]"] and error["type"] != "extra_forbidden"


def _key_path(error: ErrorDetails) -> KeyPath:
    loc = error["loc"][:-1] if _is_of_a_name(error) else error["loc"]
    return tuple(map(str, loc))


def _sentence(error: ErrorDetails) -> str:
    """One problem in the words of the configuration file."""
    path = _key_path(error)
    if _is_of_a_name(error):
        whose = "a key's" if path[0] == "keys" else "an instance's"
        return f"{whose} name is 1 to 64 of a-z, 0-9, _ and -, which {path[-1]!r} is not"
    depth = len(path) - 1
    while depth > 0 and path[depth].isdecimal() and error["type"] != "extra_forbidden":
        depth -= 1  # an element of an array: the key is what holds it
    table, key = _shown(path[:depth]), path[depth]
    section = f"[{table}]" if table else "the configuration"
    if error["type"] == "extra_forbidden":
        return f"{section} has no setting {key!r}{_did_you_mean(path)}"
    if error["type"] == "missing":
        return f"{section} needs a setting {key!r}"
    if error["type"] in {"model_type", "dict_type"}:
        shown = "" if path[0] == "keys" else f", not {error['input']!r}"  # it may be the secret itself
        return f"[{_shown(path)}] must be a table{shown}"
    text = error["msg"].removeprefix("Value error, ")
    if error["type"] != "value_error":
        text = f"{text.replace('Input should be', 'must be')}, not {error['input']!r}"
        text = text.replace("a valid integer", "a whole number").replace("a valid boolean", "true or false")
    return f"{section} {_shown((key,))} {text}"


def _shown(path: KeyPath) -> str:
    return ".".join(part if part.isprintable() else repr(part) for part in path)


def _did_you_mean(path: KeyPath) -> str:
    known = _known_keys(path[:-1])
    near = difflib.get_close_matches(path[-1], known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else f"; its settings are {', '.join(known)}"


def _known_keys(table: KeyPath) -> Sequence[str]:
    sections: dict[KeyPath, type[Section]] = {(): Config, ("daemon",): DaemonConfig, ("tls",): TlsConfig}
    if len(table) == 2 and table[0] == "keys":
        return list(KeyConfig.model_fields)
    below: dict[KeyPath, type[Section]] = {
        (): InstanceConfig,
        ("limits",): Limits,
        ("restart",): Restart,
        ("sandbox",): Sandbox,
    }
    section = below.get(table[2:]) if len(table) >= 2 and table[0] == "instances" else sections.get(table)
    return list(section.model_fields) if section else []
