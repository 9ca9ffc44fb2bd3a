from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rlmba import kernels, strategies
from rlmba.errors import ShapeError, UsageError
from rlmba.strategies.geometry import LLOYD_STEPS, nearest_distinct
from rlmba.types import LinearHead
from tests.helpers.contract import StrategyContract, make_context, make_pool
from tests.helpers.pools import headed


class TestDropQuery(StrategyContract):
    name = "dropquery"
    draws_by_position = True

    def test_candidates_are_those_that_dropout_changes(self):
        """With a bias that decides for class 0 unless a large feature survives."""
        pool = make_pool(n=60, d=6, c=2, dtype=np.float64)
        features = np.zeros((60, 6))
        features[:, 0] = np.linspace(1, 2, 60)
        fragile = np.arange(20)  # one feature alone carries the class
        features[fragile, 0], features[fragile, 1] = 0, 100 + np.arange(20)
        weight = np.array([[1.0, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0]])
        bias = np.array([50.0, 0.0])
        pool = headed(replace(pool, fused_features=features), weight, bias)
        context = make_context(pool, head=LinearHead(weight, bias))
        chosen = self.create(passes=25).query(pool, context, 5)
        assert set(chosen.positions) <= set(fragile)
        assert (chosen.scores > 0.5).all()

    def test_too_few_candidates_are_completed_by_the_most_changed(self):
        pool = make_pool(n=30, dtype=np.float64)
        pool = replace(pool, fused_features=np.zeros((30, 6)))
        context = make_context(pool)
        bias = context.head.bias
        pool = replace(pool, fused_logits=np.tile(bias, (30, 1)))
        chosen = self.create().query(pool, context, 4)
        assert sorted(chosen.positions) == [0, 1, 2, 3]  # nothing changes: ties by position
        assert not chosen.scores.any()

    @pytest.mark.parametrize("seed", [0, 1])
    def test_is_the_naive_form(self, seed):
        """One pass at a time over the whole pool, then clusters of the candidates."""
        pool = make_pool(n=80, dtype=np.float64)
        context = make_context(pool, seed=seed)
        pool = headed(pool, context.head.weight, context.head.bias)
        chosen = self.create(passes=5, dropout=0.6).query(pool, context, 6)
        rng = np.random.default_rng(seed)
        differing = np.zeros(80)
        for _ in range(5):
            kept = rng.random((80, 6), dtype=np.float32) >= 0.6
            z = pool.fused_features * kept / 0.4 @ context.head.weight.T + context.head.bias
            differing += z.argmax(axis=1) != pool.fused_logits.argmax(axis=1)
        candidates = np.flatnonzero(differing >= 3)
        assert len(candidates) > 6
        rows = pool.fused_features[candidates]
        centers = kernels.kmeans(rows, 6, rng=rng, max_iter=LLOYD_STEPS).centers
        nearest = nearest_distinct(centers, rows)
        assert chosen.positions.tolist() == candidates[nearest].tolist()
        np.testing.assert_array_equal(chosen.scores, differing[chosen.positions] / 5)

    def test_as_scikit_activeml(self):
        """All samples change under dropout, so both cluster all of them."""
        pytest.importorskip("skactiveml", reason="scikit-activeml is not installed")
        from skactiveml.base import SkactivemlClassifier
        from skactiveml.pool import DropQuery

        pool = make_pool(n=60, d=3, c=2, dtype=np.float64)
        features = np.abs(pool.fused_features) + 1
        # Class 1 needs all three features, and a pass that keeps all is as good as impossible.
        weight, bias = np.array([[0.0, 0, 0], [1.0, 1, 1]]), np.array([1e-9, 0])
        pool = headed(replace(pool, fused_features=features), weight, bias)

        class Fragile(SkactivemlClassifier):
            def __init__(
                self, classes=None, missing_label=np.nan, cost_matrix=None, random_state=None
            ):
                super().__init__(classes, missing_label, cost_matrix, random_state)

            def fit(self, X, y, sample_weight=None):
                return self

            def predict_proba(self, X):
                raise NotImplementedError

            def predict(self, X):
                return (X.sum(axis=1) > 1e-9).astype(float)

        class Clusters:
            def __init__(self, n_clusters):
                self.n_clusters = n_clusters

            def fit_transform(self, x, y=None):
                rng = np.random.default_rng(5)
                rng.random((60, 3), dtype=np.float32)
                rng.random((60, 3), dtype=np.float32)
                rng.random((60, 3), dtype=np.float32)
                found = kernels.kmeans(x, self.n_clusters, rng=rng, max_iter=LLOYD_STEPS)
                return np.sqrt(((x[:, None] - found.centers) ** 2).sum(axis=2))

        context = make_context(pool, seed=5, head=LinearHead(weight, bias))
        ours = self.create(dropout=1 - 1e-7).query(pool, context, 7)
        theirs = DropQuery(
            dropout_rate=1 - 1e-7, n_dropout_samples=3, cluster_algo=Clusters, random_state=0
        ).query(features, np.full(60, np.nan), Fragile(classes=[0, 1]), fit_clf=False, batch_size=7)
        assert (ours.scores == 1).all()
        assert ours.positions.tolist() == theirs.tolist()

    def test_a_head_of_another_width(self):
        pool = make_pool()
        head = LinearHead(np.zeros((4, 3)), np.zeros(4))
        with pytest.raises(ShapeError, match="dropquery: expected a head on fused features"):
            self.create().query(pool, make_context(pool, head=head), 3)

    @pytest.mark.parametrize("option", [{"passes": 0}, {"dropout": 0.0}, {"dropout": 1.0}])
    def test_options_out_of_range(self, option):
        with pytest.raises(UsageError, match=f"dropquery: expected {next(iter(option))}"):
            strategies.create("dropquery", **option)
