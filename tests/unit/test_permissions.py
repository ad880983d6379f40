# SPDX-License-Identifier: MIT
"""What the configuration says of commands, and what a host is told: no name is lost silently, none opens more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gendriverd.auth import Commands, Grant
from gendriverd.config import load
from gendriverd.keys import grant_of
from gendriverd.permissions import Numbers, Permissions, complaint, numbers

KNOWN = {"sum": 1, "mean": 2, "state": 3}


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        (None, None),
        (frozenset(), []),
        (frozenset({"sum", "state"}), [1, 3]),
        (frozenset({7, "sum", 1}), [1, 7]),
        (frozenset({"smu"}), []),
    ],
)
def test_names_become_the_drivers_numbers(wanted: Commands, told: Numbers) -> None:
    assert numbers(wanted, KNOWN) == told


def test_a_name_that_the_driver_does_not_have_is_told_with_what_was_meant() -> None:
    grant = Grant("anna", commands=frozenset({"smu", "sum"}))
    assert complaint(grant, "sum", KNOWN) == (
        "[keys.anna] commands names 'smu', which the driver of 'sum' does not have; did you mean 'sum'?"
    )
    assert complaint(Grant("anna", commands=frozenset({"xyz"})), "sum", KNOWN) == (
        "[keys.anna] commands names 'xyz', which the driver of 'sum' does not have; its commands are mean, state, sum"
    )
    assert str(complaint(grant, "old", {})).endswith("its commands are without names")
    assert complaint(Grant("anna", commands=frozenset({"sum", 99})), "sum", KNOWN) is None
    assert complaint(Grant("anna"), "sum", KNOWN) is None


class Lines:
    def __init__(self) -> None:
        self.said: list[dict[str, object]] = []

    def error(self, event: str, **about: object) -> None:
        self.said.append({"event": event, **about})


def test_the_log_is_told_once_a_host() -> None:
    log: Any = Lines()
    permissions = Permissions(KNOWN, log)
    anna, bert = (Grant(name, commands=frozenset({"smu", "sum"})) for name in ("anna", "bert"))
    for _ in range(3):
        assert permissions.of(anna, "sum") == permissions.of(bert, "sum") == [1]
        assert permissions.of(Grant("carl"), "sum") is None
    assert [(line["event"], line["key"]) for line in log.said] == [
        ("key_command_unknown", "anna"),
        ("key_command_unknown", "bert"),
    ]


@pytest.mark.parametrize(
    ("settings", "on_sum", "on_echo"),
    [
        ("", None, None),
        ("commands = ['sum', 3]", {"sum", 3}, {"sum", 3}),
        ("commands = []", set(), set()),
        ("instances = ['sum']", None, "closed"),
        ("instances = ['sum']\ncommands = [3]", {3}, "closed"),
        ("commands = {sum = ['sum']}", {"sum"}, "closed"),
        ("commands = {sum = [], echo = 'all'}", set(), None),
        ("instances = ['echo', 'sum']\n[keys.a.commands]\nsum = [1]\necho = 'all'", {1}, None),
    ],
)
def test_what_a_table_of_keys_means(tmp_path: Path, settings: str, on_sum: object, on_echo: object) -> None:
    path = tmp_path / "c.toml"
    drivers = "".join(f"[instances.{name}]\ndriver = '{name}.so'\n" for name in ("sum", "echo"))
    path.write_text(f"[daemon]\nauth = 'hmac'\n{drivers}[keys.a]\nfile = 'a.key'\n{settings}\n")
    grant = grant_of("a", load(path).keys["a"], ())
    for instance, said in (("sum", on_sum), ("echo", on_echo)):
        assert grant.opens(instance) == (said != "closed")
        assert grant.allowed(instance) == (frozenset() if said == "closed" else said)
