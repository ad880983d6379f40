# SPDX-License-Identifier: MIT
"""The Erlang suites that need a real daemon, against one that is started here, on OTP 25 and on OTP 28."""

import re
import shlex
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from running_daemon import RunningDaemon
from tests.system.conftest import ROOT, Runtime, compiled

DEADLINE = 240
# They need ssl, and a compiler, which the runtime of OTP 28 does not bring along.
ON_A_WHOLE_OTP = {"gen_driver_tls_SUITE", "gen_driver_telemetry_SUITE"}
CLIENTS_OWN = sorted(
    {path.stem for kind in ("SUITE", "tests") for path in (ROOT / "erlang/test").glob(f"*_{kind}.erl")} - ON_A_WHOLE_OTP
)

pytestmark = pytest.mark.timeout(DEADLINE + 60)


def instances(drivers: Path, directory: Path) -> dict[str, dict[str, object]]:
    """What the suites call: by name, these."""
    wanted: dict[str, dict[str, object]] = {
        "sum": {"driver": "sum.so"},
        "echo": {"driver": "echo.so"},
        "tight": {"driver": "echo.so", "limits": {"depth": 5, "terms": 42, "bignum": 9}},
        "test": {"driver": "sum.so", "threads": 1},
        "test4": {"driver": "sum.so", "threads": 4},
        "crash": {"driver": drivers / "test/crash.so", "threads": 2, "restart": {"first": "1ms"}},
        "zlib": {"driver": "zlib.so"},
        "sqlite": {"driver": "sqlite.so", "settings": {"database": directory / "examples.db"}},
    }
    return {name: keys for name, keys in wanted.items() if (drivers / str(keys["driver"])).exists()}


def passed(done: CompletedProcess[str]) -> tuple[int, int]:
    """How many cases were ok, of how many. None may have failed."""
    print(done.stdout[-6000:])
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    result = re.search(r"TEST COMPLETE, (\d+) ok, 0 failed(?:, \d+ skipped)? of (\d+) test cases", done.stdout)
    assert result is not None, done.stdout
    assert int(result[1]) > 0
    return int(result[1]), int(result[2])


@pytest.mark.parametrize("suite", ["system_SUITE", "examples_SUITE"])
def test_suite_passes_against_a_real_daemon(
    daemon: Callable[..., RunningDaemon], drivers: Path, tmp_path: Path, runtime: Runtime, suite: str
) -> None:
    running = daemon(instances(drivers, tmp_path))
    urls = {"GENDRIVERD_URL": running.tcp_url, "GENDRIVERD_UNIX_URL": running.unix_url}
    ok, of = passed(runtime.suites(suite, cwd=tmp_path, seconds=DEADLINE, **urls))
    assert ok == of or not all((drivers / f"{name}.so").exists() for name in ("zlib", "sqlite"))


def test_a_daemon_with_keys_serves_the_erlang_client_that_proves_one(
    daemon: Callable[..., RunningDaemon], tmp_path: Path, runtime: Runtime
) -> None:
    files = [tmp_path / f"anna.{byte}.key" for byte in "nk"]
    for file in files:
        file.write_text(file.name[5] * 48 + "\n")
        file.chmod(0o600)
    wanted = {"sum": {"driver": "sum.so"}, "echo": {"driver": "echo.so"}}
    running = daemon(wanted, settings={"auth": "hmac"}, keys={"anna": {"file": files, "commands": {"sum": ["sum"]}}})
    urls = {
        "GENDRIVERD_URL": running.tcp_url,
        "GENDRIVERD_UNIX_URL": running.unix_url,
        "GENDRIVERD_OPEN_URL": daemon(wanted).tcp_url,
    }
    assert passed(runtime.suites("keys_SUITE", cwd=tmp_path, seconds=DEADLINE, **urls)) == (7, 7)


def test_streams_and_notes_come_from_a_real_host(
    daemon: Callable[..., RunningDaemon], drivers: Path, tmp_path: Path, runtime: Runtime
) -> None:
    driver = drivers / "test/streams.so"
    running = daemon(
        {"streams": {"driver": driver, "threads": 8}, "ticks": {"driver": driver, "settings": {"ticks": "1"}}},
        settings={"drain_timeout": "60s"},
    )
    reload = [sys.executable, "-m", "gendriverd", "reload", "streams", "--admin", running.admin]
    urls = {"GENDRIVERD_URL": running.tcp_url, "GENDRIVERD_RELOAD": shlex.join(reload)}
    ok, of = passed(runtime.suites("streams_SUITE", cwd=tmp_path, seconds=DEADLINE, **urls))
    assert ok == of


