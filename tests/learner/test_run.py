from __future__ import annotations

import json

import numpy as np
import pytest
import yaml
from safetensors import safe_open
from safetensors.numpy import load_file

from rlmba.config import RunConfig
from rlmba.data import load_dataset
from rlmba.errors import CheckpointError, DataError, RunFolderError, UsageError
from rlmba.learner import configure, default_output, read_run, run
from rlmba.learner.settings import resolve
from rlmba.method.policy_file import read_policy
from tests.helpers.interrupting import StopAfter, Stopped


def change(config: RunConfig, **update) -> RunConfig:
    return RunConfig.model_validate(config.model_dump() | update)


def selections(path):
    files = sorted((path / "selected").glob("round_*.json"))
    return [json.loads(f.read_text()) for f in files]


def timeless(record):
    data = record.to_dict()
    for key in ("seconds", "select_seconds"):
        del data[key]
    return data


@pytest.mark.slow
def test_a_run_leaves_everything(quick, tmp_path):
    result = run(quick, tmp_path / "run")
    view = read_run(tmp_path / "run")
    assert [r.labels for r in view.records] == [20, 30, 40, 50]
    assert view.records == result.records
    for r in view.records:
        assert set(r.test.heads) == {"mm", "image", "audio"}
        assert np.mean(r.test.mm.per_class) == pytest.approx(r.test.mm.top1_macro, abs=1e-6)
        assert 0.5 < r.test.mm.auroc <= 1
        assert r.validation.mm.per_class == ()
        assert sum(r.weights.values()) == pytest.approx(1)
        assert sum(r.contributions.values()) == pytest.approx(1)
        assert r.delta == pytest.approx(
            {m: r.validation.heads[m].top1 - r.validation.mm.top1 for m in ("image", "audio")}
        )
        assert set(r.seconds) == {"predict", "select", "train", "validate", "policy"}
        assert r.seconds["train"] > 0
    assert view.records[0].reward is None
    assert view.records[1].raw_reward == view.records[1].validation.mm.top1
    assert view.records[2].advantage is not None
    assert "kmeans" in view.records[1].select_seconds
    assert view.records[1].backends["kmeans"] == "cpu"
    dataset = load_dataset("digits")
    label = dict(zip(dataset.ids, dataset.labels, strict=True))
    split = json.loads((tmp_path / "run" / "split.json").read_text())
    test_ids = set(dataset.ids[dataset.test_positions])
    seen = []
    for s in selections(tmp_path / "run"):
        assert [label[i] for i in s["ids"]] == s["labels"]
        seen += s["ids"]
    assert seen[:20] == split["initial"]
    assert len(set(seen)) == len(seen) == 50
    assert not set(seen) & (set(split["validation"]) | test_ids)


@pytest.mark.parametrize("strategy", ["random", "entropy", "margin", "rlmba-x"])
@pytest.mark.slow
def test_every_strategy_starts_from_the_same_round_0(quick, tmp_path, strategy):
    short = change(quick, rounds=1)
    a = run(short, tmp_path / "a").records[0]
    b = run(change(short, strategy=strategy), tmp_path / "b").records[0]
    assert timeless(a) == timeless(b)


@pytest.mark.parametrize("fusion", ["amcb", "adaptive", "uniform", "concat"])
@pytest.mark.parametrize("predictor", ["fused", "pooled"])
def test_fusions_and_predictors(quick, tmp_path, fusion, predictor):
    records = run(
        change(quick, rounds=2, fusion=fusion, predictor=predictor), tmp_path / "r"
    ).records
    last = records[-1]
    if fusion in ("uniform", "concat"):
        assert last.fusion_weights == {"image": 0.5, "audio": 0.5}
    elif fusion == "amcb":
        assert last.fusion_weights == last.weights
    else:
        assert sum(last.fusion_weights.values()) == pytest.approx(1)
        assert last.fusion_weights != last.weights


@pytest.mark.parametrize(
    "options",
    [{"efda": False}, {"diversity": False}, {"policy": "greedy"}, {"policy": "uniform"}],
)
@pytest.mark.slow
def test_ablations(quick, tmp_path, options):
    full = run(change(quick, rounds=2), tmp_path / "full")
    ablated = run(change(quick, rounds=2, strategy_options=options), tmp_path / "ablated")
    assert timeless(full.records[0]) == timeless(ablated.records[0])
    assert selections(full.path)[1]["ids"] != selections(ablated.path)[1]["ids"]


def test_amcb_off_is_uniform(quick, tmp_path):
    records = run(change(quick, rounds=1, amcb={"enabled": False}), tmp_path / "r").records
    assert records[-1].weights == records[-1].fusion_weights == {"image": 0.5, "audio": 0.5}


def test_incremental_reward(quick, tmp_path):
    records = run(change(quick, rounds=2, reward={"kind": "incremental"}), tmp_path / "r").records
    top1 = [r.validation.mm.top1 for r in records]
    np.testing.assert_allclose([r.raw_reward for r in records[1:]], np.diff(top1))


