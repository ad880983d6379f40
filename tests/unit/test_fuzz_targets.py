# SPDX-License-Identifier: MIT
"""The fuzzers' targets in Python on their corpora, and on what hypothesis makes up: terms, whole and damaged."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import old_record
import targets
from gendriverd import etf
from gendriverd import recorder as layout
from gendriverd.etf import Atom
from gendriverd.recorder import Recorder, State, Untrusted

FUZZ = Path(__file__).resolve().parent.parent / "fuzz"
CORPUS = FUZZ / "corpus"
TOML_KEYS = st.sampled_from(
    ["daemon", "instances", "keys", "a", "b.c", "driver", "threads", "limits", "frame", "listen", "auth"]
)
TOML_VALUES = st.sampled_from(
    [
        "1",
        "-1",
        "'x'",
        '"64MiB"',
        "true",
        "[1, 2]",
        "['tcp://127.0.0.1:1']",
        "{a = 1}",
        "[\n'y', # ]\n]",
        "'''\nz'''",
        "nan",
        "99999999999999999999",
    ]
)
ATOMS = st.sampled_from(
    [
        *("hello", "proof", "key", "nonce", "ready", "commands", "abi", "atoms", "refuse", "adopted", "refused"),
        *("too_many", "closed", "log", "info", "error", "drained", "pong"),
    ]
).map(Atom)
LEAVES = (
    st.integers(-(1 << 65), 1 << 65)
    | st.binary(max_size=40)
    | ATOMS
    | st.booleans()
    | st.floats(allow_nan=False, allow_infinity=False)
)
TERMS = st.recursive(
    LEAVES,
    lambda t: (
        st.lists(t, max_size=4)
        | st.lists(t, max_size=4).map(tuple)
        | st.dictionaries(ATOMS | st.binary(max_size=3), t, max_size=3)
    ),
    max_leaves=12,
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A term's bytes, of which some are others."""
    data = bytearray(etf.encode(draw(TERMS)))
    for _ in range(draw(st.integers(0, 3))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.integers(0, len(data)))] if draw(st.integers(0, 5)) == 0 else data)


@st.composite
def toml(draw: st.DrawFn) -> bytes:
    lines = []
    for _ in range(draw(st.integers(0, 6))):
        key = draw(TOML_KEYS)
        header = draw(st.sampled_from(["[{}]", "[instances.{}]", "[keys.{}]", "[[{}]]", "[instances.a.{}]"]))
        lines.append(header.format(key) if draw(st.booleans()) else f"{key} = {draw(TOML_VALUES)}")
    return "\n".join(lines).encode()


MADE = {
    **dict.fromkeys(["decode", "quick", "hello", "proof", "message"], damaged()),
    "read_frame": st.builds(lambda step, data: bytes([step, 0, 0, 0]) + data, st.integers(0, 8), st.binary(min_size=9)),
    "recorder": st.binary(max_size=60),
    "config": toml(),
    "places": toml(),
    "key_file": st.integers(0, 1100).flatmap(lambda size: st.just(b"k" * size + b"\n")),
}


def test_each_target_has_a_corpus_and_inputs_of_its_own() -> None:
    assert set(targets.TARGETS) == set(MADE)
    assert set(targets.TARGETS) == {folder.name for folder in CORPUS.iterdir() if not folder.name.startswith("fuzz_")}


@pytest.mark.parametrize("name", targets.TARGETS)
def test_what_a_fuzzer_has_found_before_is_taken(name: str) -> None:
    inputs = sorted((CORPUS / name).iterdir())
    assert inputs
    for each in inputs:
        targets.TARGETS[name](each.read_bytes())


@pytest.mark.parametrize("name", targets.TARGETS)
@given(data=st.data())
def test_bytes_of_others_do_no_harm(name: str, data: st.DataObject) -> None:
    targets.TARGETS[name](data.draw(MADE[name] | st.binary(max_size=200)))


@pytest.mark.parametrize("field", [(1, 4), (9, 33), (10, (1 << 20) + 1)], ids=["kind", "depth", "kept"])
def test_a_word_of_the_dying_thread_beyond_its_bounds_is_not_trusted(field: tuple[int, int]) -> None:
    recorder = Recorder(queue=8, threads=2, connections=4)
    try:
        image = old_record.old_record(recorder)
        words = list(layout._DEATH.unpack_from(image, layout._DEATH_AT))
        words[field[0]] = field[1]
        layout._DEATH.pack_into(image, layout._DEATH_AT, *words)
        old_record.write(recorder, image)
        with pytest.raises(Untrusted):
            recorder.read()
    finally:
        recorder.close()


def test_the_record_that_is_written_over_is_one() -> None:
    recorder = Recorder(queue=8, threads=2, connections=4)
    try:
        old_record.write(recorder, old_record.old_record(recorder))
        record = recorder.read()
    finally:
        recorder.close()
    assert [request.state for request in record.requests] == [State.QUEUED, State.RUNNING, State.DONE]
    assert record.death is not None
    assert record.death.request == record.requests[1]
    assert set(record.connections) == {5, 6}


@pytest.mark.parametrize(("name", "bug"), tomllib.loads((FUZZ / "canary.toml").read_text()).items())
def test_each_planted_bug_has_its_place_in_the_source(name: str, bug: dict[str, str]) -> None:
    assert name in targets.TARGETS or (FUZZ / f"{name}.c").exists()
    assert (FUZZ.parent.parent / "gendriverd" / bug["file"]).read_text().count(bug["old"]) == 1
