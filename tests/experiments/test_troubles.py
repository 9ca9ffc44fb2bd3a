"""The copies of the small data sets with trouble that examples/small_sets.py makes."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest

from rlmba.data import load_dataset

SCRIPT = Path(__file__).parents[2] / "examples" / "small_sets.py"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("sets")
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(4), [200, 160, 120, 100])
    centers = 3 * rng.normal(size=(4, 5))
    source = made / "toy.npz"
    np.savez(
        source,
        image=(centers[y] + rng.normal(size=(len(y), 5))).astype(np.float16),
        text=rng.normal(size=(len(y), 3)).astype(np.float16),
        y=y,
        split=(np.arange(len(y)) % 5 == 0).astype(np.uint8),
    )
    script = runpy.run_path(str(SCRIPT))
    (made / "out").mkdir()
    script["prepare"](source, made / "out", list(script["TROUBLES"]))
    return made / "out"


def load(folder, trouble):
    clean = load_dataset("features", data=folder / "toy.npz")
    return clean, load_dataset("features", data=folder / f"toy-{trouble}.npz")


def arrays(folder, name, split):
    """The modalities of the test (1) or training (0) samples in a file."""
    with np.load(folder / f"{name}.npz") as file:
        rows = file["split"] == split
        return {m: file[m][rows].astype(np.float32) for m in ("image", "text")}


@pytest.mark.parametrize("trouble", ["missing", "long-tail", "duplicates", "noise"])
def test_test_samples_stay_as_they_are(folder, trouble):
    clean, made = load(folder, trouble)
    np.testing.assert_array_equal(
        made.labels[made.test_positions], clean.labels[clean.test_positions]
    )
    a, b = arrays(folder, "toy", 1), arrays(folder, f"toy-{trouble}", 1)
    for m in a:
        np.testing.assert_array_equal(a[m], b[m])
    assert made.present is None or made.present[made.test_positions].all()


def test_missing(folder):
    clean, made = load(folder, "missing")
    lacking = ~made.present[made.train_positions]
    assert lacking.sum(axis=0).tolist() == [0, round(0.3 * len(clean.train_positions))]


def test_long_tail(folder):
    _, made = load(folder, "long-tail")
    counts = np.bincount(made.labels[made.train_positions])
    assert counts[0] / counts[3] == pytest.approx(20, rel=0.2)
    np.testing.assert_allclose(counts[:-1] / counts[1:], 20 ** (1 / 3), rtol=0.1)


def test_duplicates(folder):
    clean, made = load(folder, "duplicates")
    n = len(clean.train_positions)
    assert len(made.train_positions) == 5 * n
    x = arrays(folder, "toy-duplicates", 0)["image"].reshape(n, 5, -1)
    away = np.linalg.norm(x - x.mean(axis=1, keepdims=True), axis=2).mean()
    apart = np.linalg.norm(x[:, 0] - x[:, 0].mean(axis=0), axis=1).mean()
    assert 0.02 * apart < away < 0.2 * apart


def test_noise(folder):
    clean, made = load(folder, "noise")
    wrong = made.labels != clean.labels
    assert wrong.sum() == round(0.1 * len(clean.train_positions))
    assert set(np.flatnonzero(wrong)) <= set(clean.train_positions)
