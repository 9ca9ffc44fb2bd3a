"""Fused features completed for distances: an absent modality takes no part in any."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import rlmba
from rlmba.errors import NonFiniteError, ShapeError
from rlmba.strategies import create
from rlmba.strategies.absent import completed
from rlmba.types import PoolOutputs, QueryContext
from tests.helpers.contract import make_incomplete_pool


def pool_of(features, present, fused=None, weights=None):
    n, m = present.shape
    features = {k: np.asarray(f, np.float64).reshape(n, -1) for k, f in features.items()}
    if fused is None:
        w = present * (np.full(m, 1 / m) if weights is None else np.asarray(weights))
        w = w / np.maximum(w.sum(axis=1, keepdims=True), 1e-12)
        fused = np.einsum("nm,mnd->nd", w, list(features.values()))
    zeros = np.zeros((n, 2))
    return PoolOutputs(
        ids=np.arange(n).astype(str),
        features=features,
        logits=dict.fromkeys(features, zeros),
        fused_features=fused,
        fused_logits=zeros,
        present=present,
    )


def joined(pool):
    parts = [f * pool.present[:, k, None] for k, f in enumerate(pool.features.values())]
    return replace(pool, fused_features=np.concatenate(parts, axis=1))


def context(**more):
    return QueryContext(rng=np.random.default_rng(0), **more)


@pytest.fixture
def line():
    """Four samples on two lines; the last lacks b, and by a the second is nearest."""
    present = np.ones((4, 2), bool)
    present[3, 1] = False
    return pool_of({"a": [0.0, 5.0, 9.0, 6.0], "b": [1.0, 2.0, 3.0, 777.0]}, present)


class TestWhatIsTaken:
    def test_the_nearest_sample_s(self, line):
        made, _ = completed(line, context())
        np.testing.assert_allclose(made.fused_features[:, 0], [0.5, 3.5, 6.0, (6 + 2) / 2])
        np.testing.assert_array_equal(made.fused_features[:3], line.fused_features[:3])
        assert made.present is line.present
        assert made.features is line.features
        assert made.fused_logits is line.fused_logits

    def test_under_a_concatenation(self, line):
        made, _ = completed(joined(line), context())
        np.testing.assert_array_equal(made.fused_features[3], [6, 2])

    def test_by_the_fusion_weights(self, line):
        weighted = pool_of(line.features, line.present, weights=[0.25, 0.75])
        made, _ = completed(weighted, context(fusion_weights=np.array([0.25, 0.75])))
        assert made.fused_features[3, 0] == pytest.approx(0.25 * 6 + 0.75 * 2)

    def test_a_labeled_sample_s_and_labeled_samples_too(self, line):
        labeled = pool_of({"a": [6.1, 0.2], "b": [50.0, 777.0]}, np.array([[1, 1], [1, 0]], bool))
        given = context(
            labeled_features=labeled.fused_features,
            labeled_modalities=labeled.features,
            labeled_present=labeled.present,
        )
        made, after = completed(line, given)
        assert made.fused_features[3, 0] == pytest.approx((6 + 50) / 2)
        np.testing.assert_allclose(after.labeled_features[:, 0], [(6.1 + 50) / 2, (0.2 + 1) / 2])

    def test_of_equally_near_ones_the_first(self):
        present = np.array([[1, 0], [1, 1], [1, 1]], bool)
        made, _ = completed(
            pool_of({"a": [1.0, 1.0, 1.0], "b": [9.0, 4.0, 6.0]}, present), context()
        )
        assert made.fused_features[0, 0] == pytest.approx((1 + 4) / 2)

    def test_the_mean_where_no_sample_has_both(self):
        present = np.array([[1, 0], [1, 0], [0, 1], [0, 1]], bool)
        made, _ = completed(pool_of({"a": [1, 3, 0, 0], "b": [0, 0, 10, 30]}, present), context())
        np.testing.assert_allclose(made.fused_features[:, 0], [10.5, 11.5, 6, 16])

    def test_three_modalities(self):
        present = np.ones((4, 3), bool)
        present[0] = [1, 0, 0]
        present[1] = [1, 1, 0]
        features = {"a": [0, 0.1, 1, 5], "b": [7, 3, 4, 5], "c": [7, 7, 20, 30]}
        made, _ = completed(pool_of(features, present), context())
        # b of sample 1, which has it; c of sample 2, the nearest that has it
        np.testing.assert_allclose(
            made.fused_features[:2, 0], [(0 + 3 + 20) / 3, (0.1 + 3 + 20) / 3]
        )

    def test_a_modality_that_nobody_has_makes_no_distance(self):
        present = np.array([[1, 0], [1, 0], [1, 0]], bool)
        made, _ = completed(pool_of({"a": [1, 3, 7], "b": [5, 6, 7]}, present), context())
        np.testing.assert_allclose(np.diff(made.fused_features[:, 0]), [1, 2])


class TestWhatIsLeft:
    def test_complete_samples(self, line):
        whole = replace(line, present=np.ones((4, 2), bool))
        given = context(labeled_features=line.fused_features, labeled_modalities=line.features)
        assert completed(whole, given) == (whole, given)
        assert completed(replace(line, present=None), given)[0].present is None

    @pytest.mark.parametrize("width", [1, 5])
    def test_fused_features_of_the_caller_s_own(self, line, width):
        own = np.random.default_rng(0).normal(size=(4, width))
        pool = replace(line, fused_features=own)
        assert completed(pool, context())[0] is pool

    def test_inputs(self, line):
        before = line.fused_features.copy(), line.features["b"].copy()
        completed(line, context())
        np.testing.assert_array_equal(line.fused_features, before[0])
        np.testing.assert_array_equal(line.features["b"], before[1])

    def test_a_row_of_nan_which_the_strategy_names(self):
        pool = make_incomplete_pool()
        bad = int(np.flatnonzero(pool.present.all(axis=1))[5])
        pool.features["m0"][bad] = pool.fused_features[bad] = np.nan
        with pytest.raises(NonFiniteError, match=str(pool.ids[bad])):
            create("coreset").query(pool, context(), 5)

    def test_labeled_modalities_of_another_width(self, line):
        given = context(
            labeled_features=line.fused_features, labeled_modalities={"a": np.ones((4, 1))}
        )
        with pytest.raises(ShapeError, match="labeled_modalities"):
            completed(line, given)


@pytest.mark.parametrize("join", [False, True])
def test_the_same_in_any_order_memory_and_block(join, monkeypatch):
    every = make_incomplete_pool(n=320, absent=90)
    every = joined(every) if join else every
    pool, labeled = every.take(np.arange(300)), every.take(np.arange(300, 320))
    given = context(
        labeled_features=labeled.fused_features,
        labeled_modalities=labeled.features,
        labeled_present=labeled.present,
    )
    expected, known = completed(pool, given)
    order = np.random.default_rng(3).permutation(len(pool))
    permuted, _ = completed(pool.take(order), given)
    np.testing.assert_array_equal(permuted.fused_features, expected.fused_features[order])
    tensors, after = completed(pool.on("cuda" if torch.cuda.is_available() else "cpu"), given)
    assert isinstance(tensors.fused_features, torch.Tensor)
    np.testing.assert_allclose(tensors.host().fused_features, expected.fused_features, rtol=1e-6)
    assert isinstance(after.labeled_features, np.ndarray)
    np.testing.assert_allclose(after.labeled_features, known.labeled_features, rtol=1e-6)
    monkeypatch.setattr("rlmba.strategies.absent.BLOCK_ROWS", 7)
    blocks, _ = completed(pool, given)
    np.testing.assert_array_equal(blocks.fused_features, expected.fused_features)


@pytest.mark.parametrize("join", [False, True])
def test_incomplete_samples_are_picked_as_often_as_others(join):
    """30 % lack one: without completion 86 of the 100 farthest do, 11 in a concatenation."""
    pool = make_incomplete_pool(absent=210)
    pool = joined(pool) if join else pool
    picked = create("coreset").query(pool, context(), 100).positions
    assert 20 <= (~pool.present[picked].all(axis=1)).sum() <= 40


class TestSelect:
    """The first rows are labeled, some of them incomplete: as positions, and as features."""

    @pytest.fixture
    def pool(self):
        return make_incomplete_pool(n=200, absent=40)

    def test_is_the_query(self, pool):
        done = np.arange(12)
        labeled, rest = pool.take(done), pool.take(np.arange(12, 200))
        given = context(
            labeled_features=labeled.fused_features,
            labeled_modalities=labeled.features,
            labeled_present=labeled.present,
        )
        expected = create("coreset").query(rest, given, 20).positions + 12
        got = rlmba.select(
            "coreset", n=20, features=pool.features, present=pool.present, labeled=done
        )
        np.testing.assert_array_equal(got.positions, expected)

    def test_labeled_features_by_modality(self, pool):
        labeled = {m: f[:12] for m, f in pool.features.items()}
        given = context(
            labeled_features=sum(labeled.values()) / 2, labeled_modalities=dict(labeled)
        )
        expected = create("coreset").query(pool, given, 20).positions
        got = rlmba.select(
            "coreset", n=20, features=pool.features, present=pool.present, labeled=labeled
        )
        np.testing.assert_array_equal(got.positions, expected)
