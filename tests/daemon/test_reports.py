# SPDX-License-Identifier: MIT
"""A host's death leaves a report that names the request, where it happened, and what else was going on."""

from __future__ import annotations

import base64
import json
import os
import resource
import shutil
import stat
import subprocess
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from gendriverd import cli, etf, reports
from gendriverd.cflags import cflags
from gendriverd.client import Failed, connect
from running_daemon import RunningDaemon
from streams import SEGV as STREAM_SEGV
from streams import parts
from test_crash import BLOCK, ECHO, KNOWN, SEGV, UNKNOWN, WAITING, call, failed, heard_to_the_end, welcomed

Daemon = Callable[..., RunningDaemon]


def die(daemon: Daemon, drivers: Path, how: int, params: object = b"the one", **settings: object) -> dict[str, Any]:
    """The report of a host that died of command `how`, beside a running and a waiting call."""
    crash = {"driver": drivers / "test/crash.so", "threads": 2, "restart": {"first": "1ms"}}
    running = daemon({"crash": crash}, settings=settings)
    with welcomed(running.tcp_url) as raw:
        raw.sock.sendall(call(1, BLOCK, 0) + call(2, BLOCK, 0) + call(3, WAITING, 1, 1) + call(4, how, 1, params))
        heard_to_the_end(raw)
    path = Path(running.wait_event("report_written")["path"])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    report: dict[str, Any] = json.loads(path.read_text())
    assert report["instance"] == "crash"
    assert report["generation"] == 1
    assert report["queued"] == 1
    assert report["driver_sha256"] == sha256((drivers / "test/crash.so").read_bytes()).hexdigest()
    assert report["usage"]["max_rss_kib"] > 100
    return report


@pytest.mark.parametrize("how", KNOWN)
def test_the_request_that_did_it_is_named(daemon: Daemon, drivers: Path, how: str) -> None:
    report = die(daemon, drivers, KNOWN[how])
    culprit = report["culprit"]
    assert (culprit["command"], culprit["name"], culprit["worker"]) == (KNOWN[how], how, 1)
    assert (culprit["kind"], culprit["id"], culprit["outcome"]) == ("call", 4, "crashed")
    assert culprit["peer"].startswith("tcp://127.0.0.1:")
    assert culprit["params_sha256"] == sha256(etf.encode(b"the one")[1:]).hexdigest()
    assert culprit["params"] is None  # it may hold secrets
    assert {each["id"] for each in report["running"]} == {1, 4}
    assert report["culprit_unknown"] is None
    (ran,) = report["commands"]  # the others have not come back
    assert (ran["name"], ran["calls"], ran["casts"], ran["failed"]) == ("waiting", 1, 0, 0)
    assert 0 < ran["running_ms"]["p50"] <= ran["running_ms"]["max"]
    assert report["loop_busy_ms"] is None


@pytest.mark.parametrize("how", UNKNOWN)
def test_what_nobody_can_know_is_said_to_be_unknown(daemon: Daemon, drivers: Path, how: str) -> None:
    report = die(daemon, drivers, UNKNOWN[how])
    assert report["culprit"] is None
    assert "no thread" in report["culprit_unknown"] or "no request" in report["culprit_unknown"]
    assert {each["id"] for each in report["running"]} == {1, 4}


