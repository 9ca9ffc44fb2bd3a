from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rlmba import strategies
from rlmba.errors import DataError, ShapeError
from tests.helpers.contract import StrategyContract, make_context, make_pool


def one_center_a_pass(features, labeled, n):
    """Greedy k-center as the papers write it, in float64."""
    f, centers = features.astype(np.float64), list(labeled.astype(np.float64))
    picks, reach = [], []
    if not centers:
        picks.append(int(((f - f.mean(axis=0)) ** 2).sum(axis=1).argmin()))
        centers.append(f[picks[0]])
        reach.append(np.sqrt(((f - centers[0]) ** 2).sum(axis=1)).max())
    while len(picks) < n:
        nearest = np.min([((f - c) ** 2).sum(axis=1) for c in centers], axis=0)
        picks.append(int(nearest.argmax()))
        reach.append(np.sqrt(nearest.max()))
        centers.append(f[picks[-1]])
    return picks, reach


class TestCoreSet(StrategyContract):
    name = "coreset"

    @pytest.mark.parametrize("labeled_rows", [None, 0, 1, 12])
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_picks_those_of_the_naive_form(self, labeled_rows, dtype):
        pool = make_pool(n=300, dtype=dtype)
        given = make_context(pool).labeled_features[: labeled_rows or 0]
        context = make_context(pool, labeled_features=None if labeled_rows is None else given)
        selection = self.create().query(pool, context, 40)
        picks, reach = one_center_a_pass(pool.fused_features, given, 40)
        assert selection.positions.tolist() == picks
        np.testing.assert_allclose(selection.scores, reach, rtol=3e-7)
        assert (np.diff(selection.scores) <= 0).all()
        assert selection.backends == {"k_center": "cpu"}

    def test_labeled_samples_inside_the_pool_come_last(self):
        pool = make_pool(n=60)
        context = make_context(pool, labeled_features=pool.fused_features[:20])
        selection = self.create().query(pool, context, 60)
        assert selection.positions[-20:].tolist() == list(range(20))
        assert not selection.scores[-20:].any()

    def test_randomness_is_not_used(self):
        pool = make_pool()
        context = make_context(pool)
        before = context.rng.bit_generator.state
        self.create().query(pool, context, 5)
        assert context.rng.bit_generator.state == before

    @pytest.mark.parametrize("shape", [(12, 3), (12,), (0, 3)])
    def test_labeled_features_of_another_width(self, shape):
        pool = make_pool()
        context = replace(make_context(pool), labeled_features=np.zeros(shape, np.float32))
        with pytest.raises(ShapeError, match=r"expected \[L, \d+\].*same model and fusion"):
            self.create().query(pool, context, 4)

    def test_non_finite_labeled_features_are_not_blamed_on_the_pool(self):
        pool = make_pool()
        labeled = make_context(pool).labeled_features.copy()
        labeled[7, 2] = np.nan
        with pytest.raises(DataError, match=r"labeled_features.*row 7"):
            self.create().query(pool, make_context(pool, labeled_features=labeled), 4)


def test_registered():
    assert "coreset" in strategies.names()
    assert "k-center" in strategies.describe("coreset")
