"""Runs whose networks are trained by the evidential loss."""

from __future__ import annotations

import numpy as np
import pytest

from rlmba.config import RunConfig, load_config
from rlmba.errors import UsageError
from rlmba.learner import Trained, run, run_together
from rlmba.method import efda
from rlmba.project.predict import predictions, read_new
from rlmba.training import Loader, predict
from rlmba.types import MULTIMODAL
from tests.helpers.interrupting import StopAfter, Stopped


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Three classes and two modalities; some samples lack the second one."""
    rng = np.random.default_rng(3)
    y = np.arange(150) % 3
    present = np.ones((150, 2), np.bool_)
    present[::7, 1] = False
    file = tmp_path_factory.mktemp("evidential") / "made.npz"
    arrays = {m: np.eye(3)[y] * 2 + rng.normal(size=(150, 3)) for m in ("sound", "motion")}
    np.savez(file, **arrays, y=y, split=np.arange(150) >= 110, present=present)
    return file


def config(data, **evidential):
    settings = {
        "dataset": "features",
        "data": data,
        "rounds": 2,
        "batch_size": 6,
        "model": {"width": 12},
        "training": {"loss": "evidential", "evidential": evidential},
        "predictor": "pooled",
        "device": "cpu",
    }
    return RunConfig.model_validate(settings)


def timeless(record):
    return {k: v for k, v in record.to_dict().items() if "seconds" not in k}


@pytest.mark.parametrize("fused_head", [True, False])
def test_a_run_its_resumption_and_its_network(data, tmp_path, fused_head):
    given = config(data, fused_head=fused_head)
    whole = run(given, tmp_path / "whole")
    with pytest.raises(Stopped):
        run(given, tmp_path / "parts", observer=StopAfter(1))
    parts = run(given, tmp_path / "parts", resume=True)
    assert [timeless(r) for r in parts.records] == [timeless(r) for r in whole.records]
    last = whole.records[-1]
    assert last.temperatures["sound"] == last.temperatures["motion"] == 1.0
    assert (last.temperatures[MULTIMODAL] == 1.0) is not fused_head
    assert bool(last.contributions) is fused_head

    trained = Trained.load(whole.path)
    new = read_new(trained, data=data)
    (rows,) = predictions(trained, new, every_class=True)
    outputs = predict(trained.model, Loader(new), np.arange(150), batch_size=512)
    alphas = [efda.dirichlet(z, 1.0, "exp") for z in outputs.logits.values()]
    fused = efda.fuse(alphas, efda.sample_weights(trained.weights, outputs.present))
    a0 = fused.sum(axis=1)
    variance = (1 - ((fused / a0[:, None]) ** 2).sum(axis=1)) / (a0 + 1) / 3
    np.testing.assert_allclose(rows["difficulty"], variance, rtol=1e-4)
    p = np.array([rows[f"p_{c}"] for c in trained.classes]).T
    heads = [a / a.sum(axis=1, keepdims=True) for a in alphas]
    total = outputs.fused_logits / trained.fused_temperature
    for k, q in enumerate(heads):
        total = total + np.log(q) * outputs.present[:, k, None]
    expected = np.exp(total - np.logaddexp.reduce(total, axis=1, keepdims=True))
    np.testing.assert_allclose(p, expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("fused_head", [True, False])
def test_runs_together_are_those_alone(data, tmp_path, fused_head):
    """Every sample has both modalities, so that their networks are trained as a stack."""
    with np.load(data) as file:
        arrays = {k: file[k] for k in file if k != "present"}
    complete = tmp_path / "complete.npz"
    np.savez(complete, **arrays)
    given = [
        config(complete, fused_head=fused_head).model_copy(update={"seed": seed, "rounds": 1})
        for seed in range(2)
    ]
    together = run_together(given, [tmp_path / f"t{k}" for k in range(2)])
    for k, found in enumerate(together):
        alone = run(given[k], tmp_path / f"a{k}")
        for a, b in zip(found.records, alone.records, strict=True):
            assert a.training.final_loss == pytest.approx(b.training.final_loss, rel=1e-3)
            assert a.validation.mm.nll == pytest.approx(b.validation.mm.nll, rel=1e-2)


def test_the_preset_runs(data, tmp_path):
    given = load_config(
        overrides={
            "dataset": "features",
            "data": data,
            "strategy": "rlmba-evidential",
            "device": "cpu",
        },
        settings=["rounds=1", "batch_size=6", "model.width=12"],
    )
    assert len(run(given, tmp_path / "run").records) == 2


def test_a_strategy_that_needs_a_fused_head_writes_nothing(data, tmp_path):
    given = config(data, fused_head=False).model_copy(update={"strategy": "bald"})
    with pytest.raises(UsageError, match="'bald' needs a fused head"):
        run(given, tmp_path / "run")
    assert not (tmp_path / "run").exists()
