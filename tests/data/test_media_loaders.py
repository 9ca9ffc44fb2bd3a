from __future__ import annotations

import pickle
import shutil
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from rlmba.data import load_dataset, load_food101, load_kineticssound, load_vggsound
from rlmba.data.media import listing, tokens
from rlmba.data.media.check import check
from rlmba.data.media.layouts import find_catalogue, published_classes, recipe_of
from rlmba.data.media.prepare import prepare
from rlmba.errors import DataError, RlmbaWarning, UsageError
from tests.helpers import media_files as mf
from tests.helpers import media_sets as ms

DAMAGES = ("no-audio", "truncated", "still", "missing", "empty-file", "short")
LOADED = ("no-audio", "truncated", "still", "empty-file", "short")
READABLE = ("still", "short")

pytestmark = pytest.mark.filterwarnings("ignore:vggsound.*published:rlmba.errors.RlmbaWarning")


@pytest.fixture(autouse=True)
def own_index(tmp_path_factory, monkeypatch):
    """Each test has its own cache folder, where results of checks are kept."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("user")))


@pytest.fixture(scope="module")
def vggsound(tmp_path_factory):
    root = tmp_path_factory.mktemp("vggsound")
    return root, ms.make_vggsound(root, train=3, test=1, damages=DAMAGES, seconds=6.0)


@pytest.fixture(scope="module")
def prepared(vggsound, tmp_path_factory):
    out = tmp_path_factory.mktemp("prepared") / "cache"
    prepare(find_catalogue("vggsound", vggsound[0]), recipe_of("vggsound"), out, workers=1)
    return out


def ids_of(made, damages):
    return sorted(m.id for m in made if m.damage in ("", *damages))


def load(root, **options):
    return load_vggsound(root, **{"observed_classes": True, **options})


def positions_of(data, ids):
    at = {i: p for p, i in enumerate(data.ids.tolist())}
    return np.array([at[i] for i in ids])


def test_a_folder_of_clips(vggsound):
    root, made = vggsound
    with pytest.warns(
        RlmbaWarning,
        match=r"14 of 105,243 training samples and 3 of 7,109 test samples .*18 are listed, 1 of them "
        r"incomplete.*rlmba data check vggsound",
    ):
        data = load(root)
    assert data.name == "vggsound"
    assert [m.name for m in data.modalities] == ["video", "audio"]
    assert sorted(data.ids) == ids_of(made, LOADED)
    assert data.classes == ms.VGGSOUND
    known = {m.id: m for m in made}
    for position, sample in enumerate(data.ids.tolist()):
        assert data.classes[data.labels[position]] == known[sample].class_name
        assert (position in data.test_positions) == known[sample].test
    assert data.present is None
    with pytest.warns(RlmbaWarning, match="could not be read"):
        batch = data.batch(np.arange(len(data)), train=False, generator=None)
    broken = {m.id: m.damage for m in made if m.damage in set(LOADED) - set(READABLE)}
    assert {str(data.ids[p]) for p in data.problems} == set(broken)
    for row, sample in enumerate(data.ids.tolist()):
        expected = {"no-audio": [True, False]}.get(
            broken.get(sample, ""), [sample not in broken] * 2
        )
        assert batch.present[row].tolist() == expected
    assert all(x.isfinite().all() for x in batch.inputs.values())


def test_by_name_with_options_as_a_configuration_gives_them(vggsound):
    root, _ = vggsound
    data = load_dataset(
        "vggsound", data_root=root, options={"classes": ["thunder", "dog barking"], "limit": 2}
    )
    assert data.classes == ("dog barking", "thunder")
    counts = Counter(
        zip(data.labels.tolist(), [p in data.test_positions for p in range(len(data))], strict=True)
    )
    assert counts == {(0, False): 2, (0, True): 1, (1, False): 2, (1, True): 1}
    whole = load(root)
    for label, name in enumerate(data.classes):
        there = sorted(whole.ids[whole.labels == whole.classes.index(name)].tolist())
        train = [i for i in there if i in set(whole.ids[whole.train_positions].tolist())]
        mine = data.ids[data.train_positions][data.labels[data.train_positions] == label]
        assert sorted(mine.tolist()) == train[:2]


def test_what_a_check_found_unreadable_is_left_out(vggsound, tmp_path):
    root, made = vggsound
    recipe = recipe_of("vggsound")
    check(find_catalogue("vggsound", root), recipe, workers=1, index=tmp_path / "index")
    data = load(root, index=tmp_path / "index")
    assert sorted(data.ids) == ids_of(made, READABLE)
    assert sorted(load(root, index=tmp_path / "index", flagged="drop").ids) == ids_of(made, ())
    kept = load(root, index=tmp_path / "index", incomplete="keep")
    assert sorted(kept.ids) == ids_of(made, (*READABLE, "no-audio"))
    mute = positions_of(kept, [m.id for m in made if m.damage == "no-audio"])
    assert kept.present[mute].tolist() == [[True, False]]
    assert kept.present.sum() == kept.present.size - 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        batch = kept.batch(mute, train=False, generator=None)
    assert batch.present.tolist() == [[True, False]]


def test_a_cache_gives_what_the_folder_gives(vggsound, prepared):
    root, made = vggsound
    data = load(root, cache=prepared)
    assert sorted(data.ids) == ids_of(made, READABLE)
    raw = load(root)
    mine = np.arange(len(data))
    theirs = positions_of(raw, data.ids.tolist())
    assert np.array_equal(data.labels, raw.labels[theirs])
    for train in (False, True):
        a, b = (
            d.batch(p, train=train, generator=torch.Generator().manual_seed(1))
            for d, p in ((data, mine), (raw, theirs))
        )
        for name in ("video", "audio"):
            assert torch.equal(a.inputs[name], b.inputs[name])
    assert sorted(load(root, cache=prepared, flagged="drop").ids) == ids_of(made, ())
    kept = load(root, cache=prepared, incomplete="keep")
    assert sorted(kept.ids) == ids_of(made, (*READABLE, "no-audio"))


def test_a_cache_stands_alone_and_travels_to_workers(vggsound, prepared):
    data = load(prepared)
    assert data.fingerprint() == load("nowhere", cache=prepared).fingerprint()
    assert data.fingerprint() != load(vggsound[0]).fingerprint()
    there = pickle.loads(pickle.dumps(data))
    a, b = (d.batch(np.array([1, 0]), train=False, generator=None) for d in (data, there))
    assert torch.equal(a.inputs["video"], b.inputs["video"])
    with pytest.raises(UsageError, match="layout, annotations and index are for a folder of media"):
        load(prepared, layout="clips")


def test_a_cache_that_is_half_built_gives_its_half(vggsound, prepared, tmp_path):
    half = tmp_path / "half"
    shutil.copytree(prepared, half)
    notes = sorted((half / "shards").glob("*.json"))
    assert len(notes) > 1
    notes[0].unlink()
    with pytest.warns(
        RlmbaWarning,
        match=r"of 18 samples are not prepared yet.*rlmba data prepare vggsound DIR --cache",
    ):
        data = load(half)
    assert 0 < len(data) < len(load(prepared))
    assert data.fingerprint() != load(prepared).fingerprint()
    assert len(data.batch(np.arange(len(data)), train=False, generator=None).inputs["audio"])


def test_a_cache_of_something_else_or_of_nothing(vggsound, prepared, tmp_path):
    with pytest.raises(DataError, match="vggsound"):
        load_kineticssound(prepared)
    with pytest.raises(DataError, match="rlmba data prepare"):
        load(vggsound[0], cache=tmp_path)


def test_a_class_without_training_samples(vggsound):
    root, _ = vggsound
    with pytest.raises(DataError) as caught:
        load_vggsound(root)
    message = str(caught.value)
    assert "of each of 309 classes, got none of 306: 'air conditioning noise'" in message
    assert "observed_classes=true" in message
    absent = published_classes("vggsound")[0]
    with pytest.raises(DataError, match=f"each of 2 classes, got none of 1: '{absent}'"):
        load_vggsound(root, classes=["thunder", absent])
    with pytest.raises(UsageError, match="has no class 'thundr'; expected some of air cond"):
        load_vggsound(root, classes=["thunder", "thundr"])


@pytest.mark.filterwarnings("ignore::rlmba.errors.RlmbaWarning")
def test_no_sample_left(tmp_path):
    root = tmp_path / "mute"
    ms.make_vggsound(root, train=2, test=1, layout="frames", listed=False)
    shutil.rmtree(root / "train" / "audio")
    with pytest.raises(
        DataError, match=r"no sample is left to train on: .* listed .*lack audio"
    ) as e:
        load(root, layout="frames")
    assert f"rlmba data check vggsound {root}" in str(e.value)
    assert len(load(root, layout="frames", incomplete="keep").train_positions) == 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"incomplete": "maybe"}, 'option incomplete: expected "drop" or "keep", got \'maybe\''),
        ({"flagged": True}, "option flagged"),
        ({"limit": 0}, "option limit: expected an integer >= 1"),
        ({"limit": "5"}, "option limit"),
        ({"classes": "thunder"}, "option classes: expected a list of two class names or more"),
        ({"classes": ["thunder"]}, "option classes"),
    ],
)
def test_options_out_of_range_are_told_before_any_file_is_read(options, message):
    with pytest.raises(UsageError, match=message):
        load_vggsound("nowhere", **options)


def test_a_root_that_is_not_the_data_set(tmp_path):
    for loader in (load_food101, load_kineticssound, load_vggsound):
        with pytest.raises(DataError):
            loader(tmp_path, **({"tokenizer": "words"} if loader is load_food101 else {}))


@pytest.mark.filterwarnings("ignore::rlmba.errors.RlmbaWarning")
def test_folders_of_recipes(tmp_path, monkeypatch):
    made = ms.make_food101(
        tmp_path, train=3, test=1, damages=("missing-text", "missing-image", "gray", "rotated")
    )
    monkeypatch.setattr(listing, "list_files", None)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UsageError, match="no tokenizer was found"):
        load_food101(tmp_path / "not looked at", tokenizer=str(tmp_path / "no-tokenizer"))
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))

    data = load_food101(tmp_path, tokenizer="words", observed_classes=True)
    assert sorted(data.ids) == ids_of(made, ("gray", "rotated"))
    text, image = data.modalities
    assert (text.vocabulary, text.padding, image.shape) == (30_000, -1, (3, 224, 224))
    batch = data.batch(np.arange(4), train=True, generator=torch.Generator().manual_seed(0))
    assert (batch.inputs["text"] >= 0).any(dim=1).all()
    assert batch.inputs["text"].max() < 30_000
    assert batch.inputs["image"].isfinite().all()

    kept = load_food101(tmp_path, tokenizer="words", observed_classes=True, incomplete="keep")
    # Folders of images are what tells the split: without an image there is no sample.
    assert sorted(kept.ids) == ids_of(made, ("gray", "rotated", "missing-text"))
    assert (~kept.present).sum(axis=0).tolist() == [1, 0]

    out = tmp_path / "cache"
    prepare(find_catalogue("food101", tmp_path), recipe_of("food101", "words"), out, workers=1)
    # Ids of tokens are all that a cache holds of a tokenizer: it may be gone.
    with monkeypatch.context() as gone:
        gone.setattr(tokens, "load_tokenizer", None)
        cached = load_food101(out, observed_classes=True)
    with pytest.raises(UsageError, match="made with the tokenizer 'words', got 'other'"):
        load_food101(out, tokenizer="other")
    assert sorted(cached.ids) == sorted(data.ids)
    assert cached.modalities == data.modalities
    a = cached.batch(np.arange(3), train=False, generator=None)
    b = data.batch(positions_of(data, cached.ids[:3].tolist()), train=False, generator=None)
    for name in ("text", "image"):
        assert torch.equal(a.inputs[name], b.inputs[name])


@pytest.mark.filterwarnings("ignore::rlmba.errors.RlmbaWarning")
def test_fingerprints_follow_the_files_and_not_their_place(tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    ms.make_kineticssound(first, train=2, test=1)

    def print_of(root):
        return load_kineticssound(root, observed_classes=True).fingerprint()

    shutil.copytree(first, second)
    before = print_of(first)
    assert print_of(second) == before
    frame = sorted(Path(second, "train").rglob("frame_2.jpg"))[0]
    mf.write_image(frame, seed=77, size=(80, 60))
    changed = print_of(second)
    assert changed != before
    sound = sorted(Path(second, "test").rglob("*.wav"))[0]
    mf.write_wav(sound, seconds=2.0)
    assert print_of(second) not in (before, changed)
