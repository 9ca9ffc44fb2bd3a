from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import softmax

from rlmba import strategies
from rlmba.errors import UsageError
from rlmba.strategies.geometry import unit_features, unit_rows
from tests.helpers.contract import StrategyContract, make_context, make_pool


def herding_by_the_whole_matrix(features, labeled, utility, radius, n):
    """The greedy rule with all N x N kernel values."""

    def kernel(x, y):
        return np.exp(-((x[:, None] - y) ** 2).sum(axis=2) / radius**2)

    k = kernel(features, features)
    covered = kernel(features, labeled).max(axis=1, initial=0)
    picks = []
    for _ in range(n):
        gains = (utility[:, None] * np.maximum(k - covered[:, None], 0)).sum(axis=0)
        gains[picks] = -1
        picks.append(int(gains.argmax()))
        covered = np.maximum(covered, k[:, picks[-1]])
    return picks


class TestMaxHerding(StrategyContract):
    name = "maxherding"

    @pytest.mark.parametrize("labeled_rows", [0, 8])
    @pytest.mark.parametrize("radius", [0.5, 1.0])
    def test_as_scikit_activeml(self, labeled_rows, radius):
        pytest.importorskip("skactiveml", reason="scikit-activeml is not installed")
        from skactiveml.pool import MaxHerding

        pool = make_pool(n=150, dtype=np.float64)
        labeled = make_context(pool).labeled_features[:labeled_rows]
        context = make_context(pool, labeled_features=labeled)
        ours = self.create(radius=radius).query(pool, context, 25)
        rows = np.concatenate([pool.fused_features, labeled])
        y = np.where(np.arange(len(rows)) < 150, np.nan, 0.0)
        theirs, utilities = MaxHerding(metric_dict={"gamma": 1 / radius**2}, random_state=0).query(
            rows, y, batch_size=25, return_utilities=True
        )
        assert ours.positions.tolist() == theirs.tolist()
        np.testing.assert_allclose(
            ours.scores / 150, np.nanmax(utilities, axis=1), rtol=1e-9, atol=1e-12
        )

    @pytest.mark.parametrize("radius", [0.0, -1.0, float("nan")])
    def test_radius_out_of_range(self, radius):
        with pytest.raises(UsageError, match="maxherding: expected radius > 0"):
            strategies.create("maxherding", radius=radius)

    @pytest.mark.parametrize("name", ["maxherding", "typiclust", "tcm", "probcover"])
    def test_another_space(self, name):
        with pytest.raises(UsageError, match=f"{name}: space: expected one of"):
            strategies.create(name, space="output")

    def test_input_space_is_that_of_all_modalities_joined(self):
        pool = make_pool(n=50)
        context = make_context(pool)
        features, labeled = unit_features("input", pool, context)
        for given, made in (
            (pool.input_features, features),
            (context.labeled_input_features, labeled),
        ):
            np.testing.assert_array_equal(
                made, unit_rows(np.concatenate([*given.values()], axis=1))
            )
        with pytest.raises(UsageError, match=r"PoolOutputs\.input_features, got none"):
            unit_features("input", replace(pool, input_features=None), context)


class TestUHerding(StrategyContract):
    name = "uherding"

    @pytest.mark.parametrize("temperature", [None, 0.5])
    @pytest.mark.parametrize("uncertainty", ["margin", "entropy", "confidence"])
    def test_picks_those_of_the_naive_form(self, uncertainty, temperature):
        pool = make_pool(n=120, dtype=np.float64)
        context = make_context(pool, fused_temperature=2.5)
        features, labeled = unit_rows(pool.fused_features), unit_rows(context.labeled_features)
        d = np.sqrt(((labeled[:, None] - labeled) ** 2).sum(axis=2))
        p = np.sort(softmax(pool.fused_logits / (temperature or 2.5), axis=1), axis=1)
        utility = {
            "margin": 1 - (p[:, -1] - p[:, -2]),
            "entropy": -(p * np.log(p)).sum(axis=1),
            "confidence": 1 - p[:, -1],
        }[uncertainty]
        expected = herding_by_the_whole_matrix(features, labeled, utility, d[d > 0].min(), 20)
        strategy = self.create(uncertainty=uncertainty, temperature=temperature)
        assert strategy.query(pool, context, 20).positions.tolist() == expected

    def test_without_labels_it_is_maxherding(self):
        pool = make_pool()
        context = make_context(pool, labeled_features=None)
        np.testing.assert_array_equal(
            self.create().query(pool, context, 9).positions,
            strategies.create("maxherding").query(pool, context, 9).positions,
        )

    def test_equal_labeled_samples_give_no_radius(self):
        pool = make_pool()
        one = np.repeat(make_context(pool).labeled_features[:1], 3, axis=0)
        context = make_context(pool, labeled_features=one)
        assert len(np.unique(self.create().query(pool, context, 9).positions)) == 9

    @pytest.mark.parametrize("temperature", [0.0, float("inf"), float("nan")])
    def test_temperatures_out_of_range(self, temperature):
        with pytest.raises(UsageError, match="uherding: expected temperature > 0"):
            self.create(temperature=temperature)
        pool = make_pool()
        context = replace(make_context(pool), fused_temperature=temperature)
        with pytest.raises(UsageError, match="fused_temperature: expected a number > 0"):
            self.create().query(pool, context, 3)

    def test_another_uncertainty(self):
        with pytest.raises(UsageError, match="uherding: uncertainty: expected one of"):
            self.create(uncertainty="variance")
