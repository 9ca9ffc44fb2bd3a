from __future__ import annotations

import numpy as np
import pytest

from rlmba import kernels, strategies
from rlmba.errors import UsageError
from rlmba.strategies import probcover
from rlmba.strategies.geometry import unit_rows
from tests.helpers.contract import StrategyContract, make_context, make_pool
from tests.helpers.pools import make_blobs, pool_of


def distances(x, y):
    return np.sqrt(((x[:, None] - y) ** 2).sum(axis=2))


def cover_one_by_one(features, labeled, delta, n):
    """The greedy rule on the whole graph, ties by position."""
    near = distances(features, features) <= delta
    covered = (distances(features, labeled) <= delta).any(axis=1)
    picks, counts = [], []
    for _ in range(n):
        degree = (near & ~covered).sum(axis=1)
        degree[picks] = -1
        picks.append(int(degree.argmax()))
        counts.append(int(degree.max()))
        covered |= near[picks[-1]]
    return picks, counts


class TestProbCover(StrategyContract):
    name = "probcover"

    def test_permuting_the_pool_permutes_the_answer(self):
        """Samples of a group are equal in degree, so ties go by position; the groups are the same."""
        features, group = make_blobs([30, 22, 15, 9])
        order = np.random.default_rng(8).permutation(len(features))
        for mine, of in ((features, group), (features[order], group[order])):
            pool = pool_of(mine)
            context = make_context(pool, labeled_features=None)
            chosen = self.create(delta=0.9).query(pool, context, 4)
            assert of[chosen.positions].tolist() == [0, 1, 2, 3]
            assert chosen.scores.tolist() == [30, 22, 15, 9]

    @pytest.mark.parametrize("delta", [0.0, 0.3, 0.7, 1.2, 3.0])
    @pytest.mark.parametrize("labeled_rows", [0, 5])
    def test_picks_those_of_the_naive_form(self, delta, labeled_rows, monkeypatch):
        monkeypatch.setattr(probcover, "_BLOCK", 1000)
        pool = make_pool(n=150, d=4, dtype=np.float64)
        labeled = make_context(pool).labeled_features[:labeled_rows]
        context = make_context(pool, labeled_features=labeled)
        chosen = self.create(delta=delta).query(pool, context, 40)
        features = unit_rows(pool.fused_features)
        picks, counts = cover_one_by_one(features, unit_rows(labeled), delta, 40)
        assert chosen.positions.tolist() == picks
        assert chosen.scores[: counts.index(0) if 0 in counts else 40].tolist() == [
            c for c in counts if c
        ]

    @pytest.mark.parametrize("seed", [0, 1, 2])
    def test_as_scikit_activeml(self, seed):
        pytest.importorskip("skactiveml", reason="scikit-activeml is not installed")
        from skactiveml.pool import ProbCover

        features = unit_rows(np.random.default_rng(seed).normal(size=(120, 5)))
        pool = pool_of(features[6:])
        context = make_context(pool, labeled_features=features[:6])
        ours = self.create(delta=0.6).query(pool, context, 15)
        y = np.where(np.arange(120) < 6, 0.0, np.nan)
        theirs, utilities = ProbCover(deltas=[0.6], random_state=0).query(
            features, y, batch_size=15, return_utilities=True
        )
        # Ties are random there, so that picks may differ: both sequences must follow the greedy rule.
        near = distances(features, features) <= 0.6
        best = np.nanmax(utilities, axis=1)
        for picks, scores in ((ours.positions + 6, ours.scores), (theirs, best)):
            covered = near[:6].any(axis=0)
            for pick, score in zip(picks, scores, strict=True):
                assert score == (near & ~covered).sum(axis=1).max() == (near[pick] & ~covered).sum()
                covered |= near[pick]

    @pytest.mark.parametrize("purity", [0.5, 0.9, 0.95, 1.0])
    def test_radius_is_the_largest_pure_one(self, purity):
        rows = unit_rows(np.random.default_rng(3).normal(size=(200, 4)))
        clusters = kernels.kmeans(rows, 5, rng=0).labels
        delta = probcover.pure_radius(rows, clusters, purity)
        d = distances(rows, rows)
        impure = clusters[:, None] != clusters

        def share(radius):
            return 1 - ((d <= radius) & impure).any(axis=1).mean()

        assert share(delta * (1 - 1e-9)) >= purity - 1e-12
        assert share(delta * (1 + 1e-9)) < purity

    def test_radius_of_degenerate_rows(self):
        rows = np.zeros((10, 2))
        assert probcover.pure_radius(rows, np.arange(10) % 2, 0.95) == 0
        assert probcover.pure_radius(rows, np.zeros(10, np.int64), 0.95) == np.inf

    @pytest.mark.parametrize("option", [{"delta": -0.1}, {"purity": 0.0}, {"purity": 1.1}])
    def test_options_out_of_range(self, option):
        with pytest.raises(UsageError, match=f"probcover: expected {next(iter(option))}"):
            strategies.create("probcover", **option)
