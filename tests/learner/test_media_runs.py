"""Whole runs on real media files, from folders, caches and features of frozen encoders."""

from __future__ import annotations

import json
import shlex

import numpy as np
import pytest

from rlmba.cli import main
from rlmba.data import load_dataset
from rlmba.errors import RlmbaWarning
from tests.helpers.media_sets import CLIP_DAMAGES, FOOD_DAMAGES, make_food101, make_vggsound

SMALL = {
    "rounds": 2,
    "initial_labels": 3,
    "batch_size": 2,
    "epochs": 1,
    "model.width": 16,
    "training.predict_batch_size": 8,
    "dataset_options.observed_classes": "true",
}
CLIPS = {  # small networks
    "model.encoders.video": "{name: cnn, channels: [4, 8]}",
    "model.encoders.audio": "{name: cnn, channels: [4, 8]}",
}
PAPER = {"model.encoders.video.weights": "random"}  # the networks of the paper, untrained
RECIPES = {
    "model.encoders.text": "{name: bert-base, weights: random, layers: 1, width: 32, heads: 2}",
    "model.encoders.image": "{name: resnet18, weights: random}",
    "dataset_options.tokenizer": "words",
}


def settings(*several, **more):
    merged = {k: v for one in [*several, more] for k, v in one.items()}
    return [word for key, value in merged.items() for word in ("--set", f"{key}={value}")]


def rounds(folder):
    records = [json.loads(line) for line in (folder / "rounds.jsonl").read_text().splitlines()]
    ids = [
        i
        for path in sorted((folder / "selected").iterdir())
        for i in json.loads(path.read_text())["ids"]
    ]
    return records, ids


@pytest.fixture(autouse=True)
def own_cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))


@pytest.fixture(scope="module")
def vggsound(tmp_path_factory):
    root = tmp_path_factory.mktemp("vggsound")
    return root, make_vggsound(root, train=3, test=1, damages=CLIP_DAMAGES)


@pytest.mark.slow
def test_vggsound_from_clips(vggsound, tmp_path, capsys):
    root, made = vggsound
    out = tmp_path / "run"
    arguments = ["run", "--dataset", "vggsound", "--data-root", str(root), "--output", str(out)]
    given = settings(SMALL, CLIPS, {"training.workers": 1})
    with pytest.warns(RlmbaWarning, match="could not be read"):
        assert main([*arguments, *given]) == 0
    records, ids = rounds(out)
    assert [r["labels"] for r in records] == [3, 5, 7]
    assert len(set(ids)) == 7
    # A file that is not there is known at once; one that is there but broken when it is read.
    assert not {m.id for m in made if m.damage == "missing"} & set(ids)
    assert all(r["test"]["size"] == 3 for r in records)
    assert list(records[0]["weights"]) == ["video", "audio"]
    assert "learning_curve.png" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("frozen", [False, True])
def test_a_subset_is_one_error_whose_command_works(tmp_path, capsys, frozen):
    """The preset asks for 7,000 labels; the folder has 4 clips of 3 classes. Nothing is decoded before."""
    root, out = tmp_path / "clips", tmp_path / "run"
    make_vggsound(root, train=4, test=1)
    networks = PAPER if frozen else {**CLIPS, "model.width": 16}
    given = settings(networks, {"model.frozen": str(frozen).lower(), "epochs": 11})
    arguments = ["run", "--dataset", "vggsound", "--data-root", str(root), "--output", str(out)]
    with pytest.warns(RlmbaWarning, match="only 12 of"):
        assert main([*arguments, *given]) == 2
    said = capsys.readouterr().err
    assert "got none of 306" in said
    assert "expected 3 (one per class) to 9" in said
    assert "the budget exceeds the pool" in said
    assert "frozen encoders" not in said
    assert not out.exists()
    command = said.partition("This command fits the data: rlmba ")[2].splitlines()[0]
    with pytest.warns(RlmbaWarning, match="only 12 of"):
        assert main([*shlex.split(command), "--set", "rounds=1"]) == 0
    assert [r["labels"] for r in rounds(out)[0]] == [3, 4]


@pytest.mark.slow
def test_vggsound_prepared_and_frozen(vggsound, tmp_path, capsys):
    root, made = vggsound
    cache, out = tmp_path / "cache", tmp_path / "run"
    assert main(["data", "prepare", "vggsound", str(root), "--cache", str(cache)]) == 0
    frozen = {"model.frozen": "true", "model.features_folder": tmp_path / "kept"}
    run = ["run", "--dataset", "vggsound", "--data-root", str(cache)]
    assert main([*run, "--output", str(out), *settings(SMALL, PAPER, frozen)]) == 0
    records, ids = rounds(out)
    assert [r["labels"] for r in records] == [3, 5, 7]
    unusable = {"missing", "no-audio", "empty-file"}
    assert not {m.id for m in made if m.damage in unusable} & set(ids)
    assert "samples with frozen encoders, once" in capsys.readouterr().err

    # Computed once: the next run takes what is kept, and ends the same.
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "kept").iterdir()}
    assert len(kept) == 2
    assert main([*run, "--output", str(tmp_path / "b"), *settings(SMALL, PAPER, frozen)]) == 0
    assert "frozen encoders" not in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert rounds(tmp_path / "b")[1] == ids

    # The same features as a file of one's own, for `features`.
    file = tmp_path / "features.npz"
    given = settings(PAPER, {"dataset_options.observed_classes": "true"})
    command = ["data", "features", "vggsound", str(cache), "--out", str(file), *given]
    assert main([*command, "--set", "training.predict_batch_size=8"]) == 0
    dataset = load_dataset("features", data=file)
    assert [(m.name, m.shape) for m in dataset.modalities] == [("video", (512,)), ("audio", (512,))]
    with np.load(file) as written:
        assert set(ids) <= set(written["ids"].tolist())
        assert written["classes"].tolist() == ["dog barking", "playing violin, fiddle", "thunder"]
        assert (written["video"].std(axis=0) > 0).any()


@pytest.mark.slow
def test_food101_with_samples_that_lack_a_modality(tmp_path):
    root, out = tmp_path / "food", tmp_path / "run"
    made = make_food101(root, train=5, damages=FOOD_DAMAGES)
    keep = {"dataset_options.incomplete": "keep", "training.workers": 0, "rounds": 1}
    arguments = ["run", "--dataset", "food101", "--data-root", str(root), "--output", str(out)]
    assert main([*arguments, *settings(SMALL, RECIPES, keep, {"batch_size": 20})]) == 0
    records, ids = rounds(out)
    assert [r["labels"] for r in records] == [3, 23]
    assert len(set(ids)) == 23
    assert set(ids) <= {m.id for m in made}
    # Nearly all of the pool was taken: samples without a text or an image are among them.
    assert {m.id for m in made if m.damage in ("missing-text", "missing-image", "cmyk")} & set(ids)


def test_weights_that_are_nowhere_are_an_error_before_any_work(vggsound, tmp_path, capsys):
    out = tmp_path / "run"
    arguments = ["run", "--dataset", "vggsound", "--data-root", str(vggsound[0])]
    given = settings(SMALL, {"model.encoders.video.weights": str(tmp_path / "none.pth")})
    assert main([*arguments, "--output", str(out), *given]) == 2
    assert "random" in capsys.readouterr().err
    assert not out.exists()
