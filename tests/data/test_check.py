from __future__ import annotations

import csv
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rlmba.data.media.cache import read_cache_info
from rlmba.data.media.catalogue import split_checksum
from rlmba.data.media.check import check, default_index, known_outcomes
from rlmba.data.media.content import Recipe
from rlmba.data.media.prepare import prepare
from rlmba.errors import DataError, StorageError
from tests.helpers import cache_media

SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from tests.helpers import cache_media
from rlmba.data.media.check import check
if __name__ == "__main__":
    root, index = map(Path, sys.argv[1:])
    check(cache_media.catalogue(root), cache_media.RECIPE, workers=2, index=index,
          decode=cache_media.decode_slowly)
"""


@pytest.fixture
def source(tmp_path):
    return cache_media.make_files(
        tmp_path / "media", missing=(3,), broken=(5,), no_text=(9,), gray=(10,)
    )


@pytest.fixture
def log(tmp_path, monkeypatch):
    """Ids in the order in which they were decoded."""
    file = tmp_path / "decoded"
    monkeypatch.setenv(cache_media.LOG, str(file))
    return lambda: file.read_text().split() if file.exists() else []


@pytest.fixture
def index(tmp_path):
    return tmp_path / "index.jsonl"


def look(source, index, *, workers=1, decode=cache_media.decode, **more):
    return check(source, cache_media.RECIPE, workers=workers, decode=decode, index=index, **more)


def test_finds_what_preparing_finds_and_writes_nothing_else(source, index, tmp_path):
    before = {p for p in tmp_path.rglob("*") if p.suffix != ".jsonl"}
    report = look(source, index, workers=2)
    assert set(tmp_path.rglob("*")) - before == {index}
    made = prepare(source, cache_media.RECIPE, tmp_path / "c", workers=1, decode=cache_media.decode)
    assert report.totals == made.totals
    assert report.by_class == made.by_class
    assert report.checksum == made.checksum
    assert list(report.problems()) == list(made.problems())


def test_problems_by_sample_and_as_csv(source, index, tmp_path):
    report = look(source, index)
    report.write_problems(tmp_path / "problems.csv")
    with (tmp_path / "problems.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(r["id"], r["split"], r["class"], r["modality"], r["kind"]) for r in rows] == [
        ("s003", "train", "ant", "text", "missing"),
        ("s003", "train", "ant", "image", "missing"),
        ("s010", "train", "bee", "image", "flagged"),
        ("s005", "train", "cat", "image", "unreadable"),
        ("s009", "test", "ant", "text", "missing"),
    ]
    assert [r["text"] for r in rows[:3]] == ["no file", "no file", "converted"]
    lines = report.tail()
    assert lines[0].startswith("unreadable: train cat s005, image: Pillow: ")
    assert lines[1:4] == [
        "missing: train ant s003, text, image: no file",
        "missing: test ant s009, text: no file",
        "flagged: train bee s010, image: converted",
    ]
    assert lines[4:] == [
        f"split checksum of the 59 samples usable: {report.checksum}",
        f"split checksum of the 57 with all modalities: {report.complete_checksum}",
        str(index),
    ]


def test_checksums_are_of_the_samples_that_can_be_used(source, index):
    def of(without):
        kept = [s for s in source.samples if s.id not in without]
        return split_checksum(
            source.classes, [s.id for s in kept], [s.label for s in kept], [s.test for s in kept]
        )

    report = look(source, index)
    assert report.checksum == of({"s003"})
    assert report.complete_checksum == of({"s003", "s005", "s009"})


def test_quick_only_looks_for_files(source, index, log):
    report = look(source, index, quick=True)
    assert log() == []
    assert not index.exists()
    assert report.totals["train"].missing == report.totals["test"].missing == 1
    assert report.totals["train"].unreadable == 0
    assert report.usable == 59
    kept = [s for s in source.samples if s.id != "s003"]
    assert report.checksum == split_checksum(
        source.classes, [s.id for s in kept], [s.label for s in kept], [s.test for s in kept]
    )


def test_only_changed_files_are_read_again(source, index, log, tmp_path):
    first = look(source, index)
    assert len(log()) == 59
    again = look(source, index)
    assert len(log()) == 59
    assert list(again.problems()) == list(first.problems())
    known = known_outcomes(source, cache_media.RECIPE, index)
    assert len(known) == 60
    assert {i for i, o in known.items() if o.problems} == {"s003", "s005", "s009"}

    cache_media.make_files(tmp_path / "better", 6)
    for name in ("ant/s003.jpg", "ant/s003.txt", "cat/s005.jpg"):  # two files new, one repaired
        data = (tmp_path / "better" / name).read_bytes()
        (source.root / name).write_bytes(data)
    (source.root / "bee" / "s001.txt").write_text("now of five whole words")
    os.utime(source.root / "cat" / "s002.jpg", ns=(1, 2))
    later = cache_media.catalogue(source.root)
    assert set(known_outcomes(source, cache_media.RECIPE, index)) == {
        s.id for s in source.samples
    } - {"s001", "s002", "s005"}
    report = look(later, index)
    assert sorted(log()[59:]) == ["s001", "s002", "s003", "s005"]
    assert {p.id for p in report.problems()} == {"s009", "s010"}


@pytest.mark.slow
def test_killed_in_the_middle_it_goes_on(source, index, log, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(tests=str(Path(__file__).parents[2])))
    process = subprocess.Popen([sys.executable, str(script), str(source.root), str(index)])
    end = time.monotonic() + 60
    while not (index.exists() and index.read_bytes().count(b"\n") > 16):
        assert time.monotonic() < end
        time.sleep(0.01)
    process.kill()
    process.wait()
    known = known_outcomes(source, cache_media.RECIPE, index)
    assert 16 <= len(known) < 60
    time.sleep(0.3)  # for its workers to end
    with index.open("ab") as file:
        file.write(b'{"id":"s0')  # a line that was being written
    before = len(log())
    report = look(source, index)
    assert sorted(log()[before:]) == sorted(
        s.id for s in source.samples if s.id not in known and s.id != "s003"
    )
    assert report.usable == 59
    assert len(known_outcomes(source, cache_media.RECIPE, index)) == 60


def test_sample_that_crashes_the_decoder(source, index, log):
    report = look(source, index, workers=2, decode=cache_media.decode_or_die)
    crashed = [p for p in report.problems() if "crashed" in p.text]
    assert [(p.id, p.modality, p.text) for p in crashed] == [
        (i, m, "the decoder crashed on it (SIGKILL)")
        for i in ("s007", "s031")
        for m in ("text", "image")
    ]
    assert report.usable == 57
    before = len(log())
    assert look(source, index, decode=cache_media.decode_or_die).checksum == report.checksum
    assert len(log()) == before


def test_default_index_lies_in_the_users_cache_folder(source, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    report = look(source, None)
    assert report.place == default_index(source, cache_media.RECIPE)
    assert report.place.parent == tmp_path / "xdg" / "rlmba" / "index"
    assert report.place.read_bytes().count(b"\n") == 61
    other = Recipe(image_side=16, tokens=7)
    assert default_index(source, other) != report.place
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # which the convention says to ignore
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    place = default_index(source, cache_media.RECIPE)
    assert place.parent == tmp_path / "home" / ".cache" / "rlmba" / "index"


def test_index_of_something_else(source, index, tmp_path):
    look(source, index)
    with pytest.raises(DataError, match="or was written with another recipe"):
        check(source, Recipe(), index=index, decode=cache_media.decode)
    index.write_text("id,label\n1,2\n")
    with pytest.raises(DataError, match="is not the index of a check; give another --index"):
        look(source, index)
    assert index.read_text() == "id,label\n1,2\n"
    index.write_text("a note")
    with pytest.raises(DataError, match="is not the index of a check"):
        look(source, index)
    assert index.read_text() == "a note"
    with pytest.raises(DataError, match="found a folder; give another --index"):
        look(source, tmp_path)


def test_index_that_cannot_be_written(source, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"could not write .*another --index"):
        look(source, tmp_path / "file" / "index.jsonl")
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3_000, old[1]))
    try:
        with pytest.raises(StorageError, match=r"its results so far are kept"):
            look(source, tmp_path / "index.jsonl")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    known = known_outcomes(source, cache_media.RECIPE, tmp_path / "index.jsonl")
    assert 10 < len(known) < 60
    assert look(source, tmp_path / "index.jsonl").usable == 59


def test_nothing_to_read(tmp_path, index):
    empty = cache_media.catalogue(tmp_path / "none", 12)
    report = look(empty, index)
    assert report.usable == 0
    assert report.totals["train"].missing == 10
    made = prepare(empty, cache_media.RECIPE, tmp_path / "c", workers=1, decode=cache_media.decode)
    assert made.usable == 0
    assert len(read_cache_info(tmp_path / "c").ids) == 0
    header = json.loads((tmp_path / "c" / "cache.json").read_text())
    assert (header["planned"], header["split_checksum"]) == (
        12,
        split_checksum(
            empty.classes,
            [s.id for s in empty.samples],
            [s.label for s in empty.samples],
            [s.test for s in empty.samples],
        ),
    )
