from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bench.plain import dense_gcn
from rlmba import kernels, strategies
from rlmba.errors import DataError, ShapeError, UsageError
from rlmba.kernels.common.random import seed_from
from rlmba.kernels.sequential_gcn import spec as gcn_spec
from tests.helpers.contract import StrategyContract, make_context, make_pool


def network(pool, context_seed, **options):
    """What the strategy trains: pool rows first, then the labeled ones."""
    context = make_context(pool)
    f = np.concatenate([pool.fused_features, context.labeled_features]).astype(np.float64)
    seed = seed_from(np.random.default_rng(context_seed))
    return kernels.sequential_gcn(
        f, np.arange(len(f)) >= len(pool), rng=seed, backend="reference", **options
    )


def naive_k_center(rows, size, n):
    """Greedy k-center of the first ``size`` rows, the others being the first centers."""
    centers, picks = list(rows[size:]), []
    for _ in range(n):
        nearest = np.min([((rows[:size] - c) ** 2).sum(axis=1) for c in centers], axis=0)
        picks.append(int(nearest.argmax()))
        centers.append(rows[picks[-1]])
    return picks


class TestCoreGcn(StrategyContract):
    name = "gcnal"
    # Dropout is drawn by position; and sums over rows in another order round otherwise, which
    # 200 epochs may make visible.
    permutation_options = {"dropout": 0.0, "epochs": 5}

    @pytest.mark.parametrize("dropout", [0.0, 0.3])
    def test_picks_are_those_of_the_published_dense_form(self, dropout):
        """concat(hidden, logit) of the network on a dense adjacency, 129 columns, naive k-center."""
        pool = make_pool(n=120, dtype=np.float64)
        pool = replace(pool, fused_features=np.abs(pool.fused_features))
        context = make_context(pool, seed=5)
        context = replace(context, labeled_features=np.abs(context.labeled_features))
        f = np.concatenate([pool.fused_features, context.labeled_features])
        rows = np.arange(len(f))
        start, mask_seed = gcn_spec.seeds(seed_from(np.random.default_rng(5)))
        below = gcn_spec.drop_below(dropout)
        scale = 1 / (1 - below / gcn_spec.LEVELS)
        masks = (scale * gcn_spec.kept(mask_seed, e, len(f), 128, below) for e in range(200))
        _, hidden, logits = dense_gcn(
            f,
            rows >= 120,
            gcn_spec.initial_parameters(start, 6, 128),
            masks,
        )
        published = np.hstack([hidden, logits[:, None]])
        assert published.shape == (132, 129)
        selection = self.create(dropout=dropout).query(pool, context, 20)
        assert selection.positions.tolist() == naive_k_center(published, 120, 20)
        assert selection.positions.tolist() != naive_k_center(hidden, 120, 20)

    @pytest.mark.parametrize("dropout", [0.0, 0.3])
    def test_picks_are_a_naive_k_center_of_hidden_features(self, dropout):
        pool = make_pool(n=120, dtype=np.float64)
        context = make_context(pool, seed=5)
        context = replace(context, labeled_features=context.labeled_features.astype(np.float64))
        strategy = self.create(dropout=dropout, embedding="hidden")
        selection = strategy.query(pool, context, 20)
        hidden = network(pool, 5, dropout=dropout).hidden
        assert selection.positions.tolist() == naive_k_center(hidden, 120, 20)
        assert set(selection.seconds) == {"graph", "k_center"}
        assert selection.backends == {"sequential_gcn": "cpu", "k_center": "cpu"}

    @pytest.mark.parametrize("given", [None, np.zeros((0, 6))])
    def test_labeled_features_are_needed(self, given):
        pool = make_pool()
        with pytest.raises(UsageError, match=r"labeled_features with at least one row.*the fused"):
            self.create().query(pool, make_context(pool, labeled_features=given), 4)

    @pytest.mark.parametrize("given", [np.zeros((4, 5)), np.zeros(6)])
    def test_labeled_features_of_another_width(self, given):
        pool = make_pool()
        with pytest.raises(ShapeError, match=r"labeled_features: expected \[L, 6\]"):
            self.create().query(pool, make_context(pool, labeled_features=given), 4)

    def test_non_finite_labeled_features_are_not_blamed_on_the_pool(self):
        pool = make_pool()
        labeled = make_context(pool).labeled_features.copy()
        labeled[7, 2] = np.nan
        with pytest.raises(DataError, match=r"labeled_features.*row 7"):
            self.create().query(pool, make_context(pool, labeled_features=labeled), 4)

    def test_half_precision_features(self):
        pool = make_pool()
        context = make_context(pool)
        half = replace(pool, fused_features=pool.fused_features.astype(np.float16))
        labeled = context.labeled_features.astype(np.float16)
        selection = self.create().query(half, replace(context, labeled_features=labeled), 9)
        assert len(np.unique(selection.positions)) == 9

    @pytest.mark.parametrize(
        ("options", "match"),
        [
            ({"variant": "mean"}, "gcnal: variant: expected one of"),
            ({"embedding": "logit"}, "gcnal: embedding: expected one of"),
            ({"margin": 1.5}, "gcnal: margin"),
            ({"epochs": -1}, "gcnal: epochs"),
            ({"dropout": 1.0}, "gcnal: dropout"),
            ({"affinity": "rbf"}, "gcnal: affinity"),
            ({"hidden": 2.5}, r"gcnal\.hidden: expected int"),
        ],
    )
    def test_bad_options(self, options, match):
        with pytest.raises(UsageError, match=match):
            self.create(**options)


class TestUncertainGcn(StrategyContract):
    name = "gcnal"
    options = {"variant": "uncertain"}
    permutation_options = {"dropout": 0.0, "epochs": 5}

    @pytest.mark.parametrize("margin", [0.1, 0.5])
    def test_picks_lie_nearest_to_the_margin(self, margin):
        pool = make_pool(n=120, dtype=np.float64)
        context = make_context(pool, seed=5)
        context = replace(context, labeled_features=context.labeled_features.astype(np.float64))
        selection = self.create(margin=margin).query(pool, context, 20)
        distance = np.abs(network(pool, 5).scores[:120] - margin)
        assert selection.positions.tolist() == np.argsort(distance)[:20].tolist()
        np.testing.assert_allclose(-selection.scores, np.sort(distance)[:20], atol=1e-9)
        assert selection.backends == {"sequential_gcn": "cpu", "top_k": "cpu"}


def test_registered():
    assert "graph" in strategies.describe("gcnal")
    assert strategies.options("gcnal")["epochs"] == 200
