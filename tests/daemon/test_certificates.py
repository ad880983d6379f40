# SPDX-License-Identifier: MIT
"""A client's certificate in place of a key's proof: what it opens, and who has one that opens nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gendriverd.client import AuthFailed, Failed, Refused, connect
from gendriverd.etf import Atom
from running_daemon import RunningDaemon
from tls_peer import House

Start = Callable[..., RunningDaemon]
OK = Atom("ok")
INSTANCES = {"echo": {"driver": "echo.so"}, "sum": {"driver": "sum.so"}}


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path / "certificates")


@pytest.fixture
def running(daemon: Start, house: House, tmp_path: Path) -> RunningDaemon:
    secret = tmp_path / "otto.key"
    secret.write_text("o" * 32)
    secret.chmod(0o600)
    keys = {
        "anna": {
            "certificates": ["URI:spiffe://example/anna", "DNS:anna.example"],
            "instances": ["echo"],
            "commands": ["echo"],
        },
        "otto": {"file": str(secret)},
    }
    return daemon(INSTANCES, settings={"auth": "hmac"}, keys=keys, tls=house.asking("optional"))


def test_a_certificate_opens_what_its_key_opens_and_nothing_else(running: RunningDaemon, house: House) -> None:
    anna = house.trust(house.authority.issue("somebody", uris=["spiffe://example/anna"]))
    with connect(running.tls_url, "echo", tls=anna) as client:
        assert client.call("echo", 1) == (OK, 1)
        with pytest.raises(Failed, match="forbidden"):
            client.call("size", b"123")
    assert running.wait_event("client_authenticated")["key"] == "anna"
    with pytest.raises(Refused, match="auth"):
        connect(running.tls_url, "sum", tls=anna)


def test_a_certificate_of_no_key_opens_nothing(running: RunningDaemon, house: House) -> None:
    # Its names are typed: who may choose a common name is not whoever has that address.
    for other in (
        house.authority.issue("anna.example"),
        house.authority.issue("anna", uris=["spiffe://example/annabel"]),
    ):
        with pytest.raises(Refused, match="auth"):
            connect(running.tls_url, "echo", tls=house.trust(other))
    assert running.wait_event("client_refused")["why"] == "a certificate of no key"


@pytest.mark.parametrize(
    "uri", ["spiffe://example/anna\0.evil", "spiffe://example/anna\n", "spiffe://example/anna" + "x" * 60_000]
)
def test_a_name_that_only_looks_like_a_keys_opens_nothing(running: RunningDaemon, house: House, uri: str) -> None:
    """An authority signs what it is asked to: what cannot be printed, or is too long, is no name."""
    odd = house.authority.issue("odd", uris=[uri])
    with pytest.raises(Refused, match="auth"):
        connect(running.tls_url, "echo", tls=house.trust(odd))
    assert running.wait_event("tls_client")["certificate"] == ["CN=odd"]
    assert len([event for event in running.events if event["event"] == "tls_front_started"]) == 1


def test_who_shows_none_proves_a_key(running: RunningDaemon, house: House) -> None:
    with connect(running.tls_url, "sum", tls=house.trust(), key=("otto", b"o" * 32)) as client:
        assert client.call("sum", [1, 2]) == (OK, 3.0)
    with pytest.raises(AuthFailed):
        connect(running.tls_url, "sum", tls=house.trust())
    with pytest.raises(Refused, match="auth"):
        connect(running.tls_url, "sum", tls=house.trust(), key=("anna", b"o" * 32))