@pytest.mark.parametrize("size", [10, 183, 184, 100_000, 1_000_000])
def test_the_bytes_are_kept_where_the_configuration_says_so(
    daemon: Daemon, drivers: Path, size: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = die(daemon, drivers, SEGV, b"x" * size, reports="full", reports_dir=str(tmp_path / "r"))
    assert base64.b64decode(report["culprit"]["params"]) == etf.encode(b"x" * size)[1:]
    assert cli.main(["reports", "--dir", str(tmp_path / "r"), "show"]) == 0
    assert "xxxx" in capsys.readouterr().out


def test_a_person_can_read_it(
    daemon: Daemon, drivers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = die(daemon, drivers, SEGV, reports_dir=str(tmp_path / "r"))
    directory = ["reports", "--dir", str(tmp_path / "r")]
    assert cli.main(directory) == 0
    assert f"{report['id']}  killed by SIGSEGV  call of command 1 (segv), crashed" in capsys.readouterr().out
    for wanted in ("last", report["id"], report["id"][:8]):
        assert cli.main([*directory, "show", wanted]) == 0
        said = capsys.readouterr().out
        assert "request: call of command 1 (segv), told crashed" in said
        assert "fault: address 0x10, si_code 1" in said
        assert "segv+0x" in said  # the function it happened in
        assert "dispatch+0x" in said  # and who called it
        assert "others: 1 running, 1 waiting" in said
        assert "what had run, by command" in said
    assert cli.main([*directory, "show", "nobody"]) == 1
    assert "no report 'nobody'" in capsys.readouterr().err
    assert cli.main(["reports", "--dir", str(tmp_path / "none")]) == 0
    assert "no reports in" in capsys.readouterr().err


def test_the_request_can_be_replayed_alone(
    daemon: Daemon, drivers: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    die(daemon, drivers, SEGV, [1, {"a": b"x" * 500}], reports="full")
    again = ["replay", "last", "--config", str(tmp_path / "daemon-1/gendriverd.toml")]
    assert cli.main(again) == 1
    assert "it crashed again" in capfd.readouterr().out
    # As after a mend: the command of that number does no harm there.
    assert cli.main([*again, "--driver", str(drivers / "echo.so")]) == 0
    assert 'it did not crash: {ok,[1,#{<<"a">> => <<"xxx' in capfd.readouterr().out
    assert cli.main([*again, "--driver", "/nowhere.so"]) == 1
    assert "refuses the driver: /nowhere.so" in capfd.readouterr().err


def test_a_request_that_crashed_in_mid_stream_takes_parts_again(
    daemon: Daemon, drivers: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    driver = drivers / "test/streams.so"
    running = daemon({"x": {"driver": driver}}, settings={"reports": "full"})
    with connect(running.tcp_url, "x") as client, client.stream("run", [parts(3), STREAM_SEGV]) as stream:
        assert [next(stream) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(Failed, match="crashed"):
            next(stream)
    running.wait_event("report_written")
    again = ["replay", "last", "--config", str(tmp_path / "daemon-1/gendriverd.toml")]
    assert cli.main(again) == 1
    assert "it crashed again" in capfd.readouterr().out
    assert cli.main([*again, "--driver", str(drivers / "echo.so")]) == 0


@pytest.mark.parametrize(("tool", "shows"), [("gdb", "segv"), ("valgrind", "Invalid write")])
def test_a_replay_under_a_debugger_shows_where(
    daemon: Daemon, drivers: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], tool: str, shows: str
) -> None:
    if shutil.which(tool) is None or os.environ.get("GENDRIVERD_SANITIZER"):
        pytest.skip(f"no {tool} here, or it does not go together with sanitizers")
    die(daemon, drivers, SEGV, reports="full")
    assert cli.main(["replay", "last", f"--{tool}", "--config", str(tmp_path / "daemon-1/gendriverd.toml")]) == 1
    said = capfd.readouterr()
    assert shows in said.out + said.err


def test_a_replay_with_address_sanitizer_says_what_went_wrong(
    daemon: Daemon, drivers: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    if os.environ.get("GENDRIVERD_SANITIZER"):
        pytest.skip("the host has one already")
    die(daemon, drivers, KNOWN["double_free"], reports="full")
    source, built = Path(__file__).parent.parent / "drivers/crash.c", tmp_path / "crash.so"
    compile_it = [
        "cc",
        *cflags(legacy=False).split(),
        "-shared",
        "-fPIC",
        "-fsanitize=address",
        str(source),
        "-o",
        str(built),
    ]
    subprocess.run(compile_it, check=True)
    again = ["replay", "last", "--asan", "--config", str(tmp_path / "daemon-1/gendriverd.toml")]
    assert cli.main([*again, "--driver", str(built)]) == 1
    said = capfd.readouterr()
    assert "AddressSanitizer: attempting double-free" in said.out + said.err


def test_the_file_that_crashed_is_replayed_whatever_became_of_the_drivers(
    daemon: Daemon, drivers: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    driver = tmp_path / "driver.so"
    shutil.copy(drivers / "test/crash.so", driver)
    running = daemon({"x": {"driver": driver}}, settings={"reports": "full"})
    with welcomed(running.tcp_url, b"x") as raw:
        raw.sock.sendall(call(1, SEGV, 0, b"y"))
        heard_to_the_end(raw)
    running.wait_event("report_written")
    shutil.copy(drivers / "echo.so", driver)
    again = ["replay", "last", "--config", str(tmp_path / "daemon-1/gendriverd.toml")]
    assert cli.main(again) == 1
    assert "it crashed again" in capfd.readouterr().out
    assert cli.main([*again, "--driver", str(driver)]) == 0


def test_a_core_file_is_there_where_it_was_asked_for(
    daemon: Daemon, drivers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pattern = Path("/proc/sys/kernel/core_pattern").read_text().strip()
    if os.environ.get("GENDRIVERD_SANITIZER") or "/" in pattern or resource.getrlimit(resource.RLIMIT_CORE)[1] == 0:
        pytest.skip("cores go elsewhere here, or nowhere")
    monkeypatch.chdir(tmp_path)
    settings = {"reports_dir": str(tmp_path / "r")}
    for cores in (False, True):
        crash = {"driver": drivers / "test/crash.so", "cores": cores, "restart": {"first": "1ms"}}
        running = daemon({"crash": crash}, settings=settings)
        with welcomed(running.tcp_url) as raw:
            raw.sock.sendall(call(1, SEGV, 0))
            assert heard_to_the_end(raw)[0] == failed(1, "crashed")
        report = json.loads(Path(running.wait_event("report_written")["path"]).read_text())
        assert (report["core"] is not None) == cores
        assert bool(list(tmp_path.glob("core*"))) == cores
    assert Path(report["core"]).read_bytes()[:4] == b"\x7fELF"
    assert cli.main(["reports", "--dir", str(tmp_path / "r"), "show", "last"]) == 0
    assert f"core: {report['core']}" in capsys.readouterr().out


def test_what_cannot_be_replayed_says_why(
    daemon: Daemon, drivers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = ["--config", str(tmp_path / "daemon-1/gendriverd.toml")]
    die(daemon, drivers, SEGV)
    assert cli.main(["replay", "last", *config]) == 1
    assert 'only with [daemon] reports = "full"' in capsys.readouterr().err
    assert cli.main(["replay", "nobody", *config]) == 1
    assert "no report 'nobody'" in capsys.readouterr().err


def test_a_directory_that_cannot_be_written_is_said_and_costs_nothing(daemon: Daemon, drivers: Path) -> None:
    crash = {"driver": drivers / "test/crash.so", "restart": {"first": "1ms"}}
    running = daemon({"crash": crash, "echo": {"driver": "echo.so"}}, settings={"reports_dir": "/proc/none"})
    with welcomed(running.tcp_url) as raw:
        raw.sock.sendall(call(1, SEGV, 0))
        heard_to_the_end(raw)
    assert running.wait_event("report_not_written")["path"] == "/proc/none"
    with welcomed(running.tcp_url, b"echo") as raw:
        raw.sock.sendall(call(1, ECHO, 0, 1))
        assert raw.receive() is not None


def test_the_oldest_go(tmp_path: Path) -> None:
    for number in range(20):
        report = {"id": f"x-20260101T0000{number:02}-1", "time": f"2026-01-01T00:00:{number:02}"}
        os.utime(reports.write(tmp_path, report, 5), (number, number))
    assert [report["time"][-2:] for report in reports.stored(tmp_path)] == ["15", "16", "17", "18", "19"]
    assert reports.find(tmp_path, "last") == reports.stored(tmp_path)[-1]
    assert reports.find(tmp_path, "x-2026") is None  # more than one begins so


def test_what_is_no_report_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "x-20260101T000000-1.json").write_text("{")
    (tmp_path / "other.json").write_text("{}")
    assert reports.stored(tmp_path) == []


def test_an_orderly_end_leaves_none(daemon: Daemon, tmp_path: Path) -> None:
    running = daemon({"echo": {"driver": "echo.so"}}, settings={"reports_dir": str(tmp_path / "r")})
    running.terminate()
    running.wait_event("stopped")
    assert not (tmp_path / "r").exists()
