"""Folders of the library datasets as data sets."""

from __future__ import annotations

import importlib.util
import io
import json
import re
import shlex
import sys

import numpy as np
import pytest
from PIL import Image

from rlmba.config import parse_settings
from rlmba.data import load_dataset, load_huggingface
from rlmba.data.manifest.splits import split_numbers
from rlmba.errors import DataError, RlmbaWarning, UsageError
from tests.helpers.media_files import picture, sound, write_wav

datasets = pytest.importorskip("datasets")


def png(seed):
    buffer = io.BytesIO()
    Image.fromarray(picture(seed, (40, 36), seed % 2)).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": None}


def rows(n, seed=0, **changes):
    """Images inside the rows, texts, lists, numbers, and two classes."""
    features = {
        "picture": datasets.Image(),
        "caption": datasets.Value("string"),
        "vector": datasets.Sequence(datasets.Value("float32")),
        "age": datasets.Value("float64"),
        "kind": datasets.ClassLabel(names=["dog", "cat"]),
    }
    values = {
        "picture": [png(seed + i) for i in range(n)],
        "caption": [f"words {i}" for i in range(n)],
        "vector": [[float(i), 1.0] for i in range(n)],
        "age": [1.5 * i for i in range(n)],
        "kind": [i % 2 for i in range(n)],
        **changes,
    }
    return datasets.Dataset.from_dict(values, features=datasets.Features(features))


@pytest.fixture
def saved(tmp_path):
    def save(data):
        path = tmp_path / "saved"
        data.save_to_disk(str(path))
        return path

    return save


def test_images_inside_rows_that_only_people_see(saved, tmp_path):
    options = {"media": tmp_path / "media", "shown_columns": ["picture"], "hidden_columns": ["age"]}
    dataset = load_huggingface(saved(rows(6)), **options)
    assert [m.name for m in dataset.modalities] == ["text", "features", "vector"]
    shown = dataset.shown(2)
    assert list(shown) == ["text", "picture"]
    assert shown["picture"].read_bytes() == png(2)["bytes"]


def test_splits_classes_and_images_inside_rows(saved, tmp_path):
    parts = {"train": rows(6), "validation": rows(2, 6), "test": rows(3, 8, kind=[0, -1, 1])}
    path = saved(datasets.DatasetDict(parts))
    options = {"media": tmp_path / "media", "image_side": 32}
    with pytest.warns(RlmbaWarning, match="a test row without a label.: 'test-000001'"):
        dataset = load_dataset("huggingface", data_root=path, options=options)
    assert [m.name for m in dataset.modalities] == ["text", "image", "features", "vector"]
    assert dataset.classes == ("dog", "cat")
    assert dataset.labels.tolist() == [0, 1, 0, 1, 0, 1, 0, 1, 0, 1]
    assert dataset.ids[:2].tolist() == ["train-000000", "train-000001"]
    assert dataset.ids[dataset.validation_positions].tolist() == [
        "validation-000000",
        "validation-000001",
    ]
    assert dataset.ids[dataset.test_positions].tolist() == ["test-000000", "test-000002"]
    shown = dataset.shown(0)["image"]
    assert shown.suffix == ".png"
    assert shown.read_bytes() == png(0)["bytes"]
    inputs = dataset.batch(np.arange(2), train=False, generator=None).inputs
    assert inputs["image"].shape == (2, 3, 28, 28)
    assert inputs["image"].std() > 0


def test_files_are_written_once_and_again_where_they_are_damaged(saved, tmp_path):
    path = saved(rows(4))
    first = load_huggingface(path, media=tmp_path / "media")
    files = sorted((tmp_path / "media").rglob("*.png"))
    assert len(files) == 4
    files[0].write_bytes(b"")
    before = [f.stat().st_mtime_ns for f in files[1:]]
    second = load_huggingface(path, media=tmp_path / "media")
    assert [f.stat().st_mtime_ns for f in files[1:]] == before
    assert files[0].stat().st_size > 0
    assert first.ids.tolist() == second.ids.tolist() == [f"row-{i:06d}" for i in range(4)]
    assert first.fingerprint() == second.fingerprint()


