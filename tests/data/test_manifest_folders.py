"""Folders of images and sounds as Hugging Face has them: class folders, and tables of metadata."""

from __future__ import annotations

import json

import numpy as np
import pytest

from rlmba.cli import main
from rlmba.data import load_dataset, load_huggingface, load_manifest
from rlmba.errors import DataError, RlmbaWarning
from rlmba.tables import write_table
from tests.helpers.media_files import write_image, write_wav

IMAGES = {"image_side": 32}


def images(folder, names):
    for k, name in enumerate(names):
        write_image(folder / name, seed=k, label=k % 2)


def both(folder, **options):
    """The folder read as both data sets, which are equal."""
    manifest = load_dataset("manifest", data=folder, options=options)
    other = load_dataset("huggingface", data_root=folder, options=options)
    assert manifest.found() == other.found()
    assert manifest.fingerprint() == other.fingerprint()
    return manifest


def test_class_folders_and_splits(tmp_path):
    names = [f"{s}/{c}/{i}.jpg" for s in ("train", "test") for c in ("cat", "dog") for i in "12"]
    images(tmp_path, [*names, "unlabeled/1.jpg"])
    (tmp_path / "README.md").write_text("about")
    (tmp_path / ".cache").mkdir()
    images(tmp_path / ".cache", ["x.jpg"])
    dataset = both(tmp_path, **IMAGES)
    assert dataset.classes == ("cat", "dog")
    assert set(dataset.ids) == {*names, "unlabeled/1.jpg"}
    split = {i: s for s, at in (("test", dataset.test_positions),) for i in dataset.ids[at]}
    assert set(split) == {n for n in names if n.startswith("test")}
    labels = dict(zip(dataset.ids.tolist(), dataset.labels.tolist(), strict=True))
    assert labels == {n: int("dog" in n) for n in names} | {"unlabeled/1.jpg": -1}
    assert any("column 'class folder'; 8 of 9 rows" in line for line in dataset.found())
    batch = dataset.batch(np.arange(9), train=False, generator=None).inputs
    assert batch["image"].shape == (9, 3, 28, 28)
    again = load_manifest(tmp_path, reading=dataset.reading())
    assert again.ids.tolist() == dataset.ids.tolist()


def test_folders_without_classes_and_sounds_next_to_images(tmp_path):
    images(tmp_path, ["a.jpg", "b.jpg", "c.jpg"])
    write_wav(tmp_path / "a.wav", seconds=0.2)
    with pytest.warns(RlmbaWarning, match=r"1 files have another kind than image .* 'a.wav'"):
        dataset = load_manifest(tmp_path, **IMAGES)
    assert dataset.ids.tolist() == ["a.jpg", "b.jpg", "c.jpg"]
    assert dataset.labels.tolist() == [-1] * 3
    assert "labels: no column of labels" in dataset.found()


@pytest.mark.filterwarnings("ignore:.*a test row without a label")
def test_classes_that_are_called_like_splits(tmp_path):
    images(tmp_path, ["pool/1.jpg", "beach/2.jpg", "test/3.jpg"])
    assert both(tmp_path, **IMAGES).classes == ("beach", "pool", "test")
    images(tmp_path, ["train/1.jpg"])
    with pytest.raises(DataError, match=r"got 'beach'; the splits are 'beach', .*'train'"):
        load_huggingface(tmp_path)
    splits = {"beach": "train", "pool": None}
    dataset = load_huggingface(tmp_path, splits=splits, **IMAGES)
    assert dataset.ids.tolist() == ["beach/2.jpg", "train/1.jpg"]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_metadata_in_the_folder(tmp_path, suffix):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    names = [f"img/{i}.jpg" for i in range(4)]
    images(tmp_path, [*names, "img/other.jpg"])
    table = {"file_name": names, "text": ["a", "b", "c", "d"], "label": ["x", "y", "x", None]}
    path = tmp_path / f"metadata{suffix}"
    write_table(path, table)
    with pytest.warns(RlmbaWarning, match=r"1 files are not in the metadata .* 'img/other.jpg'"):
        dataset = load_manifest(tmp_path, **IMAGES)
    direct = load_manifest(path, **IMAGES)
    for d in (dataset, direct):
        assert d.ids.tolist() == names
        assert [m.name for m in d.modalities] == ["text", "image"]
        assert d.labels.tolist() == [0, 1, 0, -1]
    assert dataset.found()[1:] == direct.found()[1:]
    again = load_manifest(path, reading=dataset.reading())
    assert again.shown(1)["image"] == dataset.shown(1)["image"]


def test_metadata_in_each_split_with_ids_and_class_folders(tmp_path):
    for split in ("train", "validation"):
        names = [f"{c}/{i}.jpg" for c in "ab" for i in range(2)]
        images(tmp_path / split, names)
        rows = {"file_name": names, "id": [f"{split[0]}{k}" for k in range(4)]}
        if split == "train":
            rows["age"] = [1.5, 2.5, 0.5, 9.5]
        write_table(tmp_path / split / "metadata.csv", rows)
    dataset = both(tmp_path, **IMAGES)
    assert dataset.ids.tolist() == [f"{s}{k}" for s in "tv" for k in range(4)]
    assert dataset.labels.tolist() == [0, 0, 1, 1] * 2
    assert dataset.validation_positions.tolist() == [4, 5, 6, 7]
    assert [m.name for m in dataset.modalities] == ["image", "features"]
    unknown = load_manifest(tmp_path, no_label=["a", "b"], **IMAGES)
    assert unknown.labels.tolist() == [-1] * 8


def test_an_audio_folder_and_a_column_of_several_files(tmp_path):
    for i in range(3):
        write_wav(tmp_path / f"{i}.wav", seed=i, seconds=0.3)
        write_image(tmp_path / f"{i}.png", seed=i)
    rows = [{"file_name": f"{i}.wav", "transcription": "t", "label": i % 2} for i in range(3)]
    text = "\n".join(map(json.dumps, rows))
    (tmp_path / "metadata.jsonl").write_text(text)
    with pytest.warns(RlmbaWarning, match="3 files are not in the metadata"):
        dataset = load_huggingface(tmp_path, sample_rate=4000)
    assert [m.name for m in dataset.modalities] == ["audio"]
    rows = [{"image_file_name": f"{i}.png", "audio_file_name": f"{i}.wav", "id": i} for i in "012"]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    dataset = both(tmp_path, sample_rate=4000, **IMAGES)
    assert [m.name for m in dataset.modalities] == ["image", "audio"]


def test_what_cannot_be_a_folder_of_media(tmp_path):
    with pytest.raises(DataError, match=r"expected images, .* found none"):
        load_manifest(tmp_path)
    images(tmp_path, ["1.jpg"])
    (tmp_path / "metadata.csv").write_text("name,label\n1.jpg,x\n")
    with pytest.raises(
        DataError, match=r"expected a column 'file_name' .* got \['name', 'label'\]"
    ):
        load_manifest(tmp_path)
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "1.jpg"}\n')
    with pytest.raises(DataError, match="expected one table of metadata"):
        load_manifest(tmp_path)


@pytest.mark.parametrize("flag", ["--manifest", "--huggingface"])
def test_a_project_from_class_folders(tmp_path, flag, capsys):
    images(tmp_path / "data", [f"{c}/{i}.jpg" for c in ("cat", "dog") for i in range(8)])
    project = tmp_path / "project"
    options = ["--from-scratch", "--set", "dataset_options.image_side=32"]
    assert main(["init", str(project), flag, str(tmp_path / "data"), *options]) == 0
    assert "classes: 2 (cat, dog)" in capsys.readouterr().out
