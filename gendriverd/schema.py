# SPDX-License-Identifier: MIT
"""The shape of a configuration: its tables, their settings, what each may be, and its default. config.py reads one.

config/gendriverd.toml explains every setting.
"""

from __future__ import annotations

import re
from ipaddress import ip_network
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator

from gendriverd import quantities
from gendriverd.tls_context import Clients

DEFAULT_ADMIN = "/run/gendriverd/admin.sock"
PATHS_MAX = 8 * 1024  # bytes of the paths that one list of a sandbox holds
SECRETS_MAX = 8  # of one key: each costs every proof a code
CERTIFICATES_MAX = 64  # of one key
CERTIFICATE_MAX = 255  # bytes of a name: a longer one is not told of a certificate
SETTINGS_MAX = 32 * 1024  # bytes of one driver's settings: they travel in one message

LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["auto", "json", "console"]
Reports = Literal["off", "hash", "full"]
OnHang = Literal["restart", "abandon"]
Auth = Literal["none", "hmac"]
Profile = Literal["none", "default", "strict"]


def _positive(seconds: float) -> float:
    if seconds <= 0:
        raise ValueError("must be more than 0")
    return seconds


def _a_millisecond(seconds: float) -> float:
    if seconds < 0.001:
        raise ValueError("must be 1ms or more")
    return seconds


def _millisecond_at_most(seconds: float) -> float:
    if seconds > 0.001:
        raise ValueError("must be 1ms or less")
    return seconds


def _a_tenth(seconds: float) -> float:
    if seconds < 0.1:
        raise ValueError("must be 100ms or more")
    return seconds


def _u32(size: int) -> int:
    if not 0 < size < 2**32:
        raise ValueError(f"must be 1 to {2**32 - 1} bytes, not {size}")
    return size


def _exists_as_text(text: str) -> str:
    if not text or "\0" in text:
        raise ValueError(f"must be a path, not {text!r}")
    return text


def _no_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError(f"must be a path, or empty for none, not {text!r}")
    return text


def _few_paths(paths: tuple[str, ...]) -> tuple[str, ...]:
    total = sum(len(path.encode()) for path in paths)
    if total > PATHS_MAX:
        raise ValueError(f"come to {total} bytes; {PATHS_MAX} are the most")
    return paths


def _sha256(text: str) -> str:
    if len(text) != 64 or set(text.lower()) - set("0123456789abcdef"):
        raise ValueError(f"must be the 64 hexadecimal digits that sha256sum prints, not {text!r}")
    return text.lower()


def _a_name(text: str) -> str:
    kind = next((kind for kind in ("CN=", "DNS:", "URI:") if text.startswith(kind)), None)
    if kind is None or text == kind or len(text.encode()) > CERTIFICATE_MAX or not text.isprintable():
        most = f"of {CERTIFICATE_MAX} bytes at most"
        raise ValueError(f'must be names {most} such as "CN=anna", "DNS:app.example" or "URI:..", not {text!r:.80}')
    return text


def _some_minutes(seconds: float) -> float:
    if not 2 <= seconds <= 12 * 3600:
        raise ValueError("must be 2s to 12h")
    return seconds


def _an_owner(text: str) -> str:
    if text and not re.fullmatch(r"[^\s:]{1,64}|[^\s:]{0,64}:[^\s:]{1,64}", text):
        raise ValueError(f'must be "user", "user:group" or ":group", names or numbers, or empty, not {text!r:.80}')
    return text


def _a_user(text: str) -> str:
    if not re.fullmatch(r"[^\s:]{1,64}", text):
        raise ValueError(f"must be names or numbers of users, not {text!r:.80}")
    return text


def _a_network(text: str) -> str:
    if text == "unix":
        return text
    try:
        return str(ip_network(text))
    except ValueError:
        raise ValueError(f"must be addresses, networks such as '10.0.0.0/8', or 'unix', not {text!r:.80}") from None


def _over_tcp(address: quantities.Address) -> quantities.Address:
    if address.path:
        raise ValueError(f"must be an address such as 'tcp://0.0.0.0:9901', not '{address}'")
    return address


