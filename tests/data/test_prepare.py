from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from rlmba.data.media import plan, work
from rlmba.data.media.cache import CacheReader, is_cache, read_cache_info, verify
from rlmba.data.media.content import Recipe
from rlmba.data.media.prepare import prepare
from rlmba.errors import DataError, StorageError, UsageError
from rlmba.reading.structured import read_versioned
from tests.helpers import cache_media

SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from tests.helpers import cache_media
from rlmba.data.media.prepare import prepare
if __name__ == "__main__":
    root, out = map(Path, sys.argv[1:])
    prepare(cache_media.catalogue(root), cache_media.RECIPE, out, workers=2,
            decode=cache_media.{decode})
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    root = tmp_path_factory.mktemp("media")
    return cache_media.make_files(root, missing=(3,), broken=(5,), no_text=(9,), gray=(10,))


@pytest.fixture(scope="module")
def whole(source, tmp_path_factory):
    """What a cache of them holds that was made in one go."""
    out = tmp_path_factory.mktemp("whole") / "c"
    make(source, out)
    return content(out)


@pytest.fixture
def log(tmp_path, monkeypatch):
    """Ids in the order they were decoded."""
    file = tmp_path / "decoded"
    monkeypatch.setenv(cache_media.LOG, str(file))
    return lambda: file.read_text().split() if file.exists() else []


def make(source, out, *, workers=1, decode=cache_media.decode, recipe=cache_media.RECIPE, **more):
    return prepare(source, recipe, out, workers=workers, decode=decode, **more)


def content(out):
    """Bytes of all that makes up a cache."""
    return {
        str(p.relative_to(out)): p.read_bytes()
        for p in sorted(out.rglob("*"))
        if p.is_file() and p.name != "lock"
    }


def script_text(decode="decode_slowly"):
    return SCRIPT.format(tests=str(Path(__file__).parents[2]), decode=decode)


def start(tmp_path, source, out, decode="decode_slowly"):
    script = tmp_path / "script.py"
    script.write_text(script_text(decode))
    return subprocess.Popen(
        [sys.executable, str(script), str(source.root), str(out)], stderr=subprocess.PIPE, text=True
    )


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def finished(out):
    return len(list((out / "shards").glob("*.json")))


def children(process):
    return Path(f"/proc/{process}/task/{process}/children").read_text().split()


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


def test_killed_in_the_middle_it_goes_on_to_the_same_bytes(source, tmp_path, log, whole):
    out = tmp_path / "c"
    process = start(tmp_path, source, out)
    wait_for(lambda: finished(out) >= 3)
    workers = children(process.pid)
    assert len(workers) >= 2
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stderr.close()
    # Workers end with their parent, whatever they were doing.
    wait_for(lambda: not any(Path(f"/proc/{w}/cmdline").exists() for w in workers), 20)
    done = finished(out)
    assert 3 <= done < 8
    kept = {p.name: p.stat().st_ino for p in (out / "shards").iterdir() if p.suffix == ".json"}
    info = read_cache_info(out)
    assert (info.waiting > 0, len(info.ids) > 0) == (True, True)
    reader = CacheReader(out)
    for position in range(len(reader)):
        reader.read(position)
    # What a kill at another moment may leave.
    for name in (".00007.safetensors.0123abcd.tmp", "00099.safetensors.tmp"):
        (out / "shards" / name).write_bytes(b"half")
    (out / "shards" / "00099.safetensors.tmp").unlink()
    (out / ".cache.json.0123abcd.tmp").write_text("half")

    before = len(log())
    make(source, out, workers=2)
    assert len(log()) - before == info.waiting
    assert content(out) == whole
    assert {n: (out / "shards" / n).stat().st_ino for n in kept} == kept


def test_workers_do_not_outlive_their_parent(source, tmp_path, log):
    """Not even those whose decoder never comes back."""
    process = start(tmp_path, source, tmp_path / "c", "decode_forever")
    wait_for(lambda: len(log()) == 2)
    workers = children(process.pid)
    process.kill()
    process.wait()
    process.stderr.close()
    wait_for(lambda: not any(Path(f"/proc/{w}/cmdline").exists() for w in workers), 20)


def test_stopped_by_an_error_it_leaves_no_half_file(source, tmp_path, log):
    with pytest.raises(UsageError, match="stop"):
        make(source, tmp_path / "c", decode=cache_media.leave_half_a_file)
    assert list((tmp_path / "c" / "shards").iterdir()) == []


@pytest.mark.parametrize("delay", [0.0, 0.4])
def test_killed_at_any_moment_it_leaves_nothing_to_be_taken_for_good(
    source, tmp_path, delay, whole
):
    out = tmp_path / "c"
    process = start(tmp_path, source, out)
    wait_for(out.is_dir)
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stderr.close()
    if (out / "cache.json").exists():
        verify(out)
    time.sleep(0.2)  # for its workers to end
    make(source, out)
    assert content(out) == whole


@pytest.mark.slow
def test_killed_at_any_rename_it_goes_on_and_readers_see_whole_caches_alone(
    source, tmp_path, log, whole
):
    """The list of samples, the header, a shard, its note; at last the last note of all."""
    out = tmp_path / "c"
    moments = [
        (0, "before"),
        (0, "after"),
        (1, "before"),
        (0, "before"),
        (1, "after"),
        (4, "before"),
    ]
    for number, when in moments:
        kill_at_rename(tmp_path, source, out, number, when)
        read_all(out)
    make(source, out)
    assert content(out) == whole

    last = out / "shards" / "00007.json"
    for when in ("before", "after"):
        last.unlink(missing_ok=True)
        kill_at_rename(tmp_path, source, out, 1, when)
        assert last.exists() == (when == "after")
        read_all(out)
    before = len(log())
    make(source, out)
    assert len(log()) == before
    assert content(out) == whole