def test_sounds_by_path_ids_and_reading(saved, tmp_path):
    wavs = [str(write_wav(tmp_path / f"{i}.wav", seed=i, label=i, seconds=0.5)) for i in range(3)]
    data = datasets.Dataset.from_dict(
        {"id": ["x", "y", "z"], "sound": wavs, "label": ["a", "b", None]}
    )
    features = data.features.copy()
    features["sound"] = datasets.Audio(decode=False)
    path = saved(data.cast(features))
    dataset = load_huggingface(path, media=tmp_path / "media", sample_rate=4000)
    assert dataset.ids.tolist() == ["x", "y", "z"]
    assert dataset.labels.tolist() == [0, 1, -1]
    assert [m.name for m in dataset.modalities] == ["audio"]
    again = load_huggingface(path, media=tmp_path / "media", reading=dataset.reading())
    ours, theirs = (
        d.batch(np.arange(3), train=False, generator=None).inputs for d in (dataset, again)
    )
    assert (ours["audio"] == theirs["audio"]).all()
    assert again.labels.tolist() == [-1] * 3


def test_sound_inside_rows_gets_its_suffix(saved, tmp_path):
    written = write_wav(tmp_path / "a.wav", seconds=0.5)
    assert len(sound(0, 0, 0.5, 16_000)) == 8000
    data = datasets.Dataset.from_dict(
        {"audio": [{"bytes": written.read_bytes(), "path": None}] * 2}
    )
    features = datasets.Features({"audio": datasets.Audio(decode=False)})
    dataset = load_huggingface(saved(data.cast(features)), media=tmp_path / "media")
    assert dataset.shown(0)["audio"].suffix == ".wav"


def test_cells_mean_what_they_mean_in_any_table(saved):
    columns = {
        "id": [7.0, 8.0, 2.0**52, 9.0],
        "x": [0.5, 1.5, 2.5, 3.5],
        "label": [1.0, float("nan"), 0.0, None],
    }
    dataset = load_huggingface(saved(datasets.Dataset.from_dict(columns)))
    assert dataset.ids.tolist() == ["7", "8", "4503599627370496", "9"]
    assert dataset.classes == ("0", "1")
    assert dataset.labels.tolist() == [1, -1, 0, -1]


FORMATS = {
    "torch": "torch",
    "numpy": "numpy",
    "pandas": "pandas",
    "polars": "polars",
    "arrow": "pyarrow",
    "jax": "jax",
    "tensorflow": "tensorflow",
}


@pytest.mark.parametrize("name", FORMATS)
def test_the_format_it_was_saved_with_changes_nothing(name, saved, tmp_path):
    """Class labels with an empty one, lists, numbers, images inside rows, whole numbers as ids."""
    pytest.importorskip(FORMATS[name])
    plain = rows(4, kind=[0, None, 1, 0]).add_column("id", [7, 8, 9, 10])
    expected = load_huggingface(saved(plain), media=tmp_path / "media")
    for columns in (None, ["age"]):
        formatted = datasets.DatasetDict({"train": plain.with_format(name, columns=columns)})
        formatted.save_to_disk(str(tmp_path / f"{columns}"))
        got = load_huggingface(tmp_path / f"{columns}", media=tmp_path / "media")
        assert got.found()[1:] == expected.found()[1:]
        batches = [
            d.batch(np.arange(4), train=False, generator=None).inputs for d in (got, expected)
        ]
        for modality, values in batches[1].items():
            assert (batches[0][modality] == values).all()
        assert got.labels.tolist() == [0, -1, 1, 0]
        assert got.ids.tolist() == ["7", "8", "9", "10"]