def _bounded(settings: dict[str, str]) -> dict[str, str]:
    total = sum(len(key.encode()) + len(value.encode()) + 10 for key, value in settings.items())
    if total > SETTINGS_MAX:
        raise ValueError(f"come to {total} bytes; {SETTINGS_MAX} is the most a driver can be given")
    return settings


Seconds = Annotated[float, BeforeValidator(quantities.seconds)]
Limit = Annotated[float, BeforeValidator(quantities.seconds), AfterValidator(_positive)]  # a wait must have an end
Run = Annotated[float, BeforeValidator(quantities.seconds), AfterValidator(_a_millisecond)]
Short = Annotated[float, BeforeValidator(quantities.seconds), AfterValidator(_millisecond_at_most)]
Beat = Annotated[float, BeforeValidator(quantities.seconds), AfterValidator(_a_tenth)]
Size = Annotated[int, BeforeValidator(quantities.size)]
Size32 = Annotated[int, BeforeValidator(quantities.size), AfterValidator(_u32)]
Count = Annotated[int, Field(ge=1, le=2**31 - 1)]
Mode = Annotated[int, BeforeValidator(quantities.mode)]
Path_ = Annotated[str, AfterValidator(_exists_as_text)]
PathOrNone = Annotated[str, AfterValidator(_no_nul)]  # empty: none
Listen = Annotated[quantities.Address, BeforeValidator(quantities.address)]
TcpListen = Annotated[Listen, AfterValidator(_over_tcp)]
Texts = Annotated[tuple[Path_, ...], Field(strict=False)]
Paths = Annotated[tuple[Path_, ...], Field(strict=False), AfterValidator(_few_paths)]
Sha256 = Annotated[str, AfterValidator(_sha256)]
Files = Annotated[
    tuple[Path_, ...], BeforeValidator(quantities.one_or_more), Field(strict=False, max_length=SECRETS_MAX)
]
Certificates = Annotated[
    tuple[Annotated[str, AfterValidator(_a_name)], ...], Field(strict=False, max_length=CERTIFICATES_MAX)
]
Permitted = Annotated[quantities.Permitted | None, PlainValidator(quantities.commands)]
Owner = Annotated[str, AfterValidator(_an_owner)]
Users = Annotated[
    tuple[Annotated[str, BeforeValidator(quantities.user), AfterValidator(_a_user)], ...],
    Field(strict=False, max_length=256),
]
Keepalive = Annotated[float, BeforeValidator(quantities.seconds), AfterValidator(_some_minutes)]
Share = Annotated[float, Field(ge=0, le=1, strict=False)]
Exempt = Annotated[tuple[Annotated[str, AfterValidator(_a_network)], ...], Field(strict=False, max_length=256)]
Flat = Annotated[dict[str, str], BeforeValidator(quantities.flatten), AfterValidator(_bounded)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9_-]{1,64}$")]


