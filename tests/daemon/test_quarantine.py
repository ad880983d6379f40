# SPDX-License-Identifier: MIT
"""A request that kills its host again and again is refused, by its bytes; all others are not."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from gendriverd import etf
from gendriverd.client import Failed, connect
from gendriverd.etf import Atom, Term
from running_daemon import RunningDaemon
from test_crash import BLOCK, GOODBYE, SEGV, WAITING, call, failed, heard_to_the_end, welcomed
from test_reload import Reloadable, moved

Daemon = Callable[..., RunningDaemon]
OK = Atom("ok")
PID = 17
RESTART = {"first": 0, "max": 0}


def crash(drivers: Path, **keys: object) -> dict[str, object]:
    return {"driver": str(drivers / "test/crash.so"), "threads": 2, "restart": RESTART, "quarantine": 2, **keys}


def kill(running: RunningDaemon, params: Term, command: int = SEGV) -> None:
    with welcomed(running.tcp_url) as raw:
        raw.sock.sendall(call(1, command, 0, params))
        assert heard_to_the_end(raw) == [failed(1, "crashed"), GOODBYE]


def refused(running: RunningDaemon, params: Term) -> bool:
    """Or else it has killed its host."""
    with welcomed(running.tcp_url) as raw:
        raw.sock.sendall(call(1, SEGV, 0, params))
        answer = raw.receive()
        assert answer in (failed(1, "quarantined"), failed(1, "crashed"))
        if answer == failed(1, "crashed"):
            return False
        raw.sock.sendall(call(1, WAITING, 0, 0))  # the id is free, and all goes on
        assert raw.receive() == (Atom("reply"), 1, OK)
        return True


@pytest.mark.parametrize("params", [b"deadly", b"x" * 500_000, {"a": [1.5, b"b"]}])
def test_after_so_many_deaths_it_is_refused_and_nothing_else(daemon: Daemon, drivers: Path, params: Term) -> None:
    running = daemon({"crash": crash(drivers), "other": crash(drivers)})
    kill(running, params)
    kill(running, params)
    assert refused(running, params)
    assert not refused(running, b"another")
    with welcomed(running.tcp_url, b"other") as raw:
        raw.sock.sendall(call(1, SEGV, 0, params))
        assert heard_to_the_end(raw)[0] == failed(1, "crashed")
    said = running.wait_event("request_quarantined")
    assert (said["instance"], said["command"], said["deaths"]) == ("crash", SEGV, 2)
    assert said["params_sha256"] == sha256(etf.encode(params)[1:]).hexdigest()
    with connect(running.tcp_url, "crash") as client:
        with pytest.raises(Failed) as told:
            client.call("segv", params)
        assert told.value.reason == "quarantined"
        assert client.call("pid", params)[0] == OK  # another command, the same bytes
        client.cast("segv", params)
        assert running.wait_event("cast_quarantined")["command"] == SEGV
        assert client.call("pid")[0] == OK


def test_the_report_says_so(daemon: Daemon, drivers: Path) -> None:
    running = daemon({"crash": crash(drivers)})
    for number, quarantined in ((1, False), (2, True)):
        kill(running, b"deadly")
        written = running.wait_event("report_written", generation=number)
        assert json.loads(Path(written["path"]).read_text())["culprit"]["quarantined"] is quarantined


def test_what_must_not_count_does_not(daemon: Daemon, drivers: Path) -> None:
    running = daemon({"crash": crash(drivers)})
    for _ in range(3):  # without params: it would close the command
        with welcomed(running.tcp_url) as raw:
            raw.sock.sendall(etf.frame((Atom("call"), 1, SEGV)))
            assert heard_to_the_end(raw) == [failed(1, "crashed"), GOODBYE]
    for _ in range(3):  # not alone
        with welcomed(running.tcp_url) as raw:
            raw.sock.sendall(call(1, BLOCK, 0) + call(2, WAITING, 1, 1) + call(3, SEGV, 1, b"x"))
            assert heard_to_the_end(raw)[-1] == GOODBYE
    assert not refused(running, b"x")
    assert not [event for event in running.events if event["event"] == "request_quarantined"]


def test_a_hang_counts_like_a_crash(daemon: Daemon, drivers: Path) -> None:
    running = daemon({"crash": crash(drivers, max_run="50ms", quarantine=1)})
    with connect(running.tcp_url, "crash") as client:
        for reason in ("timeout", "quarantined"):
            with pytest.raises(Failed) as told:
                client.call("hang_quiet", b"long")
            assert told.value.reason == reason


def test_it_ends(daemon: Daemon, drivers: Path) -> None:
    running = daemon({"crash": crash(drivers, quarantine=1, quarantine_time="300ms")})
    kill(running, b"x")
    while refused(running, b"x"):
        pass
    running.wait_event("host_exited", generation=2)


def test_all_hosts_of_the_instance_refuse_it(daemon: Daemon, drivers: Path) -> None:
    running = daemon({"crash": crash(drivers, quarantine=1, processes=2, spares=1)})
    for generation in (1, 2, 3):
        running.wait_event("instance_ready", generation=generation)
    with welcomed(running.tcp_url) as one, welcomed(running.tcp_url) as other:
        one.sock.sendall(call(1, SEGV, 0, b"x"))
        assert heard_to_the_end(one)[0] == failed(1, "crashed")
        running.wait_event("request_quarantined")
        other.sock.sendall(call(1, PID, 0))  # its host has read the message that came before
        assert other.receive() is not None
    running.wait_event("instance_ready", generation=4)
    clients = [welcomed(running.tcp_url) for _ in range(3)]
    for raw in clients:
        raw.sock.sendall(call(1, SEGV, 0, b"x"))
        assert raw.receive() == failed(1, "quarantined")
        raw.sock.close()


def test_a_reload_keeps_it_and_lifts_it_when_told(daemon: Daemon, drivers: Path, tmp_path: Path) -> None:
    service = Reloadable(daemon, tmp_path, {"crash": crash(drivers, quarantine=1)})
    running = service.running
    kill(running, b"x")
    for threads, quarantine, generation in ((3, 1, 3), (2, 0, 4)):
        with connect(running.tcp_url, "crash") as client:
            service.write({"crash": crash(drivers, quarantine=quarantine, threads=threads)})
            service.reload()
            moved(client, generation)
        assert refused(running, b"x") == (quarantine == 1)
