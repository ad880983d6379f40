# SPDX-License-Identifier: MIT
"""The benchmarks keep their word: nothing that answers wrong is timed, and what is counted is what happened."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from gendriverd.etf import Atom
from results import Results, append
from rounds import Plan, Run
from services import Service
from systems import SYSTEMS, System
from tests.system.conftest import ROOT, Runtime
from vm import SystemTrouble, Vm, running_vm

pytestmark = pytest.mark.timeout(120)
HERE = Path(__file__).resolve().parent
WINDOW = 20  # ms
CALLERS = 4


@pytest.fixture(scope="module")
def ebin(applications: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The load generator, compiled."""
    out = tmp_path_factory.mktemp("bench")
    for sources in (
        [ROOT / "bench/erlang/bench_client.erl"],
        [*(ROOT / "bench/erlang").glob("*.erl"), HERE / "bench_liar.erl"],
    ):
        subprocess.run(["erlc", "-pa", out, "-o", out, *sources], check=True)
    return out


@pytest.fixture
def vm(ebin: Path) -> Iterator[Vm]:
    with running_vm(ebin, {}) as running:
        yield running


def liar(vm: Vm, after: int, how: str) -> None:
    vm.ask((Atom("open"), b"liar", Atom("bench_liar"), {Atom("lies"): (after, Atom(how))}))


def run(vm: Vm, workload: str) -> dict[str, float]:
    return vm.ask((Atom("run"), Atom(workload), [b"liar"], CALLERS, 5, WINDOW, (vm.about["pid"],)))


def test_a_system_that_answers_wrong_does_not_pass_the_check(vm: Vm) -> None:
    liar(vm, 0, "wrong")
    with pytest.raises(SystemTrouble, match="wrong_answer"):
        vm.ask((Atom("check"), b"liar", [Atom("sum")]))


def test_a_system_that_passes_the_check_is_measured(vm: Vm) -> None:
    liar(vm, 0, "honest")
    vm.ask((Atom("check"), b"liar", [Atom("sum")]))
    assert run(vm, "calls")["rate"] > 0
    latency = run(vm, "latency")
    assert 0 < latency["p50"] <= latency["p99"] <= latency["p999"]
    assert run(vm, "casts")["rate"] > 0


@pytest.mark.parametrize("workload", ["calls", "latency"])
@pytest.mark.parametrize(("how", "reason"), [("wrong", "wrong_answer"), ("crash", "broken")])
def test_a_wrong_answer_or_a_dead_caller_ends_a_run_that_has_begun(
    vm: Vm, workload: str, how: str, reason: str
) -> None:
    liar(vm, 100, how)
    with pytest.raises(SystemTrouble, match=reason):
        run(vm, workload)


def test_a_cast_that_ran_twice_is_no_rate(vm: Vm) -> None:
    liar(vm, 0, "twice")
    with pytest.raises(SystemTrouble, match="casts_lost"):
        run(vm, "casts")


def test_percentiles_are_those_of_what_was_written_down(ebin: Path, otp25: Runtime, tmp_path: Path) -> None:
    script = (
        "H = bench_hist:new(), [bench_hist:add(H, N * 1000) || N <- lists:seq(1, 1000)],"
        "[bench_hist:add(H, 3000000000) || _ <- lists:seq(1, 5)],"
        'io:format("~w ~w", [bench_hist:quantiles(H, [0.5, 0.9]), bench_hist:max(H)]), halt().'
    )
    done = otp25.run("-pa", str(ebin), "-eval", script, cwd=tmp_path, seconds=60)
    half, most, longest = map(float, re.findall(r"[\d.]+(?:e\d+)?", done.stdout))
    assert half == pytest.approx(502.5, rel=0.01)
    assert most == pytest.approx(904.5, rel=0.01)
    assert longest == pytest.approx(3_000_000, rel=0.01)


