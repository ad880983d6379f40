# SPDX-License-Identifier: MIT
"""Configuration: every mistake at once, each with file, line and what would be accepted; drop-ins; the shipped file."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from gendriverd.config import load, load_admin
from gendriverd.errors import ConfigError
from gendriverd.schema import DaemonConfig, InstanceConfig, KeyConfig, Limits, Restart, Sandbox, TlsConfig

ROOT = Path(__file__).resolve().parent.parent.parent
ONE = '[instances.sum]\ndriver = "sum.so"\n'
TLS = "[tls]\ncertificate = 'c'\nkey = 'k'\n"
HMAC = '[daemon]\nauth = "hmac"\n' + ONE


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def problems(path: Path) -> str:
    with pytest.raises(ConfigError) as raised:
        load(path, {})
    return str(raised.value)


def test_what_a_driver_may_change_decides_nothing_by_another_name_either(tmp_path: Path) -> None:
    (tmp_path / "real/models").mkdir(parents=True)
    (tmp_path / "alias").symlink_to("real")
    text = ONE + "[instances.sum.sandbox]\nwrite = ['alias']\nread = ['real/models']\n"
    assert "models' lies in" in problems(write(tmp_path / "c.toml", text))
    text = ONE + "[instances.sum.sandbox]\nwrite = ['alias']\nread = ['alias', 'real', 'aliased']\n"
    load(write(tmp_path / "c.toml", text), {})


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[keys]\n"a\\tb" = 1\n' + ONE, "[keys.'a\\tb'] must be a table"),
        ('"[key]" = 1\n' + ONE, "c.toml:1: the configuration has no setting '[key]'"),
        (
            ONE + "[instances.sum.max_run_of]\n'[key]' = 'x'\n",
            "c.toml:4: [instances.sum.max_run_of] [key] must be a duration",
        ),
        (
            "[instances.'[key]']\ndriver = 'x'\n",
            "an instance's name is 1 to 64 of a-z, 0-9, _ and -, which '[key]' is not",
        ),
        ("[daemon]\nlistne = []\n" + ONE, "c.toml:2: [daemon] has no setting 'listne'; did you mean 'listen'?"),
        (
            ONE + "[instances.sum.sandbox]\nwrite = ['/a/b']\nread = ['/a/b/c']\n",
            "c.toml:5: [instances.sum.sandbox] read: '/a/b/c' lies in '/a/b', which [instances.sum.sandbox] write lets",
        ),
        (
            ONE + "[instances.other]\ndriver = '/a/x.so'\n[instances.sum.sandbox]\nwrite = ['/a']\n",
            "c.toml:4: [instances.other] driver: '/a/x.so' lies in '/a', which [instances.sum.sandbox] write lets",
        ),
        (
            "[daemon]\nsnapshots_dir = '/a/s'\n" + ONE + "[instances.sum.sandbox]\nwrite = ['/']\n",
            "c.toml:2: [daemon] snapshots_dir: '/a/s' lies in '/', which",
        ),
        (
            "[daemon]\nreports_dir = '/a'\n" + ONE + "[instances.sum.sandbox]\nwrite = ['/a']\n",
            "c.toml:2: [daemon] reports_dir: '/a' lies in '/a', which",
        ),
        (ONE + "thread = 4\n", "c.toml:3: [instances.sum] has no setting 'thread'; did you mean 'threads'?"),
        (ONE + "threads = 0\n", "c.toml:3: [instances.sum] threads must be greater than or equal to 1, not 0"),
        ("[instances.x]\nthreads = 1\n", "[instances.x] needs a setting 'driver'"),
        (ONE + "on_hang = 'wait'\n", "c.toml:3: [instances.sum] on_hang must be 'restart' or 'abandon', not 'wait'"),
        (ONE + "max_abandoned = 65\n", "[instances.sum] max_abandoned must be less than or equal to 64, not 65"),
        ("[instances.BAD]\ndriver = 'x'\n", "'BAD'"),
        (ONE + "[instances.sum.limits]\nqueue_ = 1\n", "[instances.sum.limits] has no setting 'queue_'"),
        (ONE + "[instances.sum.limits]\nframe = 'lots'\n", "[instances.sum.limits] frame must be a number of bytes"),
        (
            ONE + "[instances.sum.limits]\nframes_bytes = '1MiB'\n",
            "frames_bytes (1048576) is less than one frame (16777216)",
        ),
        (ONE + "[instances.sum.limits]\nframe_time = 0\n", "frame_time must be more than 0"),
        ("[daemon]\nlisten = ['localhost:1']\n" + ONE, "must be an address such as 'tcp://127.0.0.1:9900'"),
        ("[daemon]\nadmin = 5\n" + ONE, "c.toml:2: [daemon] admin must be a valid string, not 5"),
        ('[daemon]\nadmin = "a\\u0000"\n' + ONE, "c.toml:2: [daemon] admin must be a path, or empty for none"),
        ("[daemon]\nadmin = '" + "x" * 108 + "'\n" + ONE, "c.toml:2: [daemon] admin is longer than the 107 bytes"),
        ("[daemon]\nlisten = ['unix:/s']\nadmin = '/s'\n" + ONE, "c.toml:3: [daemon] admin is one of the addresses"),
        ("[daemon]\nhandshake_timeout = 'soon'\n" + ONE, "handshake_timeout must be a duration"),
        ("[deamon]\n" + ONE, "'deamon'; did you mean 'daemon'?"),
        ("[daemon]\nauth = 'hmac'\n" + ONE, 'c.toml:2: [daemon] auth = "hmac" needs keys: [keys.NAME]'),
        ("[daemon]\nauth = 'password'\n" + ONE, "c.toml:2: [daemon] auth must be 'none' or 'hmac', not 'password'"),
        (
            ONE + "[keys.a]\nfile = 'a'\n",
            'c.toml:3: [keys] are not asked for: [daemon] auth = "none" lets everybody in',
        ),
        (HMAC + "[keys.a]\n", "c.toml:5: [keys.a] needs a setting 'file'"),
        (HMAC + "[keys.a]\nfile = ''\n", "c.toml:6: [keys.a] file must be a path, not ''"),
        (HMAC + "[keys.a]\nfile = 'a'\nsecret = 'x'\n", "has no setting 'secret'; its settings are file, cert"),
        (HMAC + "[keys.a]\nfile = []\n", "c.toml:5: [keys.a] needs a setting 'file', or 'certificates'"),
        (HMAC + "[keys.a]\nfile = ['a', '']\n", "c.toml:6: [keys.a] file must be a path, not ''"),
        (HMAC + f"[keys.a]\nfile = {['k'] * 9}\n", "[keys.a] file"),
        (
            HMAC + "[keys.a]\nfile = 'a'\ncommands = 'sum'\n",
            "c.toml:7: [keys.a] commands must be a list of at most 256",
        ),
        (
            HMAC + "[keys.a]\nfile = 'a'\ncommands = [true]\n",
            "[keys.a] commands must be a list of at most 256 commands",
        ),
        (HMAC + "[keys.a]\nfile = 'a'\ncommands = [-1]\n", "[keys.a] commands must be a list of at most 256 commands"),
        (HMAC + f"[keys.a]\nfile = 'a'\ncommands = {[1] * 257}\n", "[keys.a] commands must be a list of at most 256"),
        (HMAC + "[keys.a]\nfile = 'a'\ncommands = {sum = 'none'}\n", "or \"all\", for each instance, not 'none'"),
        (
            HMAC + "[keys.a]\nfile = 'a'\n[keys.a.commands]\nsmu = [1]\n",
            "commands names 'smu', and there is no such inst",
        ),
        (
            HMAC + "[keys.a]\nfile = 'a'\ninstances = []\ncommands = {sum = [1]}\n",
            "commands is a table, so it names what instances does: one of them lacks 'sum'",
        ),
        (HMAC + "[keys.a]\ncertificates = ['']\n", "c.toml:6: [keys.a] certificates must be names of 255 bytes"),
        (
            HMAC + "[keys.a]\ncertificates = ['anna.example']\n",
            """such as "CN=anna", "DNS:app.example" or "URI:..", not 'a""",
        ),
        (HMAC + "[keys.a]\ncertificates = ['URI:']\n", "not 'URI:'"),
        (HMAC + f"[keys.a]\ncertificates = ['CN={'x' * 253}']\n", "certificates must be names of 255 bytes at most"),
        (HMAC + "[keys.a]\ncertificates = ['CN=a\u2028']\n", "certificates must be names of 255 bytes at most"),
        (
            HMAC + "[keys.a]\ncertificates = ['CN=x']\n",
            "c.toml:6: [keys.a] certificates are asked of nobody: [tls] clients",
        ),
        (
            HMAC + "[keys.a]\ncertificates = ['CN=x']\n[keys.b]\ncertificates = ['CN=y', 'CN=x']\n",
            "c.toml:8: [keys.b] certificates names 'CN=x', which is of [keys.a] already",
        ),
        ("[daemon]\nunix_owner = 'a:b:c'\n" + ONE, 'c.toml:2: [daemon] unix_owner must be "user", "user:group" or'),
        ("[daemon]\nunix_users = ['a b']\n" + ONE, "c.toml:2: [daemon] unix_users must be names or numbers of users"),
        ("[daemon]\nkeepalive = '1s'\n" + ONE, "c.toml:2: [daemon] keepalive must be 2s to 12h"),
        (
            "[daemon]\npenalty_exempt = ['here']\n" + ONE,
            "penalty_exempt must be addresses, networks such as '10.0.0.0/8'",
        ),
        ("[daemon]\npenalty_exempt = ['10.0.0.1/8']\n" + ONE, "c.toml:2: [daemon] penalty_exempt must be addresses"),
        ("[daemon]\nhandshake_drop_from = 2\n" + ONE, "handshake_drop_from must be less than or equal to 1, not 2"),
        ("[daemon]\npenalty_first = 0\n" + ONE, "c.toml:2: [daemon] penalty_first must be more than 0"),
        (HMAC + "[keys.A]\nfile = 'a'\n", "a key's name is 1 to 64 of a-z, 0-9, _ and -, which 'A' is not"),
        (
            HMAC + "[keys.a]\nfile = 'a'\ninstances = ['smu']\n",
            "c.toml:7: [keys.a] instances names 'smu', and there is no",
        ),
        (HMAC + "[keys.a]\nfile = 'a'\ninstances = ['smu']\n", "did you mean 'sum'?"),
        (HMAC + "[keys.a]\nfile = 'a'\ninstances = 'sum'\n", "c.toml:7: [keys.a] instances must be a valid tuple"),
        (
            ONE + "[tls]\nlisten = ['unix:/s']\n",
            "c.toml:4: [tls] listen must be an address such as 'tcp://0.0.0.0:9901'",
        ),
        (ONE + "[tls]\nlisten = ['tcp://[::]:1']\n", "c.toml:3: [tls] needs a setting 'certificate'"),
        (ONE + "[tls]\ncertificate = 'c'\n", "c.toml:3: [tls] needs a setting 'key'"),
        (ONE + TLS + "clients = 'required'\n", 'c.toml:6: [tls] clients = "required" needs client_ca'),
        (ONE + TLS + "client_ca = 'a'\n", "c.toml:6: [tls] client_ca is not asked for"),
        (
            ONE + TLS + "clients = 'all'\n",
            "c.toml:6: [tls] clients must be 'none', 'optional' or 'required', not 'all'",
        ),
        (ONE + TLS + "listen = ['tcp://a:1', 'tcp://a:1']\n", "c.toml:6: [tls] listen names an address twice"),
        (ONE + TLS + "listen = ['tcp://127.0.0.1:9900']\n", "c.toml:6: [tls] listen names tcp://127.0.0.1:9900, which"),
        (ONE + TLS + "protocol = 'TLSv1.2'\n", "c.toml:6: [tls] has no setting 'protocol'; its settings are listen"),
        ("[instances.sum\n", "c.toml:1"),
        ("[instances.sum]\n5 = 1\n", "c.toml:2: [instances.sum] has no setting '5'"),
        (ONE + "[instances.sum.limits]\nframe = '" + "9" * 400 + "B'\n", "frame must be a number of bytes"),
        (ONE + "[instances.sum.limits]\nunsent_bytes = 1" + "0" * 30 + "\n", "unsent_bytes must be a number of bytes"),
        (ONE + "[instances.sum.limits]\nunsent_bytes = '99999999999GiB'\n", "unsent_bytes must be at most 1000000 GiB"),
        ("[daemon]\ndrain_timeout = 1" + "0" * 400 + "\n" + ONE, "drain_timeout must be a duration"),
        ("[daemon]\ndrain_timeout = 1" + "0" * 5000 + "\n" + ONE, "c.toml"),
        ("[daemon]\nlisten = " + "[" * 5000 + "]" * 5000 + "\n" + ONE, "is nested too deep"),
    ],
)
def test_a_mistake_is_named_with_file_line_and_what_is_accepted(tmp_path: Path, text: str, problem: str) -> None:
    said = problems(write(tmp_path / "c.toml", text))
    assert problem in said
    assert str(tmp_path / "c.toml") in said