class Section(BaseModel):
    """A table of the configuration: closed and constant."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Limits(Section):
    """[instances.NAME.limits]"""

    queue: Count = 4096
    connections: Count = 1024
    in_flight: Count = 4096
    in_flight_bytes: Size = 64 * 2**20
    frame: Size32 = 16 * 2**20
    frame_time: Limit = 30.0
    frames_bytes: Size = 256 * 2**20
    depth: Annotated[int, Field(ge=1, le=10_000)] = 128
    terms: Count = 1_000_000
    bignum: Size32 = 4096
    reply: Size32 = 64 * 2**20
    unsent_bytes: Size = 8 * 2**20
    unsent_time: Limit = 30.0
    linger: Limit = 2.0


class Restart(Section):
    """[instances.NAME.restart]"""

    first: Seconds = 0.1
    factor: Annotated[float, Field(ge=1, le=100, strict=False)] = 2.0
    max: Seconds = 30.0
    healthy_after: Seconds = 60.0
    jitter: Annotated[float, Field(ge=0, le=1, strict=False)] = 0.2
    budget: Annotated[int, Field(ge=0, le=10_000)] = 0
    budget_time: Limit = 60.0


class Sandbox(Section):
    """[instances.NAME.sandbox]"""

    profile: Profile = "default"
    user: str = ""
    read: Paths = ()
    write: Paths = ()
    nofile: Annotated[int, Field(ge=64, le=2**31 - 1)] | None = None
    memory: Size | None = None
    tasks: Count | None = None
    cpu: Annotated[float, Field(gt=0, le=4096, strict=False)] | None = None


class InstanceConfig(Section):
    """[instances.NAME]"""

    driver: Path_
    sha256: Sha256 | None = None
    enabled: bool = True
    threads: Annotated[int, Field(ge=1, le=1024)] = 4
    start_timeout: Limit | None = None
    processes: Annotated[int, Field(ge=1, le=64)] = 1
    spares: Annotated[int, Field(ge=0, le=64)] = 0
    snapshot: bool = True
    cores: bool = False
    overlap: bool = True
    heartbeat: Beat = 30.0
    short: Short = 20e-6
    max_run: Run | None = None
    max_run_of: dict[str, Run] = Field(default_factory=dict)
    quarantine: Annotated[int, Field(ge=0, le=1000)] = 0
    quarantine_time: Limit = 3600.0
    on_hang: OnHang = "restart"
    max_abandoned: Annotated[int, Field(ge=1, le=64)] = 8  # host/recorder.h has room for so many
    settings: Flat = Field(default_factory=dict)
    limits: Limits = Limits()
    restart: Restart = Restart()
    sandbox: Sandbox = Sandbox()


class KeyConfig(Section):
    """[keys.NAME]"""

    file: Files = ()
    certificates: Certificates = ()
    instances: Annotated[tuple[Name, ...] | None, Field(strict=False)] = None  # all
    commands: Permitted = None  # all


class TlsConfig(Section):
    """[tls]"""

    listen: Annotated[tuple[TcpListen, ...], Field(strict=False, max_length=64)] = ()  # none: no TLS
    certificate: PathOrNone = ""
    key: PathOrNone = ""
    clients: Clients = "none"
    client_ca: PathOrNone = ""
    handshake_timeout: Limit = 5.0
    handshake_pending: Count = 256
    connections: Annotated[int, Field(ge=1, le=500_000)] = 1024


class DaemonConfig(Section):
    """[daemon]"""

    listen: Annotated[tuple[Listen, ...], Field(strict=False)] = (
        quantities.Address("127.0.0.1", 9900, ""),
        quantities.Address("", 0, "/run/gendriverd/gendriverd.sock"),
    )
    insecure: bool = False
    unix_mode: Mode = 0o660
    unix_owner: Owner = ""
    unix_users: Users = ()
    keepalive: Keepalive = 120.0
    auth: Auth = "none"
    admin: PathOrNone = DEFAULT_ADMIN
    log_level: LogLevel = "info"
    log_format: LogFormat = "auto"
    driver_path: Texts = ()
    driver_owners: Users = ()
    host: str = ""
    handshake_timeout: Limit = 5.0
    handshake_pending: Count = 256
    handshake_drop_from: Share = 0.5
    handshake_per_source: Count = 16
    penalty_after: Annotated[int, Field(ge=0, le=2**31 - 1)] = 10
    penalty_first: Limit = 1.0
    penalty_max: Limit = 600.0
    penalty_sources: Annotated[int, Field(ge=1, le=1_000_000)] = 4096
    penalty_exempt: Exempt = ("127.0.0.0/8", "::1/128", "unix")
    reports: Reports = "hash"
    reports_dir: Path_ = "/var/lib/gendriverd/reports"
    reports_max: Annotated[int, Field(ge=1, le=100_000)] = 100
    snapshots_dir: Path_ = "/var/lib/gendriverd/drivers"
    start_timeout: Limit = 10.0
    drain_timeout: Seconds = 10.0
    stop_timeout: Seconds = 5.0


class Config(Section):
    """A whole configuration; its paths are absolute, but for drivers and key files named without a directory."""

    daemon: DaemonConfig = DaemonConfig()
    instances: dict[Name, InstanceConfig] = Field(default_factory=dict)
    keys: dict[Name, KeyConfig] = Field(default_factory=dict)
    tls: TlsConfig = TlsConfig()

    def enabled(self) -> dict[str, InstanceConfig]:
        return {name: instance for name, instance in self.instances.items() if instance.enabled}
