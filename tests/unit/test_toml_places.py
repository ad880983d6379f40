# SPDX-License-Identifier: MIT
"""Lines of keys, in every way that TOML has of writing them; and quantities as people write them."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gendriverd import quantities
from gendriverd.toml_places import place_of, places

TEXT = (
    '''
# [not.a.table]
a = 1
b = """
[not.a.table]
x = 1
"""
[t]  # ] =
"quoted.key" = 'it''s' # c = 1
'''.replace("it''s", "its")
    + """
d = [
  1, # ]
  "]", [2],
]
e.f = { g = 1 }
"\\u0061\\"b" = 1
[ "u v" . w ]
h = "# [no]"
[[arr]]
i = '''
[no]
'''
"""
)


def test_the_sample_is_toml() -> None:
    tomllib.loads(TEXT)


@pytest.mark.parametrize(
    ("path", "starts"),
    [
        (("a",), "a ="),
        (("b",), "b ="),
        (("t",), "[t]"),
        (("t", "quoted.key"), '"quoted.key"'),
        (("t", "d"), "d ="),
        (("t", "e", "f"), "e.f"),
        (("t", "e"), "e.f"),
        (("t", 'a"b'), '"\\u0061'),
        (("u v", "w"), "[ "),
        (("u v",), "[ "),
        (("u v", "w", "h"), "h ="),
        (("arr", "i"), "i ="),
    ],
)
def test_a_key_stands_where_it_was_written(path: tuple[str, ...], starts: str) -> None:
    line = places(TEXT)[path]
    assert TEXT.splitlines()[line - 1].startswith(starts)


def test_what_only_looks_like_a_key_is_none() -> None:
    found = places(TEXT)
    assert not {("not",), ("not", "a", "table"), ("no",), ("x",), ("c",), ("t", "c")} & set(found)


def test_a_key_inside_an_inline_table_stands_where_its_holder_does() -> None:
    found = places(TEXT)
    assert place_of(found, ("t", "e", "f", "g")) == found["t", "e", "f"]
    assert place_of(found, ("nowhere",)) is None


@given(st.text())
def test_no_text_is_too_strange_to_be_searched(text: str) -> None:
    places(text)


@pytest.mark.parametrize(
    ("text", "value"), [("200ms", 0.2), ("5s", 5), ("2m", 120), ("1.5h", 5400), (3, 3), (0.5, 0.5)]
)
def test_durations(text: object, value: float) -> None:
    assert quantities.seconds(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["5", "5 parsecs", "-1s", "", True, None, -1, float("nan"), float("inf"), "999h", [1]])
def test_no_durations(text: object) -> None:
    with pytest.raises(ValueError, match="must be a duration"):
        quantities.seconds(text)


@pytest.mark.parametrize(
    ("text", "value"), [("64MiB", 1 << 26), ("1kB", 1000), ("10 B", 10), (4096, 4096), ("1.5KiB", 1536)]
)
def test_sizes(text: object, value: int) -> None:
    assert quantities.size(text) == value


@pytest.mark.parametrize("text", ["64", "64XB", "MiB", -1, True, 1.5, "-1MiB", None])
def test_no_sizes(text: object) -> None:
    with pytest.raises(ValueError, match="must be a number of bytes"):
        quantities.size(text)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("tcp://127.0.0.1:9900", "tcp://127.0.0.1:9900"),
        ("tcp://[::1]:1", "tcp://[::1]:1"),
        ("tcp://localhost:0", "tcp://localhost:0"),
        ("unix:/run/x", "unix:/run/x"),
        ("unix:///run/x", "unix:/run/x"),
    ],
)
def test_addresses(url: str, shown: str) -> None:
    assert str(quantities.address(url)) == shown


@pytest.mark.parametrize(
    "url",
    ["", "tcp://", "tcp://x", "tcp://:1", "tcp://h:99999", "tcp://h:1/p", "unix:", "unix:x", "unix:/" + "x" * 108, 1],
)
def test_no_addresses(url: object) -> None:
    with pytest.raises(ValueError, match="must be an address"):
        quantities.address(url)


def test_permissions_are_octal_and_a_decimal_number_is_a_mistake() -> None:
    assert quantities.mode("0660") == quantities.mode("660") == quantities.mode(0o660) == 0o660
    for wrong in (660, "rw", "0888", 0o1777, True, "06600"):
        with pytest.raises(ValueError, match="must be permissions"):
            quantities.mode(wrong)


def test_settings_are_flattened_to_text() -> None:
    settings = {"a": 1, "b": [True, "x", {"c": 1.5}], "t": {"u": {"v": "w"}}}
    assert quantities.flatten(settings) == {"a": "1", "b.0": "true", "b.1": "x", "b.2.c": "1.5", "t.u.v": "w"}


@pytest.mark.parametrize(
    ("settings", "why"), [({"a.b": 1, "a": {"b": 2}}, "twice"), ({"a": "x\0y"}, "NUL"), (3, "must be a table")]
)
def test_settings_that_c_could_not_tell_apart_are_refused(settings: object, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        quantities.flatten(settings)
