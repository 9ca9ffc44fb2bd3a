"""RLMBA-H: the definition, the first batch, its options, extreme input."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rlmba import kernels, strategies
from rlmba.errors import ShapeError, UsageError
from rlmba.method import herding
from tests.helpers.contract import StrategyContract, make_context, make_pool


class TestRlmbaH(StrategyContract):
    name = "rlmba-h"


class TestRlmbaHOfModalities(StrategyContract):
    name = "rlmba-h"
    options = {"space": "modality", "radius": "nearest-labeled"}


class TestRlmbaHOfFusedFeatures(StrategyContract):
    name = "rlmba-h"
    options = {"space": "fused", "radius": 0.5, "uncertainty": "entropy"}


class TestRlmbaHLearned(StrategyContract):
    name = "rlmba-h"
    options = {"policy": "learned"}


def choose(pool, context, n, **options):
    return strategies.create("rlmba-h", **options).query(pool, context, n)


def distances(pool, weights):
    """D between all samples, which have all modalities."""
    return sum(
        w * ((a[:, None] - a[None]) ** 2).sum(axis=-1)
        for w, a in zip(weights, pool.input_features.values(), strict=True)
    )


def test_it_maximizes_the_covered_uncertainty_step_by_step():
    pool = make_pool(n=40, dtype=np.float64)
    everything = pool.take(np.arange(40))
    labeled, mine = np.arange(6), np.arange(6, 40)
    w = np.array([0.7, 0.3])
    context = make_context(
        pool,
        fusion_weights=w,
        labeled_input_features={m: a[labeled] for m, a in pool.input_features.items()},
    )
    found = choose(everything.take(mine), context, 5)

    d = distances(pool, w)
    within = np.sort(d[np.ix_(mine, mine)], axis=1)
    radius = np.median(np.sqrt(within[:, round(34 / 11)]))  # L + n = 11; the sample itself is first
    p = np.exp(pool.fused_logits)
    p = np.sort(p / p.sum(axis=1, keepdims=True), axis=1)
    u = (1 - (p[:, -1] - p[:, -2]))[mine]
    k = np.exp(-d / radius**2)
    covered = k[np.ix_(mine, labeled)].max(axis=1)
    for position, score in zip(found.positions, found.scores, strict=True):
        gains = (u[:, None] * np.maximum(0, k[np.ix_(mine, mine)] - covered[:, None])).sum(axis=0)
        assert position == gains.argmax()
        assert score == pytest.approx(gains.max(), rel=1e-9)
        covered = np.maximum(covered, k[mine, mine[position]])


def test_without_a_model_it_is_the_first_batch():
    pool = make_pool(n=50)
    first = herding.first_batch(pool.input_features, 8)
    radius = 0.7 * kernels.tile_radius(pool.input_features, 8)
    assert first.radius == pytest.approx(radius)
    context = make_context(pool, labeled_input_features=None)
    empty = replace(
        pool,
        fused_logits=np.empty((50, 0)),
        logits={m: np.empty((50, 0)) for m in pool.modalities},
        dropout_logits=None,
    )
    np.testing.assert_array_equal(choose(empty, context, 8).positions, first.indices)


def test_labels_without_logits_are_covered_already():
    pool = make_pool(n=30)
    pool = replace(
        pool, input_features={m: np.repeat(a[:3], 10, 0) for m, a in pool.input_features.items()}
    )
    labeled = {m: a[:1] for m, a in pool.input_features.items()}
    first = herding.first_batch(pool.input_features, 2, labeled=labeled)
    assert set(first.indices // 10) == {1, 2}


@pytest.mark.parametrize(
    "options", [{}, {"policy": "learned"}, {"radius": 0.0}, {"radius": np.inf}, {"trust": 0.0}]
)
class TestExtremeInput:
    def test_equal_rows_and_certain_predictions(self, options):
        pool = make_pool(n=20)
        pool = replace(
            pool,
            input_features={m: np.repeat(a[:1], 20, 0) for m, a in pool.input_features.items()},
        )
        found = choose(pool, make_context(pool), 20, **options)
        assert sorted(found.positions) == list(range(20))
        certain = np.zeros((20, 4), np.float32)
        certain[:, 0] = 1e4
        found = choose(replace(pool, fused_logits=certain), make_context(pool), 7, **options)
        assert len(set(found.positions)) == 7

    def test_a_modality_that_no_sample_has(self, options):
        pool = make_pool(n=20)
        present = np.tile([True, False], (20, 1))
        absent = {"m0": pool.input_features["m0"], "m1": np.zeros((20, 4), np.float32)}
        pool = replace(pool, present=present, input_features=absent)
        context = make_context(pool, labeled_present=np.tile([True, False], (12, 1)))
        assert len(set(choose(pool, context, 6, **options).positions)) == 6


def test_a_pool_whose_every_sample_is_labeled_too():
    pool = make_pool(n=12)
    context = make_context(pool, labeled_input_features=pool.input_features)
    found = choose(pool, context, 5)
    assert found.positions.tolist() == [0, 1, 2, 3, 4]
    assert not found.scores.any()


@pytest.mark.parametrize("n", [1, 20, 90])
def test_an_untrained_policy_that_does_not_explore_is_the_rule(n):
    pool = make_pool()
    a = choose(pool, make_context(pool), n)
    b = choose(pool, make_context(pool), n, policy="learned", explore=False)
    np.testing.assert_array_equal(a.positions, b.positions)
    np.testing.assert_array_equal(a.scores, b.scores)


def test_the_smallest_labeled_distance():
    labeled = {"a": np.array([[0.0], [0], [3], [7]]), "b": np.array([[0.0], [0], [4], [9]])}
    w = np.array([0.5, 0.5])
    assert herding.nearest_labeled(labeled, weights=w) == pytest.approx(np.sqrt((9 + 16) / 2))
    assert herding.nearest_labeled({"a": np.ones((3, 2))}, weights=np.ones(1)) is None


@pytest.mark.parametrize("radius", [0.6, 0.0, np.inf])
def test_where_labels_are_trusted_they_cover_their_own_class_only(radius, monkeypatch):
    monkeypatch.setattr(herding, "_BLOCK_VALUES", 100)
    pool = make_pool(n=40, dtype=np.float64)
    rest, labeled = np.arange(9, 40), np.arange(9)
    x = {m: a[rest] for m, a in pool.input_features.items()}
    w, labels = np.array([0.6, 0.4]), np.arange(9) % 3
    u, predicted = np.linspace(1, 0.1, 31), np.arange(31) % 4
    found, gains = herding.trusted_batch(
        x,
        6,
        weights=w,
        utility=u,
        labeled={m: a[labeled] for m, a in pool.input_features.items()},
        labels=labels,
        predicted=predicted,
        radius=radius,
    )
    d = distances(pool, w)
    k = {0.0: (d == 0) * 1.0, np.inf: np.ones_like(d)}.get(radius)
    k = np.exp(-d / radius**2) if k is None else k
    own = np.where(predicted[:, None] == labels, k[np.ix_(rest, labeled)], 0)
    covered, k = own.max(axis=1), k[np.ix_(rest, rest)]
    taken = []
    for position, gain in zip(found, gains, strict=True):
        value = u * (u[:, None] * np.maximum(0, k - covered[:, None])).sum(axis=0)
        value[taken] = -1
        assert gain == pytest.approx(value.max(), abs=1e-9)
        assert value[position] == pytest.approx(value.max(), abs=1e-9)
        covered = np.maximum(covered, k[:, position])
        taken.append(position)


@pytest.mark.parametrize(
    ("option", "match"),
    [
        ({"space": "pixels"}, "space: expected one of input, modality, fused"),
        ({"radius": "wide"}, "radius: expected one of"),
        ({"radius": -1.0}, "radius"),
        ({"radius": float("nan")}, "radius"),
        ({"uncertainty": "vacuity"}, "uncertainty: expected one of"),
        ({"weights": "amcb"}, "weights: expected one of"),
        ({"trust": 80.0}, "trust: expected a number"),
    ],
)
def test_bad_options(option, match):
    with pytest.raises(UsageError, match=match):
        strategies.create("rlmba-h", **option)


def test_what_is_missing_is_named():
    pool = make_pool(n=20)
    with pytest.raises(UsageError, match=r"expected PoolOutputs\.input_features"):
        choose(replace(pool, input_features=None), make_context(pool), 3)
    context = make_context(pool, labeled_modalities=None)
    with pytest.raises(UsageError, match="features of labeled samples by modality"):
        choose(pool, context, 3, space="modality")
    context = make_context(pool, labeled_present=np.ones((3, 2), bool))
    with pytest.raises(ShapeError, match="labeled_present"):
        choose(pool, context, 3, space="modality")
    context = make_context(pool, labeled_modalities=pool.take(np.arange(5)).input_features)
    with pytest.raises(ShapeError, match="labeled_modalities"):
        choose(pool, context, 3, space="modality")
