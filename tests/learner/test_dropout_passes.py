from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax

from rlmba.cli import main
from rlmba.config import RunConfig
from rlmba.errors import UsageError
from rlmba.learner import read_run, run
from rlmba.strategies.bald import Bald


def change(config: RunConfig, **update) -> RunConfig:
    return RunConfig.model_validate(config.model_dump() | update)


@pytest.fixture
def bald(quick):
    return change(quick, strategy="bald", rounds=2, strategy_options={"passes": 4})


def test_bald_runs_on_the_passes_it_asks_for(bald, tmp_path, monkeypatch):
    seen = []

    def look(self, pool, context, n, stages, choose=Bald.choose):
        seen.append((pool, choose(self, pool, context, n, stages)))
        return seen[-1][1]

    monkeypatch.setattr(Bald, "choose", look)
    records = run(bald, tmp_path / "run").records
    assert [r.labels for r in records] == [20, 30, 40]
    assert all(r.backends["bald_score"] == "cpu" for r in records[1:])
    for pool, choice in seen:
        x = pool.dropout_logits.astype(np.float64)
        assert x.shape == (4, len(pool), 10)
        p = softmax(x, axis=2)
        mean = p.mean(axis=0)
        information = -(mean * np.log(mean)).sum(axis=1) + (p * np.log(p)).sum(axis=2).mean(axis=0)
        assert information.max() > 1e-4
        assert choice.positions.tolist() == np.argsort(-information)[:10].tolist()
        # The passes are drawn around what the head says without dropout.
        assert np.abs(x.mean(axis=0) - pool.fused_logits).mean() < x.std(axis=0).mean()
    first, second = seen
    assert not np.array_equal(first[0].dropout_logits[0, :5], second[0].dropout_logits[0, :5])


@pytest.mark.slow
def test_from_the_command_line(tmp_path):
    settings = ["rounds=2", "initial_labels=20", "batch_size=10", "epochs=1", "model.width=16"]
    arguments = [f"--set={s}" for s in (*settings, "training.min_steps=0", "device=cpu")]
    assert main(["run", "--strategy", "bald", "--output", str(tmp_path / "run"), *arguments]) == 0
    assert [r.labels for r in read_run(tmp_path / "run").records] == [20, 30, 40]
    arguments += ["--set=model.dropout=0"]
    assert main(["run", "--strategy", "bald", "--output", str(tmp_path / "no"), *arguments]) == 2


@pytest.mark.slow
def test_a_run_reproduces(bald, tmp_path):
    a, b = (run(bald, tmp_path / name).path for name in "ab")
    for number in (1, 2):
        files = [next((p / "selected").glob(f"round_*{number}.json")).read_text() for p in (a, b)]
        assert files[0] == files[1]


def test_other_strategies_get_no_passes(quick, tmp_path, monkeypatch):
    from rlmba.learner import network as module

    def refuse(*_args, **_options):
        raise AssertionError("nobody asked for dropout passes")

    monkeypatch.setattr(module, "dropout_logits", refuse)
    assert len(run(change(quick, strategy="entropy", rounds=1), tmp_path / "run").records) == 2


def test_without_dropout_it_is_refused_before_any_work(bald, tmp_path):
    config = change(bald, model=bald.model.model_dump() | {"dropout": 0.0})
    with pytest.raises(UsageError, match=r"model\.dropout is 0.*set model\.dropout"):
        run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_deepfool_runs(quick, tmp_path):
    records = run(change(quick, strategy="deepfool", rounds=2), tmp_path / "run").records
    assert [r.labels for r in records] == [20, 30, 40]
    assert all(r.backends["deepfool_distance"] == "cpu" for r in records[1:])
    concat = change(quick, strategy="deepfool", rounds=1, fusion="concat")
    assert len(run(concat, tmp_path / "concat").records) == 2
