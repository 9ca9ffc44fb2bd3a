"""Experiments whose first batch is chosen without labels."""

from __future__ import annotations

import json

import numpy as np
import pytest

from rlmba.errors import DataError
from rlmba.learner import configure, initial, read_run, run, run_together
from rlmba.runfolder.store import read_split
from tests.helpers.interrupting import StopAfter, Stopped
from tests.helpers.sweep_runs import TINY


def write(path, n=150):
    """Three classes, each one cluster."""
    rng = np.random.default_rng(0)
    y = np.arange(n) % 3
    arrays = {m: (4 * np.eye(3, 6)[y] + rng.normal(size=(n, 6))).astype("f4") for m in "ab"}
    np.savez(path, **arrays, y=y, split=(np.arange(n) % 4 == 3).astype("u1"))
    return path


@pytest.fixture
def config(tmp_path):
    file = write(tmp_path / "toy.npz")
    sizes = ("rounds", "batch_size", "initial_labels")
    values = {k: v for k, v in TINY.items() if k not in sizes}
    values |= {"dataset": "features", "data": file, "initial_sampling": "herding"}
    return lambda **more: configure({**values, "budgets": [2, 5, 9], "strategy": "margin", **more})


def initial_ids(folder):
    return read_split(folder)["initial"]


def test_it_covers_the_pool(config, tmp_path):
    run(config(budgets=[3, 6]), tmp_path / "run")
    view = read_run(tmp_path / "run")
    assert [r.labels for r in view.records] == [3, 6]
    first = json.loads((tmp_path / "run" / "selected" / "round_000.json").read_text())
    assert first["ids"] == initial_ids(tmp_path / "run")
    assert sorted(first["labels"]) == [0, 1, 2]


@pytest.mark.parametrize("strategy", ["random", "badge", "rlmba"])
def test_it_is_the_same_for_all_strategies(config, tmp_path, strategy):
    run(config(), tmp_path / "margin")
    run(config(strategy=strategy), tmp_path / "other")
    assert initial_ids(tmp_path / "margin") == initial_ids(tmp_path / "other")
    a, b = (read_run(tmp_path / name).records[0].test for name in ("margin", "other"))
    assert a == b


def test_round_0_is_taken_over(config, tmp_path):
    run(config(budgets=[2]), tmp_path / "first")
    run(config(round0=tmp_path / "first"), tmp_path / "run")
    assert initial_ids(tmp_path / "run") == initial_ids(tmp_path / "first")
    a, b = (read_run(tmp_path / name).records[0].test for name in ("first", "run"))
    assert a == b


def test_runs_together_and_resumed(config, tmp_path):
    configs = [config(seed=seed) for seed in (0, 1)]
    run_together(configs, [tmp_path / "a", tmp_path / "b"])
    with pytest.raises(Stopped):
        run(configs[0], tmp_path / "c", observer=StopAfter(1))
    run(configs[0], tmp_path / "c", resume=True)
    assert initial_ids(tmp_path / "c") == initial_ids(tmp_path / "a")
    assert [r.labels for r in read_run(tmp_path / "c").records] == [2, 5, 9]


def test_too_few_readable_samples(config, tmp_path, monkeypatch):
    few = np.array([4, 7]), np.zeros(2)
    monkeypatch.setattr(initial, "first_samples", lambda *_: few)
    with pytest.raises(DataError, match="expected 5 samples to label first, only 2 of the pool's"):
        run(config(budgets=[5, 6]), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("sampling", ["herding", "random"])
@pytest.mark.parametrize("strategy", ["rlmba", "rlmba-x", "bmmal", "gcnal", "deepfool", "bald"])
def test_classes_may_be_missing(config, tmp_path, sampling, strategy):
    given = config(initial_sampling=sampling, strategy=strategy, budgets=[1, 2, 4])
    run(given, tmp_path / "run")
    records = read_run(tmp_path / "run").records
    assert [r.labels for r in records] == [1, 2, 4]
    assert all(np.isfinite(r.test.mm.nll) for r in records)
