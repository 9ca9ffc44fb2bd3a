from __future__ import annotations

import json
import pickle
import threading

import numpy as np
import pytest
from safetensors.numpy import load_file

from rlmba.data.media import shards
from rlmba.data.media.cache import CacheReader, is_cache, read_cache_info, verify
from rlmba.data.media.catalogue import split_checksum
from rlmba.data.media.content import Recipe
from rlmba.data.media.outcome import DecodeOutcome
from rlmba.data.media.plan import CachePlan, write_plan
from rlmba.data.media.prepare import prepare
from rlmba.errors import DataError
from tests.helpers import cache_media

SHARDS = 8


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    root = tmp_path_factory.mktemp("media")
    return cache_media.make_files(root, missing=(3,), broken=(5,), no_text=(9,), gray=(10,))


@pytest.fixture(scope="module")
def finished(source, tmp_path_factory):
    out = tmp_path_factory.mktemp("made") / "cache"
    prepare(source, cache_media.RECIPE, out, workers=2, decode=cache_media.decode)
    return out


@pytest.fixture
def cache(finished, tmp_path):
    """A copy to damage."""
    out = tmp_path / "cache"
    (out / "shards").mkdir(parents=True)
    for file in finished.rglob("*"):
        if file.is_file():
            (out / file.relative_to(finished)).write_bytes(file.read_bytes())
    return out


def decoded(source, sample):
    return cache_media.decode(next(s for s in source.samples if s.id == sample), cache_media.RECIPE)


def test_holds_what_the_decoder_gave(source, finished):
    info = read_cache_info(finished)
    assert (info.name, info.classes, info.modalities) == (
        "food101",
        cache_media.CLASSES,
        ("text", "image"),
    )
    assert info.recipe == cache_media.RECIPE
    assert (info.planned, info.waiting) == (60, 0)
    expected = [s for s in source.samples if s.id != "s003"]
    assert info.ids.tolist() == [s.id for s in expected]
    assert info.labels.tolist() == [s.label for s in expected]
    assert info.test.tolist() == [s.test for s in expected]
    reader = CacheReader(finished)
    assert len(reader) == 59
    for position, sample in enumerate(info.ids.tolist()):
        got = reader.read(position)
        assert list(got) == ["text", "image"]
        for m, (modality, content) in enumerate(
            (m, decoded(source, sample)[m]) for m in ("text", "image")
        ):
            assert info.present[position, m] == (content.array is not None)
            if content.array is None:
                assert got[modality] is None
            else:
                assert got[modality].dtype == content.array.dtype
                np.testing.assert_array_equal(got[modality], content.array)
    assert info.present.sum() == 2 * 59 - 2
    assert info.problems["s003"] == {"text": "no file", "image": "no file"}
    assert info.problems["s005"]["image"].startswith("Pillow: ")
    assert set(info.problems) == {"s003", "s005", "s009"}
    assert info.flags == {"s010": {"image": ("converted",)}}


def test_shards_are_safetensors_that_others_read(finished):
    info = read_cache_info(finished)
    seen = []
    for file in sorted((finished / "shards").glob("*.safetensors")):
        arrays = load_file(file)
        note = json.loads(file.with_suffix(".json").read_text())
        ids = note["samples"]
        seen += ids
        assert note["bytes"] == file.stat().st_size
        assert arrays["text"].shape == (len(ids), 6)
        assert arrays["text"].dtype == np.int32
        assert arrays["present"].dtype == np.bool_
        offsets, sizes = arrays["image.offsets"], arrays["image.sizes"]
        assert np.array_equal(np.diff(offsets), 3 * sizes[:, 0] * sizes[:, 1])
        assert arrays["image"].shape == (offsets[-1],)
    assert sorted(seen) == sorted(info.ids.tolist())


def test_reads_without_copying_and_only_reads(finished):
    sample = CacheReader(finished).read(0)
    for array in sample.values():
        assert not array.flags.owndata
        assert not array.flags.writeable
        assert array.flags.aligned


def test_order_of_positions_is_that_of_the_ids_given(finished):
    ids = ["s050", "s001", "s050"]
    reader = CacheReader(finished, ids)
    every = CacheReader(finished)
    place = {s: i for i, s in enumerate(read_cache_info(finished).ids.tolist())}
    for position, sample in enumerate(ids):
        np.testing.assert_array_equal(
            reader.read(position)["image"], every.read(place[sample])["image"]
        )
    with pytest.raises(DataError, match=r"lacks 1 of 2 samples, the first is 's003'"):
        CacheReader(finished, ["s001", "s003"])


def test_few_shards_are_open_and_views_outlive_them(finished):
    reader = CacheReader(finished, open_shards=2)
    held = [reader.read(i)["image"] for i in range(len(reader)) if i != 30]
    copies = [None if h is None else h.copy() for h in held]
    assert len(reader._open) == 2
    again = CacheReader(finished)
    fresh = [again.read(i)["image"] for i in range(len(again)) if i != 30]
    assert len(again._open) == SHARDS
    for view, copy, other in zip(held, copies, fresh, strict=True):
        if view is not None:
            np.testing.assert_array_equal(view, copy)
            np.testing.assert_array_equal(view, other)


