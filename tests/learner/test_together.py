"""Runs that go together leave what each leaves alone; a round 0 is taken over where it fits."""

from __future__ import annotations

import dataclasses
import json
import shutil

import numpy as np
import pytest

from rlmba.config import RunConfig
from rlmba.errors import PluginError, RunFolderError, UsageError
from rlmba.learner import (
    RunResult,
    TrainedTogether,
    run,
    run_together,
    together,
    together_key,
)
from rlmba.strategies import Strategy
from rlmba.strategies.random import Random
from rlmba.training import fit_stacked
from tests.helpers.float64_runs import networks_in_float64
from tests.helpers.interrupting import StopAfter, Stopped


@pytest.fixture
def features(tmp_path, monkeypatch):
    networks_in_float64(monkeypatch)
    rng = np.random.default_rng(0)
    y = np.arange(180) % 3
    np.savez(
        tmp_path / "made.npz",
        image=rng.normal(size=(180, 6)) + y[:, None],
        text=rng.normal(size=(180, 4)) - y[:, None],
        y=y,
        split=(np.arange(180) >= 140).astype(np.uint8),
    )

    def config(strategy="badge", seed=0, **more):
        return RunConfig.model_validate(
            {
                "dataset": "features",
                "data": tmp_path / "made.npz",
                "strategy": strategy,
                "seed": seed,
                "rounds": 2,
                "initial_labels": 6,
                "batch_size": 5,
                "epochs": 3,
                "fusion": "adaptive",
                "model": {"width": 8},
                "training": {"minibatch_size": 8},
                "device": "cpu",
            }
            | more
        )

    return config


def chosen(folder):
    return [json.loads(p.read_text())["ids"] for p in sorted((folder / "selected").glob("round_*"))]


def plain(record):
    """A record without what the clock decides."""
    return {k: v for k, v in record.to_dict().items() if not k.endswith("seconds")}


def close(found, expected, where=""):
    if isinstance(expected, dict):
        assert set(found) == set(expected), where
        for key, value in expected.items():
            close(found[key], value, f"{where}.{key}")
    elif isinstance(expected, list | tuple):
        for i, value in enumerate(expected):
            close(found[i], value, f"{where}[{i}]")
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=1e-5, abs=1e-7), where
    else:
        assert found == expected, where


@pytest.mark.slow
def test_runs_together_are_the_runs_alone(features, tmp_path):
    configs = [
        features(strategy, seed) for strategy in ("badge", "rlmba", "bald") for seed in (0, 1)
    ]
    assert len({together_key(c) for c in configs}) == 1
    folders = [tmp_path / f"{c.strategy}-{c.seed}" for c in configs]
    results = run_together(configs, folders)
    for config, folder, result in zip(configs, folders, results, strict=True):
        assert isinstance(result, RunResult), result
        alone = run(config, tmp_path / f"alone-{config.strategy}-{config.seed}")
        assert chosen(folder) == chosen(alone.path)
        for found, expected in zip(result.records, alone.records, strict=True):
            close(plain(found), plain(expected))


def test_stopped_runs_go_on_where_they_were(features, tmp_path):
    configs = [features(seed=seed, rounds=3) for seed in (0, 1)]
    whole = run_together(configs, [tmp_path / "a0", tmp_path / "a1"])

    folders = [tmp_path / "b0", tmp_path / "b1"]
    with pytest.raises(Stopped):
        run_together(configs, folders, observers=[StopAfter(1), None])
    assert [len(chosen(f)) for f in folders] == [2, 2]
    again = run_together(configs, folders, resume=True)
    for a, b in zip(whole, again, strict=True):
        assert isinstance(b, RunResult)
        assert chosen(a.path) == chosen(b.path)
        assert [r.test.mm.top1 for r in a.records] == [r.test.mm.top1 for r in b.records]


def test_predictors_share_trainings(features, tmp_path, monkeypatch):
    fitted = []

    def counted(models, *arguments, **named):
        fitted.append(len(models))
        return fit_stacked(models, *arguments, **named)

    monkeypatch.setattr(together, "fit_stacked", counted)
    configs = [
        features("margin", seed, predictor=p) for p in ("fused", "pooled") for seed in (0, 1)
    ]
    folders = [tmp_path / str(k) for k in range(4)]
    results = run_together(configs, folders)
    assert fitted == [2, 2, 2]
    assert chosen(folders[0]) == chosen(folders[2])
    for config, result in zip(configs, results, strict=True):
        alone = run(config, tmp_path / f"alone-{config.predictor}-{config.seed}")
        assert chosen(result.path) == chosen(alone.path)
        for found, expected in zip(result.records, alone.records, strict=True):
            close(plain(found), plain(expected))


