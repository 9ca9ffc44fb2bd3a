from __future__ import annotations

import dataclasses
import json
import os
import resource
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest

from rlmba.data.media import work
from rlmba.data.media.cache import CacheReader, read_cache_info, verify
from rlmba.data.media.content import Recipe
from rlmba.errors import DataError, StorageError, UsageError
from tests.helpers import cache_media
from tests.helpers.prepare_helpers import content, finished, make, script_text
from tests.helpers.small_disk import small_disk


def test_report_and_progress(source, tmp_path):
    steps = []
    report = make(source, tmp_path / "c", progress=lambda done, total: steps.append((done, total)))
    assert (steps[0], steps[-1]) == ((0, 59), (59, 59))
    assert [s[0] for s in steps] == sorted(s[0] for s in steps)
    train, test = report.totals["train"], report.totals["test"]
    assert (train.listed, train.found, train.missing) == (48, 47, 1)
    assert (train.unreadable, train.flagged, train.complete, train.usable) == (1, 1, 46, 47)
    assert (test.listed, test.found, test.missing) == (12, 11, 1)
    assert (test.unreadable, test.complete, test.usable) == (0, 11, 12)
    assert report.by_class["train", "cat"].unreadable == 1
    assert report.by_class["train", "bee"].flagged == 1
    assert report.by_class["test", "ant"].missing == 1
    assert report.notes == ("a note",)
    assert report.place == tmp_path / "c"


def test_shards_do_not_depend_on_workers(source, tmp_path, whole):
    make(source, tmp_path / "c", workers=3)
    assert content(tmp_path / "c") == whole


def test_a_shard_holds_all_classes_and_both_splits(source, tmp_path):
    make(source, tmp_path / "c")
    samples = {s.id: s for s in source.samples}
    classes = splits = 0
    for number in range(8):
        note = json.loads((tmp_path / "c" / "shards" / f"{number:05d}.json").read_text())
        assert 7 <= len(note["samples"]) <= 8
        classes += len({samples[i].label for i in note["samples"]}) == 3
        splits += len({samples[i].test for i in note["samples"]}) == 2
    assert classes >= 6
    assert splits >= 6


def test_running_it_again_does_nothing(source, tmp_path, log):
    first = make(source, tmp_path / "c")
    assert len(log()) == 59
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "c").rglob("*") if p.name != "lock"}
    again = make(source, tmp_path / "c")
    assert len(log()) == 59
    assert {
        p: p.stat().st_mtime_ns for p in (tmp_path / "c").rglob("*") if p.name != "lock"
    } == before
    assert (again.checksum, again.totals) == (first.checksum, first.totals)


def test_decoder_that_crashes_costs_its_samples_and_no_others(source, tmp_path, log):
    out = tmp_path / "c"
    report = make(source, out, workers=2, decode=cache_media.decode_or_die)
    info = read_cache_info(out)
    for sample in ("s007", "s031"):
        assert info.problems[sample] == dict.fromkeys(
            ("text", "image"), "the decoder crashed on it (SIGKILL)"
        )
        assert sample not in info.ids
    assert set(info.problems) == {"s003", "s005", "s007", "s009", "s031"}
    assert report.totals["train"].unreadable == 3
    reader = CacheReader(out)
    for position, sample in enumerate(info.ids.tolist()):
        expected = cache_media.decode(
            next(s for s in source.samples if s.id == sample), cache_media.RECIPE
        )
        for modality, array in reader.read(position).items():
            if array is not None:
                np.testing.assert_array_equal(array, expected[modality].array)
    before = len(log())
    make(source, out, decode=cache_media.decode_or_die)
    assert len(log()) == before


def test_exception_of_the_decoder_is_a_problem_of_the_sample(source, tmp_path):
    make(source, tmp_path / "c", decode=cache_media.decode_or_raise)
    problem = read_cache_info(tmp_path / "c").problems["s007"]
    assert problem == dict.fromkeys(("text", "image"), "ZeroDivisionError: of the codec")


def test_decoder_that_never_works(source, tmp_path, monkeypatch):
    monkeypatch.setattr(work, "_MOST_DEATHS", 4)
    with pytest.raises(UsageError, match=r"4 worker processes in a row died \(exit code 3\)"):
        make(source, tmp_path / "c", decode=cache_media.die_at_once)
    assert finished(tmp_path / "c") == 0


