"""YAML from other people: read within limits, or refused with an error that names the place."""

from __future__ import annotations

import pytest

from rlmba.config import load_config, yaml12
from rlmba.errors import UsageError

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 10)
)
LONG = "word: &w " + "x" * 10_000 + "\n" + "all: [" + "*w, " * 1_000 + "*w]\n"
CHAIN = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 20_000))


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "line 6, column .*aliases expand to more than 1,000,000"),
        (LONG, "line 2, .*aliases expand to more than"),
        (CHAIN, "aliases expand to more than"),
        ("[" * 100_000, "line 1, column 101: .*at most 100 levels of nesting"),
        ("{a: " * 100_000, "at most 100 levels"),
        ("- " * 100_000 + "x", "at most 100 levels"),
        ("a: &x {b: [*x]}", "line 1, column 12: .*refers to itself"),
        ("a: *nobody", "undefined alias 'nobody'"),
        ("seed: " + "9" * 5_000, "line 1, column 7: .*at most 1,000 digits, got 5,000"),
        ("seed: 0x" + "f" * 5_000, "at most 1,000 digits"),
        ("seed: 1." + "0" * 5_000, "at most 1,000 digits"),
        ("seed: 1\0", "special characters are not allowed"),
        ("seed: \ud800", "special characters are not allowed"),
        ('data: "\\ud800x"', "line 1, column 7: .*half of a surrogate pair"),
        ('"\\udc80": 1', "half of a surrogate pair"),
        ("a: 1\n--- \nb: 2", "another document"),
        ("x" * (yaml12.MAX_BYTES + 1), "at most 16,777,216 bytes"),
    ],
)
def test_what_would_never_end_or_mean_nothing_is_refused_at_once(text, message):
    with pytest.raises(UsageError, match=f"^from afar.*{message}"):
        yaml12.parse(text, "from afar")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: &x [1, {b: 2}]\nc: [*x, *x]", {"a": [1, {"b": 2}], "c": [[1, {"b": 2}]] * 2}),
        ("[" * 100 + "]" * 100, None),
        ('"\\ud83d\\ude00"', "\U0001f600"),
        ("\ufeffa: 1", {"a": 1}),
        ("9" * 100, int("9" * 100)),
    ],
)
def test_what_is_within_the_bounds_is_read(text, value):
    found = yaml12.parse(text, "text")
    assert value is None or found == value


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"rounds: 3 # \xe9t\xe9\n", "UTF-8, got another encoding at byte 12"),
        ("rounds: 3".encode("utf-16"), "UTF-8"),
        (b"#" * (yaml12.MAX_BYTES + 1), "at most 16,777,216 bytes, got more"),
        (BOMB.encode(), "aliases expand"),
    ],
)
def test_files_are_read_within_the_same_bounds(tmp_path, raw, message):
    file = tmp_path / "config.yaml"
    file.write_bytes(raw)
    with pytest.raises(UsageError, match=message) as caught:
        load_config(file=file)
    assert str(file) in str(caught.value)
