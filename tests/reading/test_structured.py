from __future__ import annotations

import json
import os
import socket
from dataclasses import dataclass
from typing import Any

import pytest

from rlmba.errors import AnnotatorError, DataError, RunFolderError
from rlmba.reading.files import find_bytes, read_text
from rlmba.reading.structured import parse_json, read_json

ADVICE = "restore it"


@dataclass(frozen=True)
class Kept:
    name: str
    sizes: tuple[int, ...]
    share: float = 0.5


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", r"f\.json is damaged \(Expecting value: line 1"),
        ('{"name": "a", "sizes": [1, "2"]}', r"\(sizes\.1: expected a valid integer, found '2'"),
        ('{"name": 7, "sizes": []}', r"\(name: expected a valid string, found 7"),
        ('{"sizes": []}', r"\(name: expected a value, found none"),
        (
            '{"name": "a", "sizes": [true], "share": "1"}',
            r"valid integer, found True \(and 1 more\)",
        ),
        ('{"name": "a", "name": "b", "sizes": []}', "the name 'name' occurs twice"),
        ('{"name": "a", "sizes": [], "share": NaN}', "expected a finite number, found NaN"),
        ('{"name": "a", "sizes": [], "share": 1e999}', "expected a finite number, found 1e999"),
        ('{"name": "a", "sizes": [18446744073709551616]}', "expected an integer of 64 bits"),
        ('{"name": "a", "sizes": [' + "9" * 5000 + "]}", "expected an integer of 64 bits"),
        ("[" * 200_000, "nested too deeply"),
        ("[]", "expected an object, found"),
    ],
)
def test_the_file_and_the_place_are_named(tmp_path, text, said):
    path = tmp_path / "f.json"
    path.write_text(text)
    with pytest.raises(RunFolderError, match=said) as caught:
        read_json(path, Kept, advice=ADVICE, error=RunFolderError)
    assert str(caught.value).startswith(str(path))
    assert str(caught.value).endswith(f"; {ADVICE}")


def test_what_is_right_is_read():
    text = json.dumps({"name": "a", "sizes": [1, 2], "share": 1, "later": None})
    assert parse_json(text, Kept, "here", advice=ADVICE) == Kept("a", (1, 2), 1.0)
    emoji = json.dumps({"name": "\U0001f600", "sizes": [3]})
    assert parse_json(emoji, Kept, "here", advice=ADVICE) == Kept("\U0001f600", (3,))


@pytest.mark.parametrize("place", ["value", "name", "list"])
def test_lone_surrogates_are_refused_unless_a_path_may_have_them(place):
    half = "half \ud800"
    value = {"value": {"a": half}, "name": {half: "a"}, "list": {"a": ["b", {"c": half}]}}[place]
    text = json.dumps(value)
    with pytest.raises(
        DataError, match=r"here is damaged \(.*a lone surrogate .*half.*; restore it"
    ):
        parse_json(text, dict[str, Any], "here", advice=ADVICE)
    assert parse_json(text, dict[str, Any], "here", advice=ADVICE, surrogates=True) == value


def test_what_is_no_file(tmp_path):
    path = tmp_path / "f.json"
    assert find_bytes(path, advice=ADVICE) is None
    assert find_bytes(tmp_path / "no" / "f.json", advice=ADVICE) is None
    with pytest.raises(AnnotatorError, match=r"f\.json: no such file; restore it"):
        read_json(path, Any, advice=ADVICE, error=AnnotatorError)
    path.mkdir()
    with pytest.raises(DataError, match="expected a file, found a folder"):
        find_bytes(path, advice=ADVICE)
    path.rmdir()
    os.mkfifo(path)
    with pytest.raises(DataError, match="expected a file, found a pipe"):
        find_bytes(path, advice=ADVICE)
    path.unlink()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        with pytest.raises(DataError, match=r"f\.json could not be read"):
            find_bytes(path, advice=ADVICE)
    with pytest.raises(DataError, match="could not be read"):
        find_bytes(tmp_path / "a\0b", advice=ADVICE)


def test_no_permission(tmp_path, monkeypatch):
    def refuse(path, flags):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("rlmba.reading.files._open", refuse)
    with pytest.raises(DataError, match=r"could not be read \(Permission denied\); restore it"):
        find_bytes(tmp_path / "f", advice=ADVICE)


def test_a_file_of_any_size_is_not_read_into_memory(tmp_path):
    path = tmp_path / "f.json"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(
        DataError, match="expected at most 1,073,741,824 bytes, found 1,099,511,627,776"
    ):
        read_json(path, Any, advice=ADVICE)


def test_text_of_another_encoding_is_named_with_its_line(tmp_path):
    path = tmp_path / "f.txt"
    path.write_bytes("\ufeffone\r\ntwo é\n".encode())
    assert read_text(path, advice=ADVICE) == "one\r\ntwo é\n"
    path.write_bytes("one\ntwo é\n".encode("latin-1"))
    with pytest.raises(
        DataError, match=r"f\.txt, line 2: expected text in UTF-8, found the byte 0xe9"
    ):
        read_text(path, advice=ADVICE)
