from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rlmba.method import efda, scoring


def minmax(x):
    x = np.asarray(x, dtype=np.float64)
    spread = x.max(axis=0) - x.min(axis=0)
    return (x - x.min(axis=0)) / np.where(spread > 0, spread, 1) * (spread > 0)


UNCERTAINTY = [*efda.UNCERTAINTY, "entropy"]


@pytest.mark.parametrize("uncertainty", UNCERTAINTY)
@pytest.mark.parametrize("with_distances", [True, False])
@pytest.mark.parametrize("trained", [None, "exp"])
def test_score_is_equation_6(pool, rng, uncertainty, with_distances, trained):
    w, t, beta = np.array([0.25, 0.75]), np.array([1.2, 0.7]), 0.6
    d = rng.random(len(pool)) * 9 if with_distances else None
    pool = replace(pool, evidence=trained)
    s = scoring.score(pool, w, t, d, beta=beta, uncertainty=uncertainty, evidence="relu")
    if uncertainty == "entropy":
        u = efda.entropy(pool, t)
    else:  # the function of the training takes precedence
        u = efda.UNCERTAINTY[uncertainty](
            replace(pool, evidence=None), w, t, evidence=trained or "relu"
        )
    expected = minmax(u.modality) @ w + (beta * minmax(d) if with_distances else 0)
    np.testing.assert_allclose(s.q, expected, atol=2e-5)
    np.testing.assert_allclose(s.difficulty, u.fused, rtol=2e-5)
    np.testing.assert_allclose(s.uncertainty, u.modality, rtol=2e-5)


@pytest.mark.parametrize("uncertainty", [u for u in UNCERTAINTY if u != "conflict"])
def test_absent_modalities_do_not_score(pool, rng, uncertainty):
    present = rng.random((len(pool), 2)) < 0.7
    present[~present.any(axis=1), 0] = True
    noisy = {m: z.copy() for m, z in pool.logits.items()}
    for j, z in enumerate(noisy.values()):
        z[~present[:, j]] = 40.0  # finite and meaningless
    partial = replace(pool, logits=noisy, present=present)
    w, t = np.array([0.4, 0.6]), np.ones(2)
    s = scoring.score(partial, w, t, None, uncertainty=uncertainty)
    assert (np.asarray(s.normalized_uncertainty)[~present] == 0).all()
    for j in range(2):
        column = np.asarray(s.normalized_uncertainty)[present[:, j], j]
        assert column.min() == 0
        assert column.max() == pytest.approx(1)
    alone = present.sum(axis=1) == 1
    np.testing.assert_allclose(
        np.asarray(s.q)[alone], np.asarray(s.normalized_uncertainty)[alone].sum(axis=1), rtol=1e-5
    )


def test_constant_uncertainty_scores_zero(pool):
    flat = replace(pool, logits={m: np.zeros_like(z) for m, z in pool.logits.items()})
    s = scoring.score(flat, np.array([0.5, 0.5]), np.ones(2), np.full(len(pool), 3.0))
    np.testing.assert_array_equal(s.q, 0)


def test_candidates_are_capped_and_break_ties_by_position():
    q = np.array([0.5, 0.9, 0.5, 0.9, 0.1])
    np.testing.assert_array_equal(scoring.candidates(q, 1, kappa=3), [1, 3, 0])
    np.testing.assert_array_equal(scoring.candidates(q, 2, kappa=5), [1, 3, 0, 2, 4])


def test_diversity_is_the_distance_to_some_centroid(pool):
    d = scoring.diversity(pool.fused_features, 10, rng=np.random.default_rng(1))
    again = scoring.diversity(pool.fused_features, 10, rng=np.random.default_rng(1))
    np.testing.assert_array_equal(d, again)
    assert d.shape == (len(pool),)
    assert (d >= 0).all()
    everything = scoring.diversity(pool.fused_features, len(pool), rng=np.random.default_rng(1))
    np.testing.assert_allclose(everything, 0, atol=1e-6)