def test_a_secret_written_where_a_key_is_named_is_not_repeated(tmp_path: Path) -> None:
    said = problems(write(tmp_path / "c.toml", HMAC + "[keys]\nanna = 'hunter2hunter2'\n"))
    assert "c.toml:6: [keys.anna] must be a table" in said
    assert "hunter2" not in said


def test_all_mistakes_are_said_at_once(tmp_path: Path) -> None:
    said = problems(write(tmp_path / "c.toml", "[daemon]\na = 1\nb = 2\n[instances.x]\nc = 3\n"))
    assert len(said.splitlines()) == 4


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert f"{tmp_path}/none.toml" in problems(tmp_path / "none.toml")


def test_drop_ins_are_merged_in_name_order_and_the_later_wins(tmp_path: Path) -> None:
    path = write(tmp_path / "c.toml", ONE + "threads = 1\n")
    write(tmp_path / "conf.d/20-more.toml", "[instances.sum]\nthreads = 3\n[instances.b]\ndriver = 'echo.so'\n")
    write(tmp_path / "conf.d/10-first.toml", "[instances.sum]\nthreads = 2\nenabled = false\n")
    write(tmp_path / "conf.d/ignored.txt", "nonsense")
    config = load(path, {})
    assert (config.instances["sum"].threads, config.instances["sum"].enabled) == (3, False)
    assert set(config.instances) == {"sum", "b"}