def test_cpu_time_is_what_proc_says(ebin: Path, otp25: Runtime, tmp_path: Path) -> None:
    script = f'io:format("~b", [bench_cpu:micros({os.getpid()})]), halt().'
    before = os.times()
    done = otp25.run("-pa", str(ebin), "-eval", script, cwd=tmp_path, seconds=60)
    after = os.times()
    tick = 0.02
    assert before.user + before.system - tick <= int(done.stdout) / 1e6 <= after.user + after.system + tick


def test_a_cell_that_breaks_leaves_no_half_of_its_rounds(tmp_path: Path) -> None:
    results = Results({}, short=True)
    results.add("free", "one", "calls", 16, {"rate": 5.0, "cpu": 2.0, "unknown": 1.0})
    results.add("free", "one", "calls", 128, {"rate": 7.0})
    results.add("free", "one", "calls", 128, {"rate": 8.0})
    results.drop("free", "one", "calls", 16)
    results.leave_out("free", "one", "calls 16", "broken")
    results.write(tmp_path / "results.json")
    whole = json.loads((tmp_path / "results.json").read_text())
    cell = {"placement": "free", "system": "one", "workload": "calls", "x": 128, "metric": "rate", "unit": "1/s"}
    assert whole["rows"] == [{**cell, "rounds": [7.0, 8.0]}]
    assert whole["left_out"][0]["reason"] == "broken"
    append(tmp_path / "results.json", [{"system": "two"}])
    assert json.loads((tmp_path / "results.json").read_text())["rows"][1] == {"system": "two"}


def test_the_two_sides_of_a_run_become_rows_of_their_own() -> None:
    results = Results({}, short=True)
    results.add("free", "one", "mixed times", 90, {"same": 3.0, "other": 4.0, "threads": 6.0})
    assert {(key[3], key[4]): row["rounds"] for key, row in results.rows.items()} == {
        ("same", "delay"): [3.0],
        ("other", "delay"): [4.0],
        (None, "threads"): [6.0],
    }
    results.drop("free", "one", "mixed times", 90)
    assert not results.rows


class Told:
    """A system that writes down when it is run, and breaks when it is told to."""

    pids: tuple[int, ...] = ()
    service = Service()

    def __init__(self, name: str, log: list[tuple[str, int]], breaks_at: int = 0) -> None:
        self.name, self.log, self.breaks_at = name, log, breaks_at

    def check(self) -> None: ...

    def close(self) -> None: ...

    def run(self, workload: str, x: int, warm: int, window: int) -> dict[str, float]:
        self.log.append((self.name, x))
        if len(self.log) == self.breaks_at:
            raise SystemTrouble("broken")
        return {"rate": 1.0}


def rounds(tmp_path: Path, breaks_at: int) -> tuple[list[tuple[str, int]], Results]:
    log: list[tuple[str, int]] = []
    plan = Plan(2, 1, ("a", "b"), ("calls",), ("free",), tmp_path, short=False)
    run = Run(plan, Results({}, short=False), "free")
    for name, xs in (("a", (1, 16)), ("b", (1,))):
        run.there[name] = (System(name, {"calls": xs}), Told(name, log, breaks_at if name == "a" else 0))
    run.workload("calls")
    return log, run.results


def test_a_round_goes_through_all_systems_before_the_next(tmp_path: Path) -> None:
    log, results = rounds(tmp_path, 0)
    assert log == [("a", 1), ("b", 1), ("a", 1), ("b", 1), ("a", 16), ("a", 16)]
    assert results.rows["free", "b", "calls", 1, "rate"]["rounds"] == [1.0, 1.0]


def test_a_system_that_breaks_is_left_out_of_that_cell_and_of_no_other(tmp_path: Path) -> None:
    log, results = rounds(tmp_path, 3)
    assert log == [("a", 1), ("b", 1), ("a", 1), ("b", 1), ("a", 16), ("a", 16)]
    assert {key[1:4] for key in results.rows} == {("b", "calls", 1), ("a", "calls", 16)}
    assert [about["reason"] for about in results.left_out] == ["broken"]


def test_no_two_systems_have_one_name() -> None:
    assert len({system.name for system in SYSTEMS}) == len(SYSTEMS)
