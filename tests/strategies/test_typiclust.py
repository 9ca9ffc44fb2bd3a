from __future__ import annotations

import numpy as np
import pytest

from rlmba import kernels, strategies
from rlmba.errors import UsageError
from rlmba.strategies.geometry import LLOYD_STEPS, nearest_distinct, unit_rows
from tests.helpers.contract import StrategyContract, make_context
from tests.helpers.pools import make_blobs, pool_of


class TestTypiClust(StrategyContract):
    name = "typiclust"
    draws_by_position = True

    def check_permuting_keeps_the_law(self):
        """One sample of each of three clusters; the order of clusters of equal size goes by position."""
        super().check_permuting_keeps_the_law(40, skip=0, seeds=200, max_clusters=3)

    def test_one_of_each_cluster_without_labels_the_largest_first(self):
        sizes = [40, 30, 20, 10, 25]
        features, group = make_blobs(sizes)
        labeled = features[group == 1][:2]
        pool = pool_of(features[group != 1])
        group = group[group != 1]
        context = make_context(pool, labeled_features=labeled)
        chosen = self.create(max_clusters=5).query(pool, context, 4)
        assert group[chosen.positions].tolist() == [0, 4, 2, 3]

    def test_small_clusters_come_last(self):
        features, group = make_blobs([20, 5, 12])
        chosen = self.create(max_clusters=3).query(
            pool_of(features), make_context(pool_of(features), labeled_features=None), 37
        )
        assert (group[chosen.positions[:4]] == [0, 2, 0, 2]).all()
        assert (group[chosen.positions[-5:]] == 1).all()

    @pytest.mark.parametrize("labeled_rows", [0, 7])
    @pytest.mark.parametrize("seed", [0, 1, 2])
    def test_as_scikit_activeml(self, labeled_rows, seed):
        pytest.importorskip("skactiveml", reason="scikit-activeml is not installed")
        from skactiveml.pool import TypiClust

        class Clusters:
            def __init__(self, n_clusters):
                self.n_clusters = n_clusters

            def fit_predict(self, x):
                return kernels.kmeans(
                    x, self.n_clusters, rng=np.random.default_rng(seed), max_iter=LLOYD_STEPS
                ).labels

        features = unit_rows(np.random.default_rng(seed).normal(size=(300, 3)))
        pool = pool_of(features[labeled_rows:])
        y = np.where(np.arange(300) < 300 - labeled_rows, np.nan, 0.0)
        rows = np.concatenate([features[labeled_rows:], features[:labeled_rows]])
        theirs = TypiClust(k=20, cluster_algo=Clusters, random_state=0).query(rows, y, batch_size=9)
        context = make_context(pool, seed=seed, labeled_features=features[:labeled_rows])
        ours = self.create(min_cluster_size=0).query(pool, context, 9)
        # Theirs orders clusters of equal size at random.
        assert set(ours.positions) == set(theirs)

    def test_typicality(self):
        """The inverse of the mean distance to the nearest neighbors, in one cluster."""
        features, _ = make_blobs([30])
        pool = pool_of(features)
        context = make_context(pool, labeled_features=None)
        chosen = self.create(neighbors=4, max_clusters=1).query(pool, context, 2)
        left = np.arange(30)
        for pick, score in zip(chosen.positions, chosen.scores, strict=True):
            d = np.linalg.norm(features[left, None] - features[left], axis=2)
            typicality = 1 / (np.sort(d, axis=1)[:, 1:5].mean(axis=1) + 1e-5)
            assert left[typicality.argmax()] == pick
            assert score == pytest.approx(typicality.max())
            left = left[left != pick]

    @pytest.mark.parametrize("option", ["max_clusters", "neighbors", "min_cluster_size"])
    def test_options_out_of_range(self, option):
        with pytest.raises(UsageError, match=rf"typiclust: expected {option} >= "):
            strategies.create("typiclust", **{option: -1})


def test_unit_rows_of_extreme_numbers():
    x = np.array([[3e38, 4e38 / 10], [3e-40, 4e-40], [0, 0]], dtype=np.float32)
    length = np.linalg.norm(unit_rows(x), axis=1)
    np.testing.assert_allclose(length, [1, 1, 0], rtol=1e-6)
    assert unit_rows(x).dtype == np.float32


def test_nearest_rows_are_distinct():
    rows = np.array([[0.0], [1.0], [10.0], [1.0]])
    indices = nearest_distinct(np.array([[0.9], [0.9], [0.9], [0.9]]), rows)
    assert indices.tolist() == [1, 3, 0, 2]
