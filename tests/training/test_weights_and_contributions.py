from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.optimize import check_grad
from scipy.special import log_softmax, softmax

from rlmba.errors import ShapeError
from rlmba.training import adaptive_fusion_weights, shapley_contributions
from rlmba.training.fusion_weights import _objective
from rlmba.types import PoolOutputs


def problem(rng, m=2, n=300, d=6, c=4, noise=(0.5, 8.0, 2.0)):
    """Noisy prototype features; the first modality is the most informative."""
    head = rng.normal(size=(c, d))
    y = rng.integers(c, size=n)
    features = [2 * head[y] + noise[k] * rng.normal(size=(n, d)) for k in range(m)]
    return features, y, head, rng.normal(size=c)


def test_two_modalities_against_a_grid(rng):
    for penalty in (0.0, 0.1, 1.0, 50.0):
        (a, b), y, head, bias = problem(rng)
        w = adaptive_fusion_weights([a, b], y, head, bias, penalty=penalty)

        def loss(v, a=a, b=b, y=y, head=head, bias=bias, penalty=penalty):
            log_p = log_softmax((v * a + (1 - v) * b) @ head.T + bias, axis=1)
            return -log_p[np.arange(300), y].mean() + penalty * 2 * (v - 0.5) ** 2

        best = min(np.linspace(0, 1, 2001), key=loss)
        assert w.sum() == pytest.approx(1)
        assert loss(w[0]) <= loss(best) + 1e-4
        assert w[0] == pytest.approx(best, abs=5e-3)


def test_leans_to_the_better_witness_less_under_penalty(rng):
    features, y, head, bias = problem(rng, m=3)
    free = adaptive_fusion_weights(features, y, head, bias, penalty=0.0)
    default = adaptive_fusion_weights(features, y, head, bias)
    bound = adaptive_fusion_weights(features, y, head, bias, penalty=1e4)
    assert free[0] > free[2] > free[1] - 1e-9
    assert np.ptp(free) > np.ptp(default) > np.ptp(bound)
    np.testing.assert_allclose(bound, 1 / 3, atol=1e-3)


def test_gradient_with_missing_modalities(rng):
    features, y, head, bias = problem(rng, m=3, n=40)
    parts = np.stack([f @ head.T for f in features])
    there = (rng.random((40, 3)) < 0.6).astype(float)
    there[there.sum(axis=1) == 0, 1] = 1

    def call(theta):
        return _objective(theta, parts, bias, y, there=there, penalty=0.7)

    for _ in range(5):
        theta = rng.normal(size=3)
        error = check_grad(lambda t: call(t)[0], lambda t: call(t)[1], theta)
        assert error < 1e-5 * (1 + np.linalg.norm(call(theta)[1]))


def test_presence_removes_a_modality_from_the_fit(rng):
    features, y, head, bias = problem(rng, m=3)
    features[2][:] = 1e6
    w = adaptive_fusion_weights(
        features, y, head, bias, present=np.tile([True, True, False], (300, 1))
    )
    features[2][:] = -5
    same = adaptive_fusion_weights(
        features, y, head, bias, present=np.tile([True, True, False], (300, 1))
    )
    np.testing.assert_array_equal(w, same)


def test_degenerate_fits(rng):
    features, y, head, bias = problem(rng)
    assert adaptive_fusion_weights(features[:1], y, head, bias).tolist() == [1.0]
    empty = [f[:0] for f in features]
    assert adaptive_fusion_weights(empty, y[:0], head, bias).tolist() == [0.5, 0.5]
    with pytest.raises(ShapeError, match="it needs convex fusion"):
        adaptive_fusion_weights(features, y, np.zeros((4, 12)), bias)


def by_permutations(parts, bias, y):
    """Shapley's definition: the mean marginal worth over all orders."""
    m, n, _ = parts.shape

    def worth(members):
        return softmax(bias + sum((parts[k] for k in members), np.zeros_like(parts[0])), axis=1)[
            np.arange(n), y
        ]

    values = np.zeros((n, m))
    for order in itertools.permutations(range(m)):
        for i, k in enumerate(order):
            values[:, k] += worth(order[: i + 1]) - worth(order[:i])
    return values / math.factorial(m)


def pool(features, present=None):
    n = len(features[0])
    names = "abc"[: len(features)]
    fused = np.zeros((n, features[0].shape[1]))
    return PoolOutputs(
        ids=np.array([f"s{i}" for i in range(n)]),
        features=dict(zip(names, features, strict=True)),
        logits={m: np.zeros((n, 4)) for m in names},
        fused_features=fused,
        fused_logits=np.zeros((n, 4)),
        present=present,
    )


def test_contributions_of_convex_fusion_and_concatenation_agree(rng):
    """A concatenation whose head repeats w_m W in each block is the same function."""
    features, y, head, bias = problem(rng, m=3, n=50)
    w = np.array([0.5, 0.3, 0.2])
    outputs = pool(features)
    convex = shapley_contributions(outputs, y, head, bias, w)
    blocks = np.concatenate([k * head for k in w], axis=1)
    joined = shapley_contributions(outputs, y, blocks, bias, np.full(3, 1 / 3))
    assert list(convex) == ["a", "b", "c"]
    assert sum(convex.values()) == pytest.approx(1)
    assert convex == pytest.approx(joined)
    parts = np.stack([k * f @ head.T for k, f in zip(w, features, strict=True)])
    expected = np.abs(by_permutations(parts, bias, y)).mean(axis=0)
    assert list(convex.values()) == pytest.approx((expected / expected.sum()).tolist())
    assert convex == shapley_contributions(outputs, y, head, bias, dict(zip("abc", w, strict=True)))


def test_weightless_and_absent_modalities_contribute_nothing(rng):
    features, y, head, bias = problem(rng, n=50)
    shares = shapley_contributions(pool(features), y, head, bias, np.array([1.0, 0.0]))
    assert shares == {"a": 1.0, "b": 0.0}
    present = np.tile([False, True], (50, 1))
    shares = shapley_contributions(pool(features, present), y, head, bias, np.array([0.9, 0.1]))
    assert shares == {"a": 0.0, "b": 1.0}
    nothing = pool([0 * f for f in features])
    assert shapley_contributions(nothing, y, head, bias, np.array([0.9, 0.1])) == {
        "a": 0.5,
        "b": 0.5,
    }
    with pytest.raises(ShapeError, match="head: expected a weight"):
        shapley_contributions(pool(features), y, np.zeros((4, 5)), bias, np.array([0.5, 0.5]))