def test_a_mistake_in_a_drop_in_names_the_drop_in(tmp_path: Path) -> None:
    path = write(tmp_path / "c.toml", ONE)
    write(tmp_path / "conf.d/x.toml", "\n[instances.sum]\nthreds = 3\n")
    assert f"{tmp_path}/conf.d/x.toml:3: [instances.sum] has no setting 'threds'" in problems(path)


@pytest.mark.parametrize(("said", "found"), [("a.sock", "{}/a.sock"), ("../b", "{}/b"), ("/run/c", "/run/c"), ("", "")])
def test_the_admin_socket_lies_where_the_file_says_relative_to_it(tmp_path: Path, said: str, found: str) -> None:
    path = write(tmp_path / "c.toml", f"[daemon]\nadmin = '{said}'\n" + ONE)
    expected = found.format(tmp_path.parent if said.startswith("..") else tmp_path)
    assert load(path).daemon.admin == load_admin(path) == expected


def test_the_admin_socket_is_found_whatever_else_is_wrong(tmp_path: Path) -> None:
    path = write(tmp_path / "c.toml", "[daemon]\nadmin = '/a'\nlistne = 5\n[nonsense]\n")
    assert load_admin(path) == "/a"
    assert load_admin(write(tmp_path / "d.toml", "[nonsense]\n")) == DaemonConfig().admin
    for wrong in ("daemon = 5", "[daemon]\nadmin = 5", "[daemon"):
        with pytest.raises(ConfigError, match=r"e\.toml"):
            load_admin(write(tmp_path / "e.toml", wrong))


def shipped() -> dict[str, dict[str, object]]:
    return tomllib.loads((ROOT / "config/gendriverd.toml").read_text())


def test_the_shipped_configuration_is_valid_and_has_two_instances() -> None:
    config = load(ROOT / "config/gendriverd.toml", {})
    assert len([name for name, instance in config.instances.items() if instance.enabled]) >= 2


def test_the_shipped_configuration_shows_every_setting() -> None:
    text = (ROOT / "config/gendriverd.toml").read_text()
    for model in (DaemonConfig, InstanceConfig, Limits, KeyConfig, Restart, Sandbox, TlsConfig):
        for name in model.model_fields:
            assert re.search(rf"^#?\s*(\[instances\.\w+\.)?{name}\b", text, re.MULTILINE), f"{model.__name__}.{name}"


def test_the_shipped_values_of_the_daemon_are_the_defaults() -> None:
    assert load(ROOT / "config/gendriverd.toml", {}).daemon == DaemonConfig()


def test_the_shipped_values_of_tls_are_the_defaults() -> None:
    assert load(ROOT / "config/gendriverd.toml", {}).tls == TlsConfig()
