"""Runs whose rounds are given by numbers of labels."""

from __future__ import annotations

import pytest

from rlmba.config import RunConfig
from rlmba.data import load_dataset
from rlmba.errors import RunFolderError, UsageError
from rlmba.learner import configure, read_run, run
from rlmba.learner.settings import resolve
from tests.helpers.interrupting import StopAfter, Stopped
from tests.helpers.sweep_runs import TINY, write_features

ROUNDS = ("rounds", "batch_size", "initial_labels")


@pytest.fixture
def config(tmp_path):
    tiny = {k: v for k, v in TINY.items() if k not in ROUNDS}
    data = {"dataset": "features", "data": write_features(tmp_path / "toy.npz")}
    return lambda **more: configure({**data, **tiny, "strategy": "margin", **more})


def labels(folder):
    return [record.labels for record in read_run(folder).records]


def test_every_round_reaches_its_count(config, tmp_path):
    run(config(budgets=[6, 7, 15, 33]), tmp_path / "run")
    assert labels(tmp_path / "run") == [6, 7, 15, 33]
    resumed = run(config(budgets=[6, 7, 15, 33]), tmp_path / "run", resume=True)
    assert len(resumed.records) == 4
    with pytest.raises(RunFolderError, match="budgets is"):
        run(config(budgets=[6, 7, 15]), tmp_path / "run", resume=True)


def test_counts_per_class(config, tmp_path):
    run(config(budgets_per_class=[1, 2, 4]), tmp_path / "run")
    assert labels(tmp_path / "run") == [3, 6, 12]
    stored = read_run(tmp_path / "run").config
    assert (stored.budgets, stored.budgets_per_class, stored.rounds) == ([3, 6, 12], None, None)


def test_even_counts_are_the_rounds_that_they_stand_for(config, tmp_path):
    run(config(budgets=[6, 12, 18]), tmp_path / "a")
    run(config(rounds=2, batch_size=6, initial_labels=6), tmp_path / "b")
    a, b = (read_run(tmp_path / name) for name in "ab")
    assert [r.test for r in a.records] == [r.test for r in b.records]


def test_an_interrupted_run_resumes_within_the_counts(config, tmp_path):
    given = config(budgets=[6, 7, 15])
    with pytest.raises(Stopped):
        run(given, tmp_path / "run", observer=StopAfter(2))
    run(given, tmp_path / "run", resume=True)
    assert labels(tmp_path / "run") == [6, 7, 15]


def test_round_0_of_another_run(config, tmp_path):
    run(config(rounds=0, batch_size=6, initial_labels=6), tmp_path / "first")
    run(config(budgets=[6, 8], round0=tmp_path / "first"), tmp_path / "run")
    with pytest.raises(UsageError, match="initial_labels is 6 there and 7 here"):
        run(config(budgets=[7, 8], round0=tmp_path / "first"), tmp_path / "other")


def test_a_baseline_may_have_more_counts(config, tmp_path):
    run(config(budgets=[6, 7, 15, 20]), tmp_path / "base")
    reward = {
        "reward.kind": "relative",
        "reward.curves": [str(tmp_path / "base")],
        "reward.baselines": ["margin"],
        "strategy": "rlmba-x",
    }
    run(config(budgets=[6, 7, 15], **reward), tmp_path / "run")
    assert read_run(tmp_path / "run").records[2].raw_reward is not None
    with pytest.raises(UsageError, match="budgets="):
        run(config(budgets=[6, 9], **reward), tmp_path / "other")
    with pytest.raises(UsageError, match="budgets="):
        run(config(budgets=[6, 7, 15, 20, 30], **reward), tmp_path / "longer")


def test_more_labels_than_the_pool_has(quick: RunConfig):
    dataset = load_dataset("digits")
    values = {k: v for k, v in quick.model_dump().items() if k not in ROUNDS}
    most = len(dataset.train_positions)
    too_many = RunConfig.model_validate({**values, "budgets": [20, 40, most]})
    with pytest.raises(UsageError, match=r"budgets: the last .* counts that fit: 20, 40"):
        resolve(too_many, dataset)
