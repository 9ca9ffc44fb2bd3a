from __future__ import annotations

import json
import os
import resource
import subprocess
import sys

import pytest

from rlmba.errors import AnnotatorError, RunFolderError, StorageError
from rlmba.runfolder.jsonlines import JsonLog


def log_of(path):
    return JsonLog(path, repair="repair the line", retry="free some space")


@pytest.fixture
def log(tmp_path):
    made = log_of(tmp_path / "log.jsonl")
    made.append(['{"a": 1}', '{"a": 2}'])
    return made


def numbers(log):
    return [value["a"] for value in log.read(dict[str, int])]


def test_without_a_file_there_are_no_lines(tmp_path):
    log = log_of(tmp_path / "log.jsonl")
    assert (log.lines(), log.revision()) == ([], "")
    log.remove_torn_line()
    assert list(tmp_path.iterdir()) == []


def test_the_lines_are_the_file(log):
    assert log.path.read_bytes() == b'{"a": 1}\n{"a": 2}\n'
    before = log.revision()
    log.append(['{"a": 3}'])
    assert numbers(log) == [1, 2, 3]
    assert log.revision() != before


@pytest.mark.parametrize("torn", [b'{"a"', b"\0\0\0", b"3", b'{"a": 3', b"[" * 100_000, b"\xff"])
@pytest.mark.parametrize("how", ["append", "remove"])
def test_a_torn_last_line_does_not_count_and_is_removed(log, torn, how):
    whole = log.path.read_bytes()
    log.path.write_bytes(whole + torn)
    assert numbers(log) == [1, 2]
    if how == "append":
        log.append(['{"a": 3}'])
        assert log.path.read_bytes() == whole + b'{"a": 3}\n'
    else:
        log.remove_torn_line()
        assert log.path.read_bytes() == whole


def test_a_complete_last_line_without_its_end_counts_and_stays(log):
    log.path.write_bytes(log.path.read_bytes()[:-1])
    log.remove_torn_line()
    assert numbers(log) == [1, 2]
    log.append(['{"a": 3}'])
    assert log.path.read_bytes() == b'{"a": 1}\n{"a": 2}\n{"a": 3}\n'


def test_a_damaged_line_is_named(log):
    log.path.write_text('{"a": 1}\n{"a": "x"}\n{"a": 3}\n')
    with pytest.raises(RunFolderError, match=r"log\.jsonl, line 2 is damaged.*repair the line"):
        log.read(dict[str, int])


def test_what_is_not_wanted_is_not_written(log):
    before = log.path.read_bytes()
    log.append(['{"a": 3}'], lambda: len(log.lines()) < 2)
    assert log.path.read_bytes() == before

    def refuse():
        raise AnnotatorError("no")

    with pytest.raises(AnnotatorError, match="no"):
        log.append(['{"a": 3}'], refuse)
    assert log.path.read_bytes() == before


@pytest.mark.parametrize("end", [b"", b'{"a": 3}', b'{"a"'])
def test_all_lines_are_written_or_none(log, end):
    log.path.write_bytes(log.path.read_bytes() + end)
    before = log.lines()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (log.path.stat().st_size + 12, limits[1]))
    try:
        with pytest.raises(StorageError, match=r"could not append.*unchanged: free some space"):
            log.append(['{"a": 4}', '{"a": 5}'])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert log.lines() == before
    log.append(['{"a": 4}'])
    assert numbers(log) == [json.loads(line)["a"] for line in before] + [4]


def test_an_append_that_is_interrupted_leaves_nothing(log, monkeypatch):
    before = log.path.read_bytes()

    def interrupted(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        log.append(['{"a": 3}'])
    assert log.path.read_bytes() == before


def test_processes_take_turns(tmp_path):
    """Each line is wanted only while there are fewer than 40: together they append no more."""
    code = (
        "import sys; from pathlib import Path; from rlmba.runfolder.jsonlines import JsonLog\n"
        "log = JsonLog(Path(sys.argv[1]), repair='', retry='')\n"
        "for _ in range(40):\n"
        "    log.append(['{\"a\": 0}'], lambda: len(log.lines()) < 40)\n"
    )
    path = tmp_path / "log.jsonl"
    processes = [subprocess.Popen([sys.executable, "-c", code, str(path)]) for _ in range(2)]
    assert [process.wait(60) for process in processes] == [0, 0]
    assert numbers(log_of(path)) == [0] * 40