def test_a_reward_by_nll(quick, tmp_path):
    reward = {"kind": "incremental", "measure": "nll"}
    records = run(change(quick, rounds=2, reward=reward), tmp_path / "r").records
    nll = [r.validation.mm.nll for r in records]
    np.testing.assert_allclose([r.raw_reward for r in records[1:]], -np.diff(nll))


def test_a_reward_that_needs_siblings_is_refused_before_anything_is_written(quick, tmp_path):
    with pytest.raises(UsageError, match="needs the labels of several batches in each round"):
        run(change(quick, reward={"kind": "siblings"}), tmp_path / "r")
    assert not (tmp_path / "r").exists()


@pytest.mark.slow
def test_relative_reward_reads_curves_of_runs(quick, tmp_path):
    short = change(quick, rounds=2)
    for seed in (0, 1):
        run(change(short, strategy="random", seed=seed), tmp_path / f"random{seed}")
    run(change(short, strategy="margin"), tmp_path / "margin")
    folders = [tmp_path / "random0", tmp_path / "random1", tmp_path / "margin"]
    reward = {"kind": "relative", "curves": folders, "baselines": ["random", "margin"]}
    config = change(short, reward=reward)
    records = run(config, tmp_path / "r").records
    curves = [[r.validation.mm.top1 for r in read_run(f).records] for f in folders]
    reference = (np.mean(curves[:2], axis=0) + np.array(curves[2])) / 2
    expected = [r.validation.mm.top1 for r in records] - reference
    np.testing.assert_allclose([r.raw_reward for r in records[1:]], expected[1:])
    with pytest.raises(UsageError, match="epochs=1 there and 3 here"):
        run(change(config, epochs=3), tmp_path / "other")


@pytest.mark.slow
def test_resume_after_each_round_gives_the_same_answer(quick, tmp_path):
    whole = run(quick, tmp_path / "whole")

    for _ in range(4):
        with pytest.raises(Stopped):
            run(quick, tmp_path / "parts", resume=True, observer=StopAfter())
    parts = run(quick, tmp_path / "parts", resume=True)
    assert [timeless(r) for r in parts.records] == [timeless(r) for r in whole.records]
    assert selections(parts.path) == selections(whole.path)
    for name in ("model.safetensors", "strategy.safetensors"):
        a, b = (load_file(p.path / "checkpoints" / "round_003" / name) for p in (whole, parts))
        assert set(a) == set(b)
        for key, tensor in a.items():
            np.testing.assert_array_equal(tensor, b[key])


@pytest.mark.parametrize(
    ("strategy", "options"),
    [("rlmba", {"baseline": "moving"}), ("gcnal", {"embedding": "hidden", "epochs": 2})],
)
@pytest.mark.slow
def test_a_run_of_an_earlier_version_goes_on_as_it_began(quick, tmp_path, strategy, options):
    """Its configuration and checkpoints do not name options that came later."""
    reward = {"smoothing": 0.9, "baselines": None}
    training = {**quick.training.model_dump(), "head_learning_rate": None}
    before = change(
        quick,
        strategy=strategy,
        strategy_options=options,
        rounds=2,
        reward=reward,
        training=training,
    )
    whole = run(before, tmp_path / "whole")
    folder = tmp_path / "old"
    with pytest.raises(Stopped):
        run(before, folder, observer=StopAfter(1))
    values = yaml.safe_load((folder / "config.yaml").read_text())
    del values["reward"]["baselines"], values["reward"]["measure"]
    del values["training"]["head_learning_rate"]
    del values["strategy_options"][next(iter(options))]
    values["strategy_options"].pop("uncertainty", None)
    del values["training"]["loss"], values["training"]["evidential"]
    (folder / "config.yaml").write_text(yaml.safe_dump(values))
    with safe_open(folder / "checkpoints/round_001/model.safetensors", "np") as file:
        written = json.loads(file.metadata()["config"])
    assert not {"baselines", "measure"} & written["reward"].keys()
    assert "head_learning_rate" not in written["training"]
    assert not {"loss", "evidential"} & set(written["training"])
    assert "uncertainty" not in written["strategy_options"]
    assert next(iter(options)) not in written["strategy_options"]
    config = configure({"label": "old"}, resume_from=folder)
    assert config == change(whole.config, label="old")
    found = run(config, folder, resume=True)
    assert [timeless(r) for r in found.records] == [timeless(r) for r in whole.records]
    assert selections(folder) == selections(whole.path)
    fresh = change(quick, strategy=strategy, rounds=2, reward={"smoothing": 0.9})
    with pytest.raises(RunFolderError, match="holds a run of another configuration"):
        run(fresh, folder, resume=True)