def test_a_format_whose_library_is_not_there(saved):
    path = saved(rows(4))
    state = json.loads((path / "state.json").read_text())
    (path / "state.json").write_text(json.dumps({**state, "_format_type": "jax"}))
    if importlib.util.find_spec("jax"):
        pytest.skip("jax is installed")
    with pytest.raises(UsageError, match=r"JAX needs to be installed.*with_format\(None\)"):
        load_huggingface(path)


def test_rows_chosen_and_shuffled_before_they_were_saved(saved, tmp_path):
    chosen = rows(8).shuffle(seed=1).select([3, 1, 5])
    dataset = load_huggingface(saved(chosen), media=tmp_path / "media")
    assert [dataset.shown(i)["text"] for i in range(3)] == chosen["caption"][:]
    assert dataset.labels.tolist() == chosen["kind"][:]


def test_what_is_nested_is_not_decoded(saved, tmp_path):
    """Images in lists are no modality; that one is damaged does not matter."""
    image = {"bytes": b"damaged", "path": None}
    features = {
        "text": datasets.Value("string"),
        "label": datasets.Value("string"),
        "pages": datasets.Sequence(datasets.Image()),
        "page": {"scan": datasets.Image(), "note": datasets.Value("string")},
    }
    values = {
        "text": ["one", None, "two"],
        "label": ["x", "y", "x"],
        "pages": [[image], [], None],
        "page": [{"scan": image, "note": None}, None, None],
    }
    data = datasets.Dataset.from_dict(values, features=datasets.Features(features))
    with pytest.warns(RlmbaWarning, match="1 left out"):
        dataset = load_huggingface(saved(data), media=tmp_path / "media")
    assert [m.name for m in dataset.modalities] == ["text"]
    assert dataset.ids.tolist() == ["row-000000", "row-000002"]


def test_splits_of_other_names_are_mapped(saved, tmp_path):
    """The error's own option works; ids keep the names of the splits."""
    names = ["Training", "train.extra", "validation_matched", "old"]
    path = saved(datasets.DatasetDict({name: rows(4) for name in names}))
    with pytest.raises(
        DataError,
        match=r"got 'train.extra'; the splits are 'Training', 'train.extra', .*`--set",
    ) as error:
        load_huggingface(path)
    _, setting = shlex.split(re.search("`(.*)`", str(error.value))[1])
    given = parse_settings([setting])["dataset_options"]["splits"]
    assert given == {"train.extra": "train", "validation_matched": "validation", "old": "train"}
    media = tmp_path / "media"
    dataset = load_huggingface(path, media=media, splits={**given, "OLD": None, "old": None})
    assert len(dataset) == 12
    assert dataset.ids[dataset.validation_positions][0] == "validation_matched-000000"
    assert dataset.ids[4] == "train.extra-000000"
    with pytest.raises(UsageError, match="null for 'old', got 'extra'"):
        load_huggingface(path, splits={"old": "extra"})
    with pytest.raises(UsageError, match=r"names of splits that occur, 'Training', .* got 'tests'"):
        load_huggingface(path, splits={**given, "tests": "test"})
    with pytest.raises(UsageError, match=r"such as \{holdout: test, old: null\}, got \['old'\]"):
        load_huggingface(path, splits=["old"])


def test_slices_of_splits_and_a_split_without_labels(saved):
    """The first split has no column of labels; the classes are those of the other."""
    labeled = datasets.Dataset.from_dict({"text": ["a", "b"], "kind": [0, 1]})
    labeled = labeled.cast_column("kind", datasets.ClassLabel(names=["x", "y"]))
    pool = datasets.Dataset.from_dict({"text": ["c", "d", "e"]})
    saved_to = saved(datasets.DatasetDict({"pool": pool, "dev": labeled}))
    dataset = load_huggingface(saved_to)
    assert dataset.classes == ("x", "y")
    assert dataset.labels.tolist() == [-1, -1, -1, 0, 1]
    assert dataset.validation_positions.tolist() == [3, 4]
    assert split_numbers({"train[:80%]": "", "TEST[80%:]": ""}, {}) == {
        "train[:80%]": 0,
        "TEST[80%:]": 2,
    }


