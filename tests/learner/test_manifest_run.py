"""Runs over a table whose rows lack modalities."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from rlmba.config import load_config
from rlmba.errors import RlmbaWarning, UsageError
from rlmba.learner import run
from rlmba.tables import write_table
from tests.helpers.media_files import write_image

N = 60


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two classes told by color, words and numbers; each row lacks about a third of it."""
    root = tmp_path_factory.mktemp("rows")
    rng = np.random.default_rng(0)
    rows = {"id": [], "image": [], "text": [], "size": [], "label": [], "split": []}
    for i in range(N):
        y = i % 2
        write_image(root / f"{i}.jpg", seed=i, label=y, size=(40, 36))
        lacks = rng.random(3) < 0.35
        lacks[rng.integers(3)] = False
        rows["id"].append(f"s{i}")
        rows["image"].append(None if lacks[0] else f"{i}.jpg")
        rows["text"].append(None if lacks[1] else ["woof bark", "meow purr"][y] + f" {i}")
        rows["size"].append(None if lacks[2] else 4.0 * y + rng.normal())
        rows["label"].append(["dog", "cat"][y])
        rows["split"].append("test" if i >= 44 else "val" if i >= 36 else None)
    write_table(root / "m.csv", rows)
    rows["label"] = [None if i % 3 == 0 else y for i, y in enumerate(rows["label"])]
    write_table(root / "some.csv", rows)
    return root


def config(path, *settings):
    return load_config(
        overrides={"dataset": "manifest", "data": str(path), "device": "cpu"},
        settings=[
            "dataset_options.image_side=32",
            "dataset_options.tokens=6",
            "model.width=32",
            "rounds=1",
            "batch_size=6",
            "initial_labels=8",
            "training.min_steps=60",
            "training.workers=0",
            *settings,
        ],
    )


@pytest.mark.slow
def test_a_run_with_missing_modalities_learns(folder, tmp_path):
    result = run(config(folder / "m.csv", "strategy=rlmba-x", "fusion=adaptive"), tmp_path / "run")
    assert [r.labels for r in result.records] == [8, 14]
    assert result.records[-1].validation.size == 8
    assert result.records[-1].test.size == 16
    assert result.records[-1].test.mm.top1 > 0.8


def test_unlabeled_rows_are_refused_or_dropped(folder, tmp_path):
    path = folder / "some.csv"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RlmbaWarning)
        with pytest.raises(UsageError, match="15 of 44 training rows of 'some' have no label"):
            run(config(path), tmp_path / "all")
        assert not (tmp_path / "all").exists()
        settings = ("dataset_options.unlabeled=drop", "strategy=random", "rounds=0")
        result = run(config(path, *settings), tmp_path / "some")
    assert len(result.records) == 1


def test_frozen_encoders_keep_what_the_rows_are(folder, tmp_path):
    from rlmba.data import load_manifest
    from rlmba.learner.frozen import load_data
    from rlmba.training import ProcessGroup

    settings = ("model.frozen=true", f"model.features_folder={tmp_path}")
    rows = load_manifest(folder / "some.csv", image_side=32, tokens=6)
    given = config(folder / "some.csv", *settings)
    for _ in range(2):  # computed, then read
        frozen = load_data(given, ProcessGroup.open("cpu", "fp32"))
        assert frozen.labels.tolist() == rows.labels.tolist()
        assert -1 in frozen.labels
        assert frozen.validation_positions.tolist() == rows.validation_positions.tolist()
        assert np.array_equal(frozen.present, rows.present)
        assert frozen.shown(1) == rows.shown(1)
        assert frozen.reading() == rows.reading()
