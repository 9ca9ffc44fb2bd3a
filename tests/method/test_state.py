from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rlmba.errors import CheckpointError
from rlmba.method import scoring
from rlmba.method.state import (
    CANDIDATE_FEATURES,
    STATE_FEATURES,
    Candidates,
    Moments,
    RunningStandardizer,
    candidate_features,
    state_vector,
)
from rlmba.types import Evaluation, HeadMetrics, PoolOutputs, QueryContext, TrainingDiagnostics


def context(**kwargs) -> QueryContext:
    return QueryContext(rng=np.random.default_rng(0), **kwargs)


def state_of(pool, score, given=None, distances=None):
    given = given or context()
    found = Moments.of(score, pool.present, distances)
    return state_vector(given, given.weights_for(pool), pool.n_classes, found)


def test_state_by_name(pool, rng):
    d = rng.random(len(pool))
    w = np.array([0.2, 0.8])
    heads = {
        n: HeadMetrics(t, t, 0.5, 0.05) for n, t in [("mm", 0.8), ("image", 0.7), ("audio", 0.6)]
    }
    score = scoring.score(pool, w, np.ones(2), d)
    c = context(
        weights=w,
        contributions=np.array([-0.1, -0.2]),
        validation=Evaluation(heads, 30),
        training=TrainingDiagnostics(loss_slope=-0.3, gradient_norm=2.0),
    )
    s = dict(zip(STATE_FEATURES, state_of(pool, score, c, d), strict=True))
    assert s["top1"] == 0.8
    assert s["nll"] == pytest.approx(0.5 / np.log(5))
    assert s["ece"] == 0.05
    assert s["delta_mean"] == pytest.approx(-0.15)
    assert s["delta_max"] == -0.1
    assert s["weight_max"] == 0.8
    assert 0 < s["weight_balance"] < 1
    assert s["distance_mean"] == pytest.approx(d.mean())
    assert s["difficulty_std"] == pytest.approx(np.std(score.difficulty), rel=1e-4)
    assert s["uncertainty_spread"] == pytest.approx(
        np.std(np.mean(score.uncertainty, axis=0)), rel=1e-3
    )
    assert (s["loss_slope"], s["gradient_norm"]) == (-0.3, 2.0)


@pytest.mark.parametrize("m", [1, 2, 4])
@pytest.mark.parametrize("c", [2, 7])
def test_sizes_do_not_depend_on_modalities_or_classes(rng, m, c):
    n = 40
    f = {f"m{i}": rng.normal(size=(n, 6)) for i in range(m)}
    z = {k: rng.normal(size=(n, c)) for k in f}
    pool = PoolOutputs(
        ids=np.arange(n).astype(str),
        features=f,
        logits=z,
        fused_features=f["m0"],
        fused_logits=z["m0"],
    )
    w = np.full(m, 1 / m)
    score = scoring.score(pool, w, np.ones(m), None)
    picks = scoring.candidates(score.q, 3)
    assert state_of(pool, score).shape == (len(STATE_FEATURES),)
    x = candidate_features(w, Candidates.of(score, pool.present, picks))
    assert x.shape == (15, len(CANDIDATE_FEATURES))
    assert np.isfinite(x).all()
    assert x[:, 0].mean() == pytest.approx(0, abs=1e-9)
    assert x[:, 0].std() == pytest.approx(1)
    assert (np.diff(x[:, 0]) <= 0).all()


def test_an_absent_modality_is_no_disagreement(pool, rng):
    """Features and state are those of the modalities that are there, whatever the other rows hold."""
    n = len(pool)
    w = np.array([0.3, 0.5, 0.2])
    names = ("image", "audio", "text")
    present = np.ones((n, 3), bool)
    present[: n // 2, 1] = False
    present[:, 2] = False
    logits = {m: pool.logits["image"] + i for i, m in enumerate(names)}
    full = replace(pool, features=dict.fromkeys(names, pool.fused_features), logits=logits)
    one = replace(full, present=present)
    picks = np.arange(n)
    u = np.full((n, 3), 0.8)
    scores = [
        scoring.Score(np.zeros(n), u * x, np.zeros(n), u * x, np.zeros(n))
        for x in (present, np.where(present, 1.0, rng.random((n, 3))))
    ]
    for score in scores:
        x = candidate_features(w, Candidates.of(score, one.present, picks))
        columns = dict(zip(CANDIDATE_FEATURES, x.T, strict=True))
        np.testing.assert_allclose(columns["uncertainty_spread"], 0, atol=1e-12)
        np.testing.assert_allclose(columns["uncertainty_max"], 0.8)
        np.testing.assert_allclose(columns["uncertainty_weighted"], 0.8)
        state = dict(zip(STATE_FEATURES, state_of(one, score), strict=True))
        assert state["uncertainty_mean"] == pytest.approx(0.8)
        assert (state["uncertainty_spread"], state["uncertainty_std"]) == pytest.approx((0, 0))
    part = rng.random((n, 3))
    score = scoring.Score(np.zeros(n), part, np.zeros(n), part, np.zeros(n))
    spread = candidate_features(w, Candidates.of(score, one.present, picks))[
        :, CANDIDATE_FEATURES.index("uncertainty_spread")
    ]
    np.testing.assert_allclose(
        spread, [u[there].std() for u, there in zip(part, present, strict=True)]
    )


def test_equal_scores_have_no_preference(pool):
    flat = replace(pool, logits={k: np.zeros_like(z) for k, z in pool.logits.items()})
    w = np.array([0.5, 0.5])
    score = scoring.score(flat, w, np.ones(2), None)
    x = candidate_features(w, Candidates.of(score, flat.present, scoring.candidates(score.q, 4)))
    np.testing.assert_array_equal(x[:, 0], 0)


def test_running_standardizer_matches_batch_statistics(rng):
    xs = rng.normal(3, 2, size=(30, 4))
    s = RunningStandardizer(4)
    np.testing.assert_array_equal(s.update(xs[0]), 0)
    for i in range(1, 30):
        z = s.update(xs[i])
        seen = xs[: i + 1]
        np.testing.assert_allclose(
            z, np.clip((xs[i] - seen.mean(0)) / seen.std(0), -5, 5), rtol=1e-9
        )
    copy = RunningStandardizer(4)
    copy.load_state_dict(s.state_dict())
    np.testing.assert_array_equal(copy.update(xs[3]), s.update(xs[3]))
    with pytest.raises(CheckpointError, match="expected 5 state features, got 4"):
        RunningStandardizer(5).load_state_dict(s.state_dict())