def test_is_pickled_without_its_open_files(finished):
    reader = CacheReader(finished)
    before = reader.read(7)
    data = pickle.dumps(reader)
    assert len(data) < 5_000
    after = pickle.loads(data).read(7)
    np.testing.assert_array_equal(before["image"], after["image"])


def test_threads_share_a_reader(finished):
    reader = CacheReader(finished, open_shards=1)
    expected = [
        {m: None if a is None else a.copy() for m, a in reader.read(i).items()} for i in range(59)
    ]
    wrong = []

    def read(seed):
        for i in np.random.default_rng(seed).permutation(59):
            got = reader.read(int(i))
            for m, a in expected[i].items():
                if (a is None) != (got[m] is None) or (
                    a is not None and not np.array_equal(a, got[m])
                ):
                    wrong.append((i, m))

    threads = [threading.Thread(target=read, args=(s,)) for s in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(reader._open) == 1


def test_half_built_cache_gives_what_is_there(source, cache):
    whole = read_cache_info(cache)
    gone = []
    for number in (1, 4, 6):
        note = cache / "shards" / f"{number:05d}.json"
        gone += json.loads(note.read_text())["samples"]
        note.unlink()
    info = read_cache_info(cache)
    assert (info.planned, info.waiting) == (60, len(gone))
    assert info.ids.tolist() == [i for i in whole.ids.tolist() if i not in gone]
    assert {(int(y), bool(t)) for y, t in zip(info.labels, info.test, strict=True)} == {
        (y, t) for y in range(3) for t in (False, True)
    }
    reader = CacheReader(cache)
    for position, sample in enumerate(info.ids.tolist()):
        text = decoded(source, sample)["text"].array
        assert text is None or np.array_equal(reader.read(position)["text"], text)
    with pytest.raises(DataError, match=r"lacks 1 .*let `rlmba data prepare` finish"):
        CacheReader(cache, gone[:1])
    assert info.fingerprint != whole.fingerprint


def test_cache_without_a_finished_shard(source, tmp_path):
    plan = CachePlan.empty(source, cache_media.RECIPE).extended(source.samples)
    write_plan(tmp_path, plan)
    info = read_cache_info(tmp_path)
    assert (len(info.ids), info.planned, info.waiting) == (0, 60, 59)
    assert info.present.shape == (0, 2)
    assert len(CacheReader(tmp_path)) == 0
    assert verify(tmp_path).usable == 0


def test_clips_go_in_at_their_shape_and_what_is_absent_is_filled(tmp_path):
    recipe = Recipe(frames=2, frame_size=(4, 5), seconds=0.5, sample_rate=20)
    video = np.arange(120, dtype=np.uint8).reshape(2, 4, 5, 3)
    audio = np.arange(-5, 5, dtype=np.int16)
    (tmp_path / "shards").mkdir()
    rows = {
        "a": {"video": video, "audio": None},
        "b": {"video": None, "audio": audio},
        "c": {"video": video[:, ::-1], "audio": audio[::-1]},
    }
    note = shards.write_shard(tmp_path, 3, rows, {"z": DecodeOutcome({"video": "x"})}, recipe)
    file = shards.shard_file(tmp_path, 3)
    arrays = load_file(file)
    assert not arrays["audio"][0].any()
    assert not arrays["video"][1].any()
    assert arrays["present"].tolist() == [[True, False], [False, True], [True, True]]
    shard = shards.Shard(file, note.size)
    for row, sample in enumerate(rows.values()):
        got = shard.row(row, ("video", "audio"))
        for modality, array in sample.items():
            assert (got[modality] is None) == (array is None)
            if array is not None:
                np.testing.assert_array_equal(got[modality], array)
    assert shards.read_note(tmp_path, 3) == note
    assert shards.verify_shard(tmp_path, 3, note) == ""


def test_shard_of_nothing_and_of_no_image(tmp_path):
    (tmp_path / "shards").mkdir()
    note = shards.write_shard(tmp_path, 0, {}, {}, cache_media.RECIPE)
    shards.Shard(shards.shard_file(tmp_path, 0), note.size)
    rows = {"a": {"text": np.zeros(6, np.int32), "image": None}}
    note = shards.write_shard(tmp_path, 1, rows, {}, cache_media.RECIPE)
    assert load_file(shards.shard_file(tmp_path, 1))["image"].shape == (0,)
    got = shards.Shard(shards.shard_file(tmp_path, 1), note.size).row(0, ("text", "image"))
    assert got["image"] is None
    assert got["text"].tolist() == [0] * 6


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            {"text": np.zeros(5, np.int32)},
            r"expected text as int32 \[6\], but the decoder returned int32 \[5\]",
        ),
        ({"text": np.zeros(6, np.int64)}, "returned int64"),
        ({"image": np.zeros((4, 4), np.uint8)}, r"expected image as uint8 \[H, W, 3\]"),
        ({"image": np.zeros((4, 4, 3), np.float32)}, "returned float32"),
    ],
)
def test_arrays_against_the_recipe_are_refused(tmp_path, wrong, message):
    (tmp_path / "shards").mkdir()
    with pytest.raises(DataError, match=message):
        shards.write_shard(tmp_path, 0, {"a": wrong}, {}, cache_media.RECIPE)
    assert list((tmp_path / "shards").iterdir()) == []


