# SPDX-License-Identifier: MIT
"""The shared vectors: Python's guard and the frames of its client agree with the host's C and with Erlang."""

from __future__ import annotations

from pathlib import Path

import pytest

from gendriverd import erlterm, etf
from gendriverd.client.protocol import ProtocolError, Receiver
from gendriverd.etf import EtfError

VECTORS = Path(__file__).resolve().parent.parent / "vectors"


def vectors(name: str) -> list[list[str]]:
    lines = (VECTORS / name).read_text().splitlines()
    return [line.split("\t") for line in lines if line and not line.startswith("#")]


def verdict(data: bytes) -> str:
    try:
        etf.decode(data)
    except EtfError as exc:
        return "ok" if exc.reason == "not_representable" else exc.reason
    return "ok"


@pytest.mark.parametrize("vector", vectors("terms.txt"), ids=lambda vector: vector[0])
def test_the_guards_verdict_is_the_hosts(vector: list[str]) -> None:
    assert verdict(bytes.fromhex(vector[1])) == vector[2]


NOT_REPRESENTABLE = ("map with odd keys", "map with odd keys (older atoms)")  # lists, and 1 beside 1.0
PRINTED = [v for v in vectors("terms.txt") if len(v) > 3 and v[3] and "#Fun" not in v[3] and "<0." not in v[3]]


@pytest.mark.parametrize(
    "vector", [v for v in PRINTED if "#Ref" not in v[3] and "#Port" not in v[3]], ids=lambda v: v[0]
)
def test_erlangs_own_text_of_a_term_is_read_as_that_term(vector: list[str]) -> None:
    data = bytes.fromhex(vector[1])
    if vector[0] in NOT_REPRESENTABLE:
        with pytest.raises(EtfError):
            etf.decode(data)
    else:
        assert erlterm.parse(vector[3]) == etf.decode(data)


SAID_BY_SERVICE = [v for v in vectors("frames.txt") if v[2] in ("server", "host")]


@pytest.mark.parametrize("vector", SAID_BY_SERVICE, ids=lambda vector: vector[0])
def test_every_frame_of_the_service_is_known_to_the_client(vector: list[str]) -> None:
    receiver = Receiver()
    if vector[2] == "host":  # as after a welcome
        receiver._welcomed = True
    elif vector[0].startswith("welcome"):
        receiver._greeted = True
    try:
        list(receiver.receive(bytes.fromhex(vector[1])))
    except ProtocolError as exc:
        pytest.fail(f"{vector[3]}: {exc}")
    assert not receiver.in_frame