def kill_at_rename(tmp_path, source, out, number, when):
    """Prepare, and kill -9 all its processes before or after one of the renames that make a file whole."""
    script = tmp_path / f"kill_{number}_{when}.py"
    dying = (
        f"cache_media.die_at_rename({str(script.with_suffix('.count'))!r}, {number}, {when!r})\n"
    )
    script.with_suffix(".count").write_bytes(b"")
    guard = 'if __name__ == "__main__"'
    script.write_text(script_text("decode").replace(guard, dying + guard).replace("=2", "=1"))
    done = subprocess.run(
        [sys.executable, str(script), str(source.root), str(out)],
        start_new_session=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL


def read_all(out):
    """What readers do with a cache; there may be none yet."""
    if is_cache(out):
        info = read_cache_info(out)
        reader = CacheReader(out)
        assert len(reader) == len(info.ids)
        for position in range(len(reader)):
            reader.read(position)
        verify(out)


def test_a_reader_of_a_list_of_samples_that_has_just_been_replaced(tmp_path, monkeypatch):
    out = tmp_path / "c"
    make(cache_media.make_files(tmp_path / "media", 10), out)
    stale = plan.read_versioned(out / "cache.json", plan._Header, 1, what="", advice="", foreign="")
    make(cache_media.make_files(tmp_path / "media", 20), out)
    headers = [stale]

    def read(*args, **more):
        return headers.pop() if headers else read_versioned(*args, **more)

    monkeypatch.setattr(plan, "read_versioned", read)
    assert read_cache_info(out).planned == 20
    assert not headers


def test_shard_without_note_or_of_another_size_is_made_again(source, tmp_path, whole):
    make(source, tmp_path / "c")
    shards = tmp_path / "c" / "shards"
    (shards / "00001.json").unlink()
    (shards / "00002.safetensors").write_bytes(b"short")
    (shards / "00003.safetensors").unlink()
    make(source, tmp_path / "c")
    assert content(tmp_path / "c") == whole


def test_interrupted_by_the_keyboard(source, tmp_path):
    out = tmp_path / "c"
    process = start(tmp_path, source, out)
    wait_for(lambda: finished(out) >= 1)
    workers = children(process.pid)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert errors.count("KeyboardInterrupt") == 1
    wait_for(lambda: not any(Path(f"/proc/{w}").exists() for w in workers), 20)
    names = [p.name for p in (out / "shards").iterdir()]
    assert not [n for n in names if n.endswith(".tmp")]
    assert {Path(n).stem for n in names if n.endswith("safetensors")} == {
        Path(n).stem for n in names if n.endswith("json")
    }
    make(source, out)
    verify(out)


def test_two_at_once(source, tmp_path):
    out = tmp_path / "c"
    process = start(tmp_path, source, out)
    try:
        wait_for((out / "cache.json").exists)
        with pytest.raises(
            DataError, match=f"is being prepared by process {process.pid} on .*wait"
        ):
            make(source, out)
    finally:
        process.kill()
        process.communicate()


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
    with pytest.raises(DataError, match="it does not follow the recipe"):
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


@contextlib.contextmanager
def small_disk(folder, size):
    """A file system of so many bytes, or None where mounting is not allowed."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)]
    mounted = (
        shutil.which("mount") is not None
        and subprocess.run(command, capture_output=True, check=False).returncode == 0
    )
    try:
        yield folder if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=True)


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
        StorageError, match=r"59 samples need about [\d,]+ bytes, 17,700,000,000,001,416 "
    ):
        make(source, tmp_path / "c", recipe=recipe)
    assert log() == []
    assert not (tmp_path / "c" / "cache.json").exists()
    make(source, tmp_path / "c")  # and the folder can be used for another recipe


def test_folder_of_something_else(source, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="holds something that is no cache"):
        make(source, tmp_path)
    with pytest.raises(UsageError, match="holds something that is no cache"):
        make(source, tmp_path / "notes.txt")
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_cache_of_something_else(source, tmp_path):
    make(source, tmp_path / "c")
    with pytest.raises(
        DataError, match=r"another --cache.*\nrecipe, tokens: 6 in the cache, 8 asked"
    ):
        make(source, tmp_path / "c", recipe=Recipe(image_side=16, tokens=8))
    other = cache_media.Catalogue(
        "vggsound", source.root, "clips", ("video",), source.classes, [], {}
    )
    with pytest.raises(DataError, match="name: food101 in the cache, vggsound asked for"):
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
    from rlmba.data.media.plan import Plan

    file = source.samples[0].sources["image"]

    def largest(n, *modalities):
        many = [cache_media.Sample(f"i{k}", 0, False, {"video": file}) for k in range(n)]
        recipe = Recipe()
        catalogue = cache_media.Catalogue(
            "vggsound", source.root, "clips", modalities, ("a",), many, {}
        )
        plan = Plan.empty(catalogue, recipe).extended(many)
        sizes = np.bincount(plan.shard)
        assert sizes.sum() == len(many)
        assert np.ptp(sizes) <= 1
        return sizes.max()

    clip = 10 * 128 * 171 * 3 + 2 * 160_000
    assert largest(80_000, "video", "audio") == (256 << 20) // clip == 274
    assert largest(10_000, "text", "image") == 40
    assert largest(10, "text", "image") == 5