def test_fingerprint_is_of_split_recipe_and_content(source, finished, cache, tmp_path):
    assert read_cache_info(cache).fingerprint == read_cache_info(finished).fingerprint
    other = Recipe(image_side=16, tokens=7)
    prepare(source, other, tmp_path / "other", workers=1, decode=cache_media.decode)
    assert read_cache_info(tmp_path / "other").fingerprint != read_cache_info(cache).fingerprint


def test_verify_reads_every_shard(source, cache):
    steps = []
    report = verify(cache, name="food101", progress=lambda done, total: steps.append((done, total)))
    assert steps == [(i + 1, SHARDS) for i in range(SHARDS)]
    assert report.usable == 59
    kept = [s for s in source.samples if s.id != "s003"]
    assert report.checksum == split_checksum(
        source.classes, [s.id for s in kept], [s.label for s in kept], [s.test for s in kept]
    )
    assert report.totals["train"].found + report.totals["test"].found == 58


def change(file, place, flip=0xFF):
    data = bytearray(file.read_bytes())
    data[place] ^= flip
    file.write_bytes(data)


def test_one_bit_is_enough_for_verify_to_name_the_shard(cache):
    for number in (2, 5):
        change(cache / "shards" / f"{number:05d}.safetensors", -1, 1)
    CacheReader(cache)
    with pytest.raises(DataError, match=r"2 of 8 shards .* damaged; delete the \.json") as error:
        verify(cache)
    assert "00002.safetensors: the checksum is wrong" in str(error.value)
    assert "00005.safetensors: the checksum is wrong" in str(error.value)


def test_shard_of_another_size(cache):
    file = cache / "shards" / "00002.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    reader = CacheReader(cache)
    with pytest.raises(DataError, match=r"00002\.safetensors is damaged: it has .* bytes; delete"):
        [reader.read(i) for i in range(59)]
    with pytest.raises(DataError, match="1 of 8 shards"):
        verify(cache)


def test_shard_with_a_bad_header_or_none_at_all(cache):
    file = cache / "shards" / "00000.safetensors"
    for place in (0, 9):
        change(file, place)
        reader = CacheReader(cache)
        with pytest.raises(DataError, match=r"00000\.safetensors is damaged"):
            [reader.read(i) for i in range(59)]
        change(file, place)
    file.unlink()
    with pytest.raises(
        DataError, match=r"00000\.safetensors cannot be read .* run `rlmba data prepare`"
    ):
        [reader.read(i) for i in range(59)]


def test_damaged_note(cache):
    (cache / "shards" / "00003.json").write_text('{"format": 1')
    for use in (read_cache_info, CacheReader, verify):
        with pytest.raises(DataError, match=r"00003\.json is damaged .* delete"):
            use(cache)


def edit(file, **changes):
    data = json.loads(file.read_text())
    file.write_text(json.dumps({**data, **changes}))


def test_other_versions_and_foreign_folders(cache, tmp_path):
    (tmp_path / "none").mkdir()
    assert not is_cache(tmp_path / "none")
    for path in (tmp_path / "none", tmp_path / "nowhere", cache / "cache.json"):
        with pytest.raises(DataError, match=r"expected a cache made by `rlmba data prepare`"):
            read_cache_info(path)
    assert is_cache(cache)
    edit(cache / "cache.json", format=99)
    with pytest.raises(DataError, match=r"cache format 99, this version reads 1; prepare it again"):
        read_cache_info(cache)
    (cache / "cache.json").write_text("[]")
    with pytest.raises(DataError, match="not written by rlmba"):
        read_cache_info(cache)
    (cache / "cache.json").write_text("{")
    with pytest.raises(DataError, match=r"damaged .*delete the folder"):
        read_cache_info(cache)


def test_damaged_list_of_samples(cache):
    (samples,) = cache.glob("samples-*.json")
    change(samples, 20, 1)
    with pytest.raises(DataError, match="the checksum of samples-"):
        read_cache_info(cache)
    samples.unlink()
    with pytest.raises(DataError, match=r"samples-.*no such file; delete the folder"):
        CacheReader(cache)


def test_of_another_data_set_or_recipe_than_asked(cache):
    read_cache_info(cache, name="food101", recipe=cache_media.RECIPE)
    with pytest.raises(DataError, match="is a cache of 'food101', expected one of 'vggsound'"):
        read_cache_info(cache, name="vggsound")
    with pytest.raises(DataError, match="recipe, image_side: 16 in the cache, 256 requested"):
        read_cache_info(cache, recipe=Recipe(tokens=6))
