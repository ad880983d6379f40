# SPDX-License-Identifier: MIT
"""The command line: usage a newcomer understands, flags over environment over file, and never a traceback."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from gendriverd import cli, daemon
from gendriverd.cli_arguments import DEFAULT_CONFIG, parser
from gendriverd.config import DEFAULT_PATH, load
from gendriverd.errors import ConfigError


def test_help_shows_examples_and_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert all(
        word in said for word in ("serve", "check", "reload", "status", "call", "cflags", "examples:", "exit codes")
    )


@pytest.mark.parametrize(
    "arguments", [[], ["serv"], ["serve", "--nonsense"], ["call"], ["call", "--key", "-1", "a", "1"]]
)
def test_wrong_usage_ends_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_a_missing_configuration_is_one_sentence_and_78(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["serve", "--config", "/nowhere/x.toml"]) == 78
    assert capsys.readouterr().err == "gendriverd: /nowhere/x.toml: cannot be read: No such file or directory\n"


def test_flags_win_over_the_environment_and_it_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text('[daemon]\nlog_level = "error"\nlog_format = "json"\nlisten = ["unix:/a"]\n')
    environ = {
        "GENDRIVERD_LOG_LEVEL": "debug",
        "GENDRIVERD_LISTEN": "unix:/b,unix:/c",
        "GENDRIVERD_DRIVER_PATH": "/d:/e",
    }
    options = argparse.Namespace(listen=["unix:/f"])
    found = load(path, cli.overrides(options, environ)).daemon
    assert [str(each) for each in found.listen] == ["unix:/f"]
    assert (found.log_level, found.log_format, found.driver_path) == ("debug", "json", ("/d", "/e"))


def test_a_daemon_that_is_no_table_is_said_whatever_the_flags(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text("daemon = 5\n")
    options = parser().parse_args(["serve", "--log-level", "debug"])
    with pytest.raises(ConfigError, match="daemon"):
        load(path, cli.overrides(options, {}))


def test_directories_of_flags_are_where_the_command_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    options = parser().parse_args(["serve", "--driver-path", "here"])
    said = cli.overrides(options, {"GENDRIVERD_HOST": "bin/host", "GENDRIVERD_ADMIN": "a.sock"})
    assert said["daemon", "driver_path"][1] == [str(tmp_path / "here")]
    assert said["daemon", "host"][1] == str(tmp_path / "bin/host")
    assert said["daemon", "admin"][1] == str(tmp_path / "a.sock")
    assert cli.overrides(argparse.Namespace(admin=""), {})["daemon", "admin"][1] == ""


@pytest.mark.parametrize("timeout", ["inf", "nan", "-1", "1e300", "soon"])
def test_a_timeout_that_is_none_is_wrong_usage(timeout: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["call", "--timeout", timeout, "sum", "1"])
    assert ended.value.code == 2
    assert "timeout" in capsys.readouterr().err


def test_a_mistake_in_the_environment_names_the_variable(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text("")
    with pytest.raises(Exception, match=r"^GENDRIVERD_LOG_LEVEL: \[daemon\] log_level must be 'debug'"):
        load(path, cli.overrides(argparse.Namespace(), {"GENDRIVERD_LOG_LEVEL": "loud"}))


def test_a_bug_is_one_sentence_and_its_traceback_only_on_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def broken(self: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(daemon.Daemon, "run", broken)
    monkeypatch.delenv("GENDRIVERD_DEBUG", raising=False)
    path = tmp_path / "c.toml"
    path.write_text("")
    assert cli.main(["serve", "--config", str(path)]) == 1
    assert capsys.readouterr().err.startswith("gendriverd: internal error: ZeroDivisionError('oops')")
    monkeypatch.setenv("GENDRIVERD_DEBUG", "1")
    assert cli.main(["serve", "--config", str(path)]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_the_default_configuration_is_the_one_that_is_documented() -> None:
    assert str(DEFAULT_PATH) == DEFAULT_CONFIG