def test_a_column_of_splits_in_a_data_set_without_splits(saved):
    columns = {"text": ["a", "b", "c"], "split": ["train", "holdout", "old"], "label": [0, 1, 1]}
    path = saved(datasets.Dataset.from_dict(columns))
    with pytest.raises(DataError, match=r"row 2: column 'split': .* got 'holdout'"):
        load_huggingface(path)
    dataset = load_huggingface(path, splits={"holdout": "test", "old": None})
    assert dataset.ids.tolist() == ["row-000000", "row-000001"]
    assert dataset.test_positions.tolist() == [1]
    assert dataset.left_out == {"row-000002": "the option splits leaves its split out"}


def test_repeated_ids_get_a_number(saved):
    train = datasets.Dataset.from_dict({"id": [7.0, 8.0, 7.0], "text": ["a", "b", "c"]})
    test = datasets.Dataset.from_dict({"id": [7.0, 9.0], "text": ["d", "e"], "label": ["x", "y"]})
    path = saved(datasets.DatasetDict({"train": train, "test": test}))
    with pytest.warns(RlmbaWarning, match=r"1 ids .* repeated; 2 later rows .*: '7' \('7-2'\)"):
        dataset = load_huggingface(path)
    assert dataset.ids.tolist() == ["7", "8", "7-2", "7-3", "9"]
    distinct = datasets.Dataset.from_dict({"id": ["7", "7-2", "7"], "text": ["a", "b", "c"]})
    distinct.save_to_disk(str(path.parent / "other"))
    with pytest.warns(RlmbaWarning, match="1 later rows"):
        dataset = load_huggingface(path.parent / "other")
    assert dataset.ids.tolist() == ["7", "7-2", "7-3"]


def test_two_columns_of_classes_have_to_be_told_apart(saved):
    data = (
        rows(4)
        .add_column("other", [0, 1, 0, 1])
        .cast_column("other", datasets.ClassLabel(names=["a", "b"]))
    )
    path = saved(data)
    with pytest.raises(UsageError, match=r"\['kind', 'other'\]; choose the label .*label=kind"):
        load_huggingface(path)
    assert load_huggingface(path, label="other", columns={"image": None}).classes == ("a", "b")


def test_what_cannot_be_read(tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r"no such folder; .*dataset_options.name=NAME"):
        load_huggingface(tmp_path / "nowhere")
    with pytest.raises(
        DataError, match=r"expected images, .* found none; a folder that save_to_disk"
    ):
        load_huggingface(tmp_path)
    with pytest.raises(UsageError, match=r"a folder .* or a name of the hub .* got neither"):
        load_dataset("huggingface")
    with pytest.raises(UsageError, match="got both"):
        load_huggingface(tmp_path, name="x")
    (tmp_path / "state.json").write_text("{}")
    with pytest.raises(DataError, match="expected a folder that save_to_disk wrote"):
        load_huggingface(tmp_path)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UsageError, match=r'not installed; pip install "rlmba\[hf\]"'):
        load_huggingface(tmp_path)


def test_a_name_that_the_hub_does_not_give(monkeypatch):
    monkeypatch.setattr(
        "rlmba.data.manifest.huggingface.out_of_reach", lambda name, dataset: "no route"
    )
    with pytest.raises(
        UsageError, match=r"'a/b' could not be loaded from the hub \(no route\); .*save_to_disk"
    ):
        load_huggingface(name="a/b")


def test_a_damaged_folder(saved):
    path = saved(rows(4))
    arrow = next(path.glob("*.arrow"))
    arrow.write_bytes(arrow.read_bytes()[:100])
    with pytest.raises(DataError, match="damaged"):
        load_huggingface(path)