def test_what_no_sample_survives_stops_at_once(source, tmp_path):
    with pytest.raises(UsageError, match="no tokenizer there"):
        make(source, tmp_path / "a", decode=cache_media.decode_without_tokenizer)
    with pytest.raises(DataError, match="correct the decoder"):
        make(source, tmp_path / "b", decode=cache_media.decode_wrong_shape)
    assert [p.name for p in (tmp_path / "b" / "shards").iterdir()] == []
    with pytest.raises(UsageError, match="at least 1, got -1"):
        make(source, tmp_path / "c", workers=-1)


def test_script_without_a_guard(tmp_path, source):
    script = tmp_path / "script.py"
    script.write_text(script_text().replace('__name__ == "__main__"', "True"))
    done = subprocess.run(
        [sys.executable, str(script), str(source.root), str(tmp_path / "c")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert "worker processes cannot start (exit code 1): a script must call this below" in last


@pytest.mark.slow
def test_disk_that_fills_up_keeps_what_is_finished(source, tmp_path):
    """Shards of some 4 MB on a disk of 14: the fourth does not fit."""
    whole = tmp_path / "whole"
    make(source, whole, decode=cache_media.decode_large)
    with small_disk(tmp_path / "disk", 14 << 20) as disk:
        if disk is None:
            pytest.skip("needs the right to mount a file system")
        out = disk / "c"
        with pytest.raises(
            StorageError, match=r"No space left .*free at least 3,\d+,\d+ bytes"
        ) as error:
            make(source, out, decode=cache_media.decode_large)
        done = finished(out)
        assert 2 <= done <= 3
        assert f"{done} of 8 shards are finished and stay" in str(error.value)
        names = sorted(p.name for p in (out / "shards").iterdir())
        assert len(names) == 2 * done
        assert not [n for n in names if n.endswith(".tmp")]
        verify(out)
        # With more space, it goes on.
        shutil.copytree(out, tmp_path / "more")
    make(source, tmp_path / "more", decode=cache_media.decode_large)
    assert content(tmp_path / "more") == content(whole)


def test_file_that_may_not_grow(source, tmp_path):
    """As a quota does it, for those who may not mount: workers inherit the limit."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, old[1]))
    try:
        with pytest.raises(
            StorageError, match=r"0 of 8 shards are finished and stay.*same command"
        ):
            make(source, tmp_path / "c", decode=cache_media.decode_large)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert list((tmp_path / "c" / "shards").iterdir()) == []
    make(source, tmp_path / "c")
    assert verify(tmp_path / "c").usable == 59


def test_too_small_a_disk_is_refused_before_anything_is_decoded(source, tmp_path, log):
    recipe = Recipe(image_side=10_000_000, tokens=6)
    with pytest.raises(
        StorageError, match=r"59 samples need about [\d,]+ bytes, at least 17,700,000,000,001,416"
    ):
        make(source, tmp_path / "c", recipe=recipe)
    assert log() == []
    assert not (tmp_path / "c" / "cache.json").exists()
    make(source, tmp_path / "c")  # and the folder can be used for another recipe


def test_folder_of_something_else(source, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="holds something other than a cache"):
        make(source, tmp_path)
    with pytest.raises(UsageError, match="holds something other than a cache"):
        make(source, tmp_path / "notes.txt")
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_cache_of_something_else(source, tmp_path):
    make(source, tmp_path / "c")
    with pytest.raises(
        DataError, match=r"another --cache.*\nrecipe, tokens: 6 in the cache, 8 requested"
    ):
        make(source, tmp_path / "c", recipe=Recipe(image_side=16, tokens=8))
    other = cache_media.Catalogue(
        "vggsound", source.root, "clips", ("video",), source.classes, [], {}
    )
    with pytest.raises(DataError, match="name: food101 in the cache, vggsound requested"):
        make(other, tmp_path / "c")
    moved = [cache_media.Sample(s.id, s.label, not s.test, s.sources) for s in source.samples]
    changed = cache_media.Catalogue(
        source.name, source.root, source.layout, source.modalities, source.classes, moved, {}
    )
    with pytest.raises(
        DataError, match=r"'s000' is in train, class 'ant' of the cache and in test"
    ):
        make(changed, tmp_path / "c")


def test_grows_with_the_folder_and_reads_what_was_repaired(tmp_path, log):
    root = tmp_path / "media"
    first = cache_media.make_files(root, 50, missing=(3, 30), broken=(5, 6), no_text=(9,))
    out = tmp_path / "c"
    make(first, out)
    old = content(out)
    before = len(log())

    # Three are mended, ten are new; another broken one stays as it was.
    again = cache_media.make_files(tmp_path / "again", 60, missing=(30,))
    for k in (3, 5, 9, *range(50, 60)):
        for file in (tmp_path / "again").rglob(f"s{k:03d}.*"):
            target = root / file.relative_to(tmp_path / "again")
            shutil.copy(file, target)
            os.utime(target, ns=(1, time.time_ns()))
    later = cache_media.catalogue(root, 60)
    assert again.classes == later.classes
    report = make(later, out)
    assert sorted(log()[before:]) == ["s003", "s005", "s009", *(f"s{k:03d}" for k in range(50, 60))]
    assert all(content(out)[name] == data for name, data in old.items() if "shards" in name)
    assert len(list(out.glob("samples-*.json"))) == 1
    info = read_cache_info(out)
    assert set(info.problems) == {"s006", "s030"}
    assert (info.planned, info.waiting, len(info.ids)) == (60, 0, 59)
    assert report.usable == 59
    reader = CacheReader(out)
    for position, sample in enumerate(info.ids.tolist()):
        if sample != "s006":
            expected = cache_media.decode(
                next(s for s in later.samples if s.id == sample), cache_media.RECIPE
            )
            for modality, array in reader.read(position).items():
                np.testing.assert_array_equal(array, expected[modality].array)
    before = len(log())
    make(later, out)
    assert len(log()) == before

    # Files that are gone since then stay in the cache.
    make(cache_media.catalogue(root, 40), out)
    assert len(read_cache_info(out).ids) == 59

    # Until its new shard is there, a repaired sample waits: the old half of it does not count.
    (number,) = (
        p.stem
        for p in (out / "shards").glob("*.json")
        if "s005" in p.read_text() and f"shards/{p.name}" not in old
    )
    (out / "shards" / f"{number}.json").unlink()
    info = read_cache_info(out)
    assert "s005" not in info.ids
    assert info.waiting == 60 - 1 - len(info.ids)
    assert len(CacheReader(out)) == len(info.ids)


def test_samples_that_vanish_before_their_turn_are_missing(source, tmp_path):
    out = tmp_path / "c"
    make(source, out)
    note = json.loads((out / "shards" / "00004.json").read_text())
    (out / "shards" / "00004.json").unlink()
    kept = [s for s in source.samples if s.id != note["samples"][0]]
    report = make(dataclasses.replace(source, samples=kept), out)
    info = read_cache_info(out)
    assert info.problems[note["samples"][0]] == {"text": "no file", "image": "no file"}
    assert (info.planned, info.waiting, report.usable) == (60, 0, 58)
    # Listed again, it is read after all.
    assert make(source, out).usable == 59


def test_sizes_of_shards_follow_the_recipe(source):
    from rlmba.data.media.plan import CachePlan

    file = source.samples[0].sources["image"]

    def largest(n, *modalities):
        many = [cache_media.Sample(f"i{k}", 0, False, {"video": file}) for k in range(n)]
        recipe = Recipe()
        catalogue = cache_media.Catalogue(
            "vggsound", source.root, "clips", modalities, ("a",), many, {}
        )
        plan = CachePlan.empty(catalogue, recipe).extended(many)
        sizes = np.bincount(plan.shard)
        assert sizes.sum() == len(many)
        assert np.ptp(sizes) <= 1
        return sizes.max()

    clip = 10 * 128 * 171 * 3 + 2 * 160_000
    assert largest(80_000, "video", "audio") == (256 << 20) // clip == 274
    assert largest(10_000, "text", "image") == 40
    assert largest(10, "text", "image") == 5