def test_clients_own_suites_pass_on_the_newest_release(otp28: Runtime, tmp_path: Path) -> None:
    ok, of = passed(otp28.suites(*CLIENTS_OWN, cwd=tmp_path, seconds=DEADLINE))
    assert ok == of


SELF_TEST = """-module(wrong_SUITE).
-compile(export_all).
-compile(nowarn_export_all).
suite() -> [{timetrap, {seconds, 1}}].
all() -> [right, wrong, {group, g}].
groups() -> [{g, [parallel], [hangs, skips, left_behind]}].
init_per_testcase(Case, Config) -> [{this, Case} | Config].
end_per_testcase(left_behind, _) -> error(left);
end_per_testcase(_, _) -> ok.
right(Config) -> right = proplists:get_value(this, Config).
wrong(_) -> spawn_link(fun() -> exit(linked) end), receive never -> ok end.
hangs(_) -> receive never -> ok end.
skips(_) -> {skip, "on purpose"}.
left_behind(_) -> ok.
"""


EUNIT_TEST = """-module(wrong_tests).
-include_lib("eunit/include/eunit.hrl").
right_test() -> ok.
wrong_test() -> ?assertEqual(1, 2).
many_test_() -> [?_assert(true), {"titled", [?_assert(false)]}].
"""


def test_runner_without_common_test_sees_every_failure(otp28: Runtime, tmp_path: Path) -> None:
    for name, text in (("wrong_SUITE", SELF_TEST), ("wrong_tests", EUNIT_TEST)):
        source = tmp_path / f"{name}.erl"
        source.write_text(text, encoding="utf-8")
        compiled(tmp_path, source)
    done = otp28.suites("wrong_SUITE", "wrong_tests", cwd=tmp_path, seconds=60)
    assert done.returncode == 1
    assert "TEST COMPLETE, 3 ok, 5 failed, 1 skipped of 9 test cases, on OTP 28" in done.stdout
    for line in (r"right_test: ok", r"wrong_test: failed", r"many_test_\.\d+: ok", r"many_test_\.titled\.\d+: failed"):
        assert re.search(rf"^wrong_tests\.{line}$", done.stdout, re.MULTILINE)
    for line in ("right: ok", "wrong: failed", "g.hangs: failed", "g.skips: skip", "g.left_behind: failed"):
        assert f"\nwrong_SUITE.{line}\n" in f"\n{done.stdout}"


class Eavesdropper:
    """One connection passed on to `to`, and what the client said on it."""

    def __init__(self, to: tuple[str, int]) -> None:
        self.heard = b""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._to = to
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        client, _ = self._listener.accept()
        with self._listener, client, socket.create_connection(self._to) as service:
            back = threading.Thread(target=self._copy, args=(service, client, False), daemon=True)
            back.start()
            self._copy(client, service, True)
            back.join(DEADLINE)

    def _copy(self, source: socket.socket, target: socket.socket, keep: bool) -> None:
        while data := source.recv(65536):
            if keep:
                self.heard += data
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)

    def join(self) -> bytes:
        self._thread.join(DEADLINE)
        return self.heard


ASK = """
{{ok, Pid}} = gen_driver_tcp:start_link(#{{connect => "tcp://127.0.0.1:{port}", instance => echo}}),
{{ok, an_atom}} = gen_server:call(Pid, {{port, 1, an_atom}}),
ok = gen_driver_tcp:stop(Pid),
io:format("~s ~w", [erlang:system_info(otp_release), term_to_binary(an_atom)]),
halt().
"""


def test_atoms_travel_in_the_form_of_the_release(
    daemon: Callable[..., RunningDaemon], runtime: Runtime, tmp_path: Path
) -> None:
    running = daemon({"echo": {"driver": "echo.so"}})
    host, port = running.tcp_url.removeprefix("tcp://").split(":")
    between = Eavesdropper((host, int(port)))
    done = runtime.run("-eval", ASK.format(port=between.port), cwd=tmp_path, seconds=60)
    assert done.returncode == 0, done.stdout + done.stderr
    release, encoded = done.stdout.split(" ", 1)
    assert runtime.whole or release == "28"
    old, new = b"\x64\x00\x07an_atom", b"\x77\x07an_atom"
    said, other = (old, new) if int(release) < 26 else (new, old)
    assert encoded == "<<" + ",".join(str(byte) for byte in b"\x83" + said) + ">>"
    heard = between.join()
    assert heard.count(said) == 1
    assert other not in heard
