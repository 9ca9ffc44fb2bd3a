from __future__ import annotations

import numpy as np
import pytest

from rlmba.data import load_dataset
from rlmba.data.features import guess_kind, load_features, save_features
from rlmba.errors import DataError, ShapeError, UsageError

N = 10


def arrays(**changes):
    rng = np.random.default_rng(1)
    base = {
        "image": rng.normal(size=(N, 6)).astype(np.float32),
        "text": rng.normal(size=(N, 4)).astype(np.float16),
        "speaker": np.arange(N),
        "y": np.arange(N) % 2,
        "split": (np.arange(N) >= 7).astype(np.uint8),
        "split_other": (np.arange(N) >= 5).astype(np.uint8),
    }
    base.update(changes)
    return {name: a for name, a in base.items() if a is not None}


@pytest.fixture
def load(tmp_path):
    def write_and_load(options=None, **changes):
        path = tmp_path / "toy.npz"
        np.savez_compressed(path, **arrays(**changes))
        return load_dataset("features", data=path, options=options)

    return write_and_load


def test_defaults(load):
    dataset = load()
    assert dataset.name == "toy"
    assert [m.name for m in dataset.modalities] == ["image", "text"]
    assert dataset.ids[3] == "toy-000003"
    assert dataset.classes == ("0", "1")
    assert dataset.train_positions.tolist() == list(range(7))


def test_options_and_optional_arrays(load):
    present = np.ones((N, 2), np.uint8)
    present[4] = [1, 0]
    dataset = load(
        {"modalities": ["text", "image"], "split": "split_other", "kinds": {"text": "features"}},
        ids=np.array([f"id{i}" for i in range(N)]),
        classes=np.array(["cat", "dog", "never seen"]),
        present=present,
    )
    assert [m.name for m in dataset.modalities] == ["text", "image"]
    assert dataset.train_positions.tolist() == list(range(5))
    assert dataset.ids[3] == "id3"
    assert dataset.classes == ("cat", "dog", "never seen")
    assert dataset.present[4].tolist() == [False, True]


def test_what_is_saved_is_read_back(load, tmp_path, rng):
    present = np.ones((N, 2), bool)
    present[4, 0] = False
    dataset = load(classes=np.array(["cat", "dog"]))
    features = {m: rng.normal(size=(N, 3)).astype(np.float32) for m in ("text", "image")}
    path = tmp_path / "again.npz"
    path.write_bytes(b"old")
    save_features(path, dataset, features, present)
    again = load_dataset("features", data=path)
    assert [(m.name, m.shape) for m in again.modalities] == [("text", (3,)), ("image", (3,))]
    assert again.ids.tolist() == dataset.ids.tolist()
    assert again.classes == ("cat", "dog")
    np.testing.assert_array_equal(again.labels, dataset.labels)
    np.testing.assert_array_equal(again.test_positions, dataset.test_positions)
    np.testing.assert_array_equal(again.present, present)
    with np.load(path) as held:
        np.testing.assert_array_equal(held["text"], features["text"])
    with pytest.raises(ShapeError, match=r"'text': expected \[10, D\], got shape \(9, 3\)"):
        save_features(path, dataset, {"text": features["text"][:9]})
    with pytest.raises(ShapeError, match="'split2': this name is reserved"):
        save_features(path, dataset, {"split2": features["text"]})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"modalities": ["image", "smell"]}, r"distinct names of \['image', 'text'\]"),
        ({"modalities": "image"}, "a list of names"),
        ({"modalities": []}, "distinct names"),
        ({"modalities": ["image", "image"]}, "distinct names"),
        ({"kinds": {"smell": "image"}}, r"expected modalities of \['image', 'text'\]"),
        ({"kinds": {"text": "smell"}}, "one of .*'features'"),
        ({"kinds": {"text": "image"}}, "kind 'image' needs"),
        ({"split": "split_none"}, "expected an array 'split_none'"),
    ],
)
def test_bad_options(load, options, message):
    with pytest.raises(UsageError, match=message):
        load(options)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y": None}, r"expected an array 'y' \(labels\)"),
        ({"split": None}, r"expected an array 'split' \(split\)"),
        ({"y": np.arange(N) % 2 / 1.0}, "y as integers"),
        ({"y": np.arange(N) % 2 * 2 - 2}, "from 0 up, or -1 where unknown, got -2 in row 0"),
        (
            {"y": np.where(np.arange(N) < N - 1, np.arange(N) % 2, -1)},
            f"label for every test sample, got -1 in row {N - 1}",
        ),
        ({"y": np.arange(N) % 2 * 10**12}, "out of range.* class 1 never occurs"),
        ({"y": np.zeros(N, int)}, "two classes or more"),
        ({"y": np.zeros((N, 2), int)}, "labels: expected 10 labels"),
        ({"classes": np.array(["only", "two"]), "y": np.arange(N) % 3}, "toy-000002' has 2"),
        ({"image": np.zeros((N + 1, 3))}, "'image': expected 10 rows"),
        ({"image": np.full((N, 3), np.nan)}, "'image' of sample 'toy-000000'"),
        ({"image": np.array([[None, {}]] * N)}, "array 'image': .*pickle, which is never loaded"),
        ({"image": None, "text": None}, "at least one modality array"),
        ({"split": np.full(N, 3)}, "got \\[3\\] as well"),
        ({"present": np.ones((N, 5))}, r"expected present \[N, 2\]"),
        ({"ids": np.zeros(N, int)}, "0 is at positions 0 and 1"),
        ({"image": np.zeros((N, 1, 1, 1, 1))}, "2 to 4 axes"),
    ],
)
def test_bad_arrays(load, changes, message):
    with pytest.raises(DataError, match=message):
        load(**changes)