class Falls(Strategy):
    """Fails in round 2."""

    name = "falls"

    def choose(self, pool, context, n, stages):
        if context.round == 2:
            raise RuntimeError("fell")
        return Random().choose(pool, context, n, stages)


def test_one_that_fails_leaves_the_others(features, tmp_path):
    group = TrainedTogether.build([features("random", seed) for seed in (0, 1, 2)])
    group.learners[1].strategy = Falls()
    for _ in range(2):
        assert len(group.round()) == 3
    outcomes = group.advance(group.learners)
    assert isinstance(outcomes[1], PluginError)
    assert "from the module" in str(outcomes[1])
    assert isinstance(outcomes[1].__cause__, RuntimeError)
    expected = run(features("random", 2), tmp_path / "alone").records[-1]
    close(plain(outcomes[2].record), plain(expected))
    occupied = tmp_path / "occupied"
    occupied.mkdir()
    (occupied / "mine.txt").write_text("mine")
    found = run_together(
        [features("random", 0), features("random", 1)], [occupied, tmp_path / "free"]
    )
    assert isinstance(found[0], UsageError)
    assert isinstance(found[1], RunResult)


def test_what_may_go_together(features):
    key = together_key(features())
    assert together_key(features("bmmal", 7, fusion="amcb", predictor="pooled")) == key
    for change in ({"fusion": "concat"}, {"epochs": 4}, {"model": {"width": 9}}):
        assert together_key(features(**change)) != key
    assert together_key(features(training={"patience": 1})) is None
    with pytest.raises(UsageError, match="run them one by one"):
        TrainedTogether.build([features(), features(epochs=4)])


def test_round0_is_taken_over(features, tmp_path):
    """Another fusion and strategy may take it; the run is the one that trains its own."""
    first = run(features("random", rounds=0, fusion="uniform"), tmp_path / "round0")
    own = run(features("rlmba"), tmp_path / "own")
    taken = run(features("rlmba", round0=first.path), tmp_path / "taken")
    assert chosen(taken.path) == chosen(own.path)
    assert [plain(r) for r in taken.records] == [plain(r) for r in own.records]
    shutil.rmtree(first.path)
    resumed = run(taken.config, taken.path, resume=True)
    assert [plain(r) for r in resumed.records] == [plain(r) for r in own.records]


def test_a_round0_that_does_not_fit_is_refused(features, tmp_path):
    first = run(features("random", rounds=0), tmp_path / "round0")
    with pytest.raises(UsageError, match=r"another protocol: epochs is 3 there and 4 here"):
        run(features(epochs=4, round0=first.path), tmp_path / "x")
    with pytest.raises(UsageError, match=r"seed is 0 there and 1 here"):
        run(features(seed=1, round0=first.path), tmp_path / "x")
    with pytest.raises(UsageError, match="fusion is 'convex' there and 'concat' here"):
        run(features(fusion="concat", round0=first.path), tmp_path / "x")
    later = run(features("random", rounds=1), tmp_path / "later")
    with pytest.raises(RunFolderError, match="rounds=0"):
        run(features(round0=later.path), tmp_path / "x")
    with pytest.raises(RunFolderError, match="expected a run folder"):
        run(features(round0=tmp_path / "nothing"), tmp_path / "x")
    split = first.path / "split.json"
    ids = json.loads(split.read_text())
    split.write_text(json.dumps({**ids, "initial": ids["initial"][::-1]}))
    with pytest.raises(UsageError, match="started from other samples"):
        run(features(round0=first.path), tmp_path / "x")
    assert not (tmp_path / "x").exists()
    with np.load(tmp_path / "made.npz") as file:
        arrays = dict(file)
    arrays["image"] = arrays["image"] + 1
    np.savez(tmp_path / "made.npz", **arrays)
    with pytest.raises(UsageError, match="checksums differ"):
        run(features(round0=first.path), tmp_path / "x")


def test_the_record_of_a_fit_counts_its_share(features):
    """Seconds of training are shared between the runs: they add up to what it took."""
    together = TrainedTogether.build([features("random", seed) for seed in (0, 1)])
    records = [o.record for o in together.round()]
    assert records[0].seconds["train"] == records[1].seconds["train"] > 0
    assert dataclasses.asdict(records[0].training)["steps"] == 3