@pytest.mark.slow
def test_a_run_leaves_its_policy(quick, tmp_path):
    """It starts another run; strategies without a policy, and policies that do not learn, leave none."""
    taught = run(change(quick, strategy_options={"learning_rate": 0.1}), tmp_path / "a")
    file = taught.path / "policy.safetensors"
    policy = read_policy(file, strategy="rlmba")
    assert (policy.facts["tasks"], policy.facts["rounds"]) == (["digits"], 3)
    last = load_file(taught.path / "checkpoints/round_003/strategy.safetensors")
    for key, array in policy.arrays.items():
        np.testing.assert_array_equal(array, last[key])
    options = {"policy_file": str(file), "explore": False}
    used = run(change(quick, rounds=1, strategy_options=options), tmp_path / "b")
    fresh = run(change(quick, rounds=1, strategy_options={"explore": False}), tmp_path / "c")
    weights = [
        load_file(r.path / "checkpoints/round_001/strategy.safetensors") for r in (used, fresh)
    ]
    name = "policy.network.last.weight"
    np.testing.assert_array_equal(weights[0][name], last[name])
    assert np.abs(weights[0][name]).max() > 0 == np.abs(weights[1][name]).max()
    run(change(quick, rounds=1, strategy="rlmba-x"), tmp_path / "d")
    assert not list(tmp_path.glob("[bcd]/policy.safetensors"))


def test_resuming_with_other_settings_names_them(quick, tmp_path):
    run(change(quick, rounds=1), tmp_path / "r")
    with pytest.raises(RunFolderError, match=r"amcb\.tau is 1\.0 there and 0\.5 here"):
        run(change(quick, rounds=1, amcb={"tau": 0.5}), tmp_path / "r", resume=True)
    assert configure({}, resume_from=tmp_path / "r") == read_run(tmp_path / "r").config
    assert configure({"seed": 3}, resume_from=tmp_path / "r").seed == 3
    # Nothing of the data set's preset comes in, not even where the run has an empty mapping.
    whole = configure({"tracking": ["tensorboard"]}, resume_from=tmp_path / "r")
    assert whole == change(read_run(tmp_path / "r").config, tracking=["tensorboard"])


def test_damaged_checkpoints(quick, tmp_path):
    short = change(quick, rounds=1)
    run(short, tmp_path / "r")
    model = tmp_path / "r" / "checkpoints" / "round_001" / "model.safetensors"
    good = model.read_bytes()
    model.write_bytes(good[: len(good) // 2])
    with pytest.raises(CheckpointError):
        run(short, tmp_path / "r", resume=True)
    model.unlink()
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        run(short, tmp_path / "r", resume=True)
    model.write_bytes(good)
    policy = model.with_name("strategy.safetensors")
    policy.write_bytes(b"rubbish")
    with pytest.raises(CheckpointError, match=r"strategy\.safetensors"):
        run(short, tmp_path / "r", resume=True)


@pytest.mark.parametrize(
    ("update", "match"),
    [
        ({"rounds": 500}, r"the budget exceeds the pool: .*(\n.*)*rounds=\d+"),
        ({"batch_size": 5000}, "exceeds the pool"),
        ({"initial_labels": 5}, "expected 10"),
        ({"initial_labels": 100_000}, "pool|training samples"),
        ({"initial_labels": 100_000, "initial_sampling": "herding"}, "training samples"),
        (
            {"budgets": [20, 5000], "initial_labels": None, "batch_size": None, "rounds": None},
            "counts that fit: 20",
        ),
        ({"dataset": "cifar"}, "cifar"),
        ({"strategy": "best"}, "unknown strategy"),
        ({"strategy_options": {"kapa": 1}}, "no option 'kapa'"),
        ({"model": {"encoders": {"image": {"name": "vit"}}}}, "encoder"),
        ({"model": {"encoders": {"video": {"name": "cnn"}}}}, "video"),
        ({"device": "quantum"}, "device"),
    ],
)
def test_bad_requests_write_nothing(quick, tmp_path, update, match):
    with pytest.raises((UsageError, DataError), match=match):
        run(change(quick, **update), tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_budget_is_derived_from_the_data(quick):
    dataset = load_dataset("digits")
    config, pool = resolve(
        change(quick, rounds=None, initial_labels=None, batch_size=None), dataset
    )
    assert (config.initial_labels, config.batch_size, config.rounds) == (20, 20, 8)
    assert len(pool.labeled) == 20
    config, pool = resolve(change(quick, rounds=None, batch_size=400), dataset)
    assert config.rounds == (len(pool.unlabeled)) // 400
    config, pool = resolve(change(quick, rounds=1, batch_size=len(pool.unlabeled)), dataset)
    assert config.batch_size == len(pool.unlabeled)


def test_default_output(quick, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = default_output(quick)
    assert str(first) == "runs/digits-rlmba-seed0"
    first.mkdir(parents=True)
    assert str(default_output(quick)) == "runs/digits-rlmba-seed0-2"
    assert default_output(quick, resume=True) == first