def test_unreadable_files(tmp_path):
    def load(path):
        return load_dataset("features", data=path)

    with pytest.raises(DataError, match="no such file"):
        load(tmp_path / "none.npz")
    good = tmp_path / "good.npz"
    np.savez(good, **arrays())
    whole = good.read_bytes()
    bad = tmp_path / "bad.npz"
    for content in (b"", b"not a zip at all", whole[: len(whole) // 2]):
        bad.write_bytes(content)
        with pytest.raises(DataError, match="not a readable"):
            load(bad)
    middle = bytearray(whole)
    middle[200] ^= 0xFF
    bad.write_bytes(middle)
    with pytest.raises(DataError, match=r"array 'image': not a readable"):
        load(bad)
    single = tmp_path / "single.npz"
    with single.open("wb") as file:
        np.save(file, np.ones(3))
    with pytest.raises(DataError, match="zip of named arrays"):
        load(single)


@pytest.mark.parametrize(
    ("name", "shape", "dtype", "kind"),
    [
        ("x", (2, 512), np.float16, "features"),
        ("x", (2, 8000), np.float32, "features"),
        ("x", (2, 128), np.uint8, "features"),
        ("x", (2, 8000), np.int16, "waveform"),
        ("x", (2, 128), np.int16, "features"),
        ("x", (2, 40), np.int64, "tokens"),
        ("x", (2, 28, 28), np.uint8, "image"),
        ("x", (2, 8, 32, 32), np.uint8, "image"),
        ("x", (2, 64, 6), np.float16, "sequence"),
        ("logmel", (2, 32, 32), np.float16, "spectrogram"),
    ],
)
def test_guess_kind(name, shape, dtype, kind):
    assert guess_kind(name, np.zeros(shape, dtype)) == kind


@pytest.mark.parametrize(
    ("file", "sizes", "kinds"),
    [
        (
            "av_digits",
            (2400, 600, 10),
            {"image": "image", "audio": "waveform", "logmel": "spectrogram"},
        ),
        ("wiki", (2173, 693, 10), {"image": "features", "text": "features"}),
        ("cub10", (480, 120, 10), {"image": "features", "text": "features"}),
        (
            "utd_mhad",
            (431, 430, 27),
            {"depth": "image", "skeleton": "sequence", "inertial": "sequence"},
        ),
        ("ccv", (5418, 1355, 20), dict.fromkeys(["view1", "view2", "view3"], "features")),
    ],
)
def test_real_files(real_data, file, sizes, kinds):
    dataset = load_dataset("features", data=real_data / f"{file}.npz")
    found = (len(dataset.train_positions), len(dataset.test_positions), len(dataset.classes))
    assert found == sizes
    assert {m.name: m.kind for m in dataset.modalities} == kinds
    batch = dataset.batch(dataset.test_positions[:7], train=False, generator=None)
    for m in dataset.modalities:
        assert batch.inputs[m.name].shape == (7, *m.shape)


def test_labels_may_be_unknown(load):
    dataset = load(y=np.array([-1, 0, 1, -1, 0, 1, -1, 0, 1, 0]))
    assert dataset.labels[:4].tolist() == [-1, 0, 1, -1]
    assert dataset.classes == ("0", "1")


def test_given_constants_are_used_instead_of_statistics(tmp_path, rng):
    arrays = {"image": rng.integers(0, 256, (12, 3, 8, 8), dtype=np.uint8)}
    np.savez(tmp_path / "a.npz", **arrays, y=np.arange(12) % 2, split=np.arange(12) // 10)
    first = load_features(tmp_path / "a.npz")
    known = first.settled["constants"]
    assert len(known["image"]["mean"]) == 3
    arrays["image"][6:] //= 2
    np.savez(tmp_path / "a.npz", **arrays, y=np.arange(12) % 2, split=np.arange(12) // 10)
    kept, other = (
        load_features(tmp_path / "a.npz", constants=known),
        load_features(tmp_path / "a.npz"),
    )
    positions = np.arange(3)

    def image(data):
        return data.load(positions, train=False, generator=None).inputs["image"]

    assert (image(kept) == image(first)).all()
    assert (image(other) != image(first)).any()
    keys = [data.sample_keys()["image"] for data in (first, kept, other)]
    assert keys[0][:6] == keys[1][:6]
    assert not set(keys[0][6:]) & set(keys[1][6:])
    assert not set(keys[1]) & set(keys[2])
    for wrong in ({"mean": [0.5], "deviation": [1.0]}, {"mean": [0.0] * 3, "deviation": [0.0] * 3}):
        with pytest.raises(UsageError, match="each a list of 3 numbers"):
            load_features(tmp_path / "a.npz", constants={"image": wrong})
    with pytest.raises(UsageError, match="option constants"):
        load_features(tmp_path / "a.npz", constants={"sound": known["image"]})
